"""N:M block by block: each is pruned on what the pruned blocks before it give."""

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import FAMILIES, logits, make, tokens

from regrow.errors import InputError, RunFailed
from regrow.families import FAMILIES as DESCRIBED
from regrow.families import linear_inputs, linears
from regrow.models import check_pattern, save_checkpoint
from regrow.models.layout import block_weights
from regrow.pruning import calibrate
from regrow.pruning import stream as stream_module
from regrow.pruning.kernel import Notes, kernel_of
from regrow.pruning.semistructured import SquaredNorms, n_m_mask, wanda_score
from regrow.pruning.sparsegpt import Hessian, factor, sparsegpt
from regrow.pruning.sparsify import measure_inputs, sparsify, walk_parts
from regrow.pruning.stream import open_stream

#: The linear layers of a block, and those that read the same input; every family of `tiny_models` has the same.
LINEARS, GROUPS = linear_inputs(DESCRIBED["llama"]), linears(DESCRIBED["llama"])


def sparse(model, scorer, ids=None, n=2, m=4, **options):
    """The model's weights after pruning, by name."""
    weights = {}
    for block in sparsify(open_stream(model), ids, kernel=kernel_of("2:4", scorer), n=n, m=m, **options):
        weights.update(block)
    return weights


def inputs_of(model, ids, name):
    """What one linear layer of a model reads, [tokens, in]."""
    seen = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    logits(model, ids)
    handle.remove()
    return seen[0].flatten(0, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_are_those_of_the_forward_pass(family):
    model, ids = make(family), tokens(5, 20)
    stream = open_stream(model)
    hidden = stream.embed(ids)
    for layer, block in stream.blocks():
        measured = measure_inputs(stream, block, hidden, SquaredNorms)
        assert not any(module._forward_pre_hooks for module in block.modules())
        hidden = stream.run(block, hidden)
        for group in GROUPS:
            for linear in group:
                direct = inputs_of(model, ids, f"model.layers.{layer}.{linear}").square().sum(0).double()
                torch.testing.assert_close(measured[group].sums, direct, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scorer", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_matrix_holds_the_pattern_from_memory_and_from_disk(family, scorer, tmp_path):
    model, ids = make(family), tokens(6, 20)
    weights = sparse(model, scorer, None if scorer == "magnitude" else ids)
    assert set(weights) == set(block_weights(model))
    for name, weight in weights.items():
        assert ((weight != 0).unflatten(1, (-1, 4)).sum(-1) == 2).all(), name
        assert not torch.signbit(weight[weight == 0]).any()
        if scorer != "sparsegpt":
            kept = weight != 0
            assert torch.equal(weight[kept], model.get_parameter(name)[kept])
    folder = save_checkpoint(model, None, tmp_path / "model")
    from_disk = sparse(folder, scorer, ids)
    assert all(torch.equal(from_disk[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize("family", ["llama-untied-biased", "qwen2", "qwen3"])
def test_wandas_inputs_come_from_the_pruned_blocks_before(family):
    """Each layer's mask follows from its inputs in the model whose earlier blocks, and no others, are pruned."""
    model, ids = make(family), tokens(6, 20)
    weights = sparse(model, "wanda", ids)
    differs = 0
    dense = calibrate(model, ids)
    for layer in range(4):
        for group in GROUPS:
            for linear in group:
                name = f"model.layers.{layer}.{linear}"
                weight = model.get_parameter(f"{name}.weight")
                norms = inputs_of(model, ids, name).norm(dim=0)
                mask = n_m_mask(wanda_score(weight, norms), 2, 4)
                assert torch.equal(weights[f"{name}.weight"] != 0, mask), name
                differs += int((mask != n_m_mask(wanda_score(weight, dense.input_norms(layer, linear)), 2, 4)).sum())
        for linear in LINEARS:
            name = f"model.layers.{layer}.{linear}.weight"
            model.get_parameter(name).data.copy_(weights[name])
    assert differs > 0, "dense inputs would have given the same masks: the test shows nothing"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [4096, 7])
def test_a_walk_by_parts_is_the_block(family, batch, monkeypatch):
    monkeypatch.setattr(stream_module, "BATCH_TOKENS", batch)
    model, ids = make(family), tokens(5, 20)
    stream = open_stream(model)
    hidden = stream.embed(ids)
    for layer, block in stream.blocks():
        expected = stream.run(block, hidden)
        for group, inputs in walk_parts(stream, block, hidden):
            direct = inputs_of(model, ids, f"model.layers.{layer}.{group[0]}")
            torch.testing.assert_close(inputs.flatten(0, 1), direct, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)
        # the block is whole again
        torch.testing.assert_close(
            stream.run(block, stream.embed(ids)), stream.run(stream.block(layer), stream.embed(ids))
        )


@pytest.mark.parametrize("family", ["llama-untied-biased", "qwen2", "qwen3"])
def test_sparsegpts_inputs_come_from_all_pruned_layers_before(family):
    """Each layer's weights follow from its inputs in the model whose earlier blocks, and parts of this, are pruned."""
    model, ids = make(family), tokens(8, 20)
    weights = sparse(model, "sparsegpt", ids)
    for layer in range(4):
        for group in GROUPS:
            names = [f"model.layers.{layer}.{linear}" for linear in group]
            inputs = inputs_of(model, ids, names[0])
            hessian = Hessian(inputs.shape[1], inputs.device)
            hessian.add(inputs)
            factored = factor(hessian.matrix(), 4)
            for name in names:
                weight = model.get_parameter(f"{name}.weight")
                direct = sparsegpt(weight, factored, 2, 4)
                torch.testing.assert_close(weights[f"{name}.weight"], direct, rtol=2e-2, atol=1e-3)
                weight.data.copy_(weights[f"{name}.weight"])


def test_wanda_by_stored_scores_looks_at_dense_inputs():
    model, ids = make("llama-tied"), tokens()
    scores, notes = calibrate(model, ids), Notes()
    weights = sparse(model, "wanda", scores=scores, notes=notes)
    assert notes.inputs == "dense"
    for name, weight in block_weights(model).items():
        layer, linear = int(name.split(".")[2]), ".".join(name.split(".")[3:5])
        mask = n_m_mask(wanda_score(weight, scores.input_norms(layer, linear)), 2, 4)
        assert torch.equal(weights[name], weight.detach() * mask)


def test_weights_keep_their_stored_type_and_the_next_layers_see_it(tmp_path):
    folder = save_checkpoint(make("llama-tied", dtype=torch.bfloat16), None, tmp_path / "model")
    weights = sparse(folder, "sparsegpt", tokens(6, 20))
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert all(check_pattern(weight, 2, 4) for weight in weights.values())
    assert load_file(folder / "model.safetensors")["model.layers.0.mlp.up_proj.weight"].count_nonzero() == 48 * 32


@pytest.mark.parametrize(("n", "m"), [(1, 4), (3, 4), (4, 8), (1, 2), (2, 8)])
@pytest.mark.parametrize("scorer", ["magnitude", "wanda", "sparsegpt"])
def test_n_is_kept_of_m(scorer, n, m):
    weights = sparse(make("llama-tied"), scorer, tokens(), n, m)
    for weight in weights.values():
        assert ((weight != 0).unflatten(1, (-1, m)).sum(-1) == n).all()


def test_sparsegpt_harms_less_than_wanda_and_wanda_less_than_magnitude():
    """On random weights, by the error of the model's own final states on its calibration text."""
    model, ids = make("llama-tied"), tokens(40, 32)
    expected, errors = logits(model, ids), {}
    for scorer in ("magnitude", "wanda", "sparsegpt"):
        weights = sparse(model, scorer, ids)
        pruned = make("llama-tied")
        for name, weight in weights.items():
            pruned.get_parameter(name).data.copy_(weight)
        errors[scorer] = (logits(pruned, ids) - expected).square().mean().item()
    assert errors["sparsegpt"] < errors["wanda"] < errors["magnitude"]


def test_a_raised_damping_is_noted_and_said(monkeypatch):
    real, calls = torch.linalg.cholesky_ex, []

    def fails_once(matrix):
        calls.append(matrix)
        lower, info = real(matrix)
        return lower, info + (len(calls) == 1)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", fails_once)
    notes, lines = Notes(), []
    sparse(make("llama-tied"), "sparsegpt", tokens(), notes=notes, progress=lines.append)
    where = "model.layers.0.self_attn.q_proj and self_attn.k_proj and self_attn.v_proj"
    assert notes.damping == {where: pytest.approx(0.1)}
    assert lines[0] == f"{where}: the Hessian took a damping of 0.1, not 0.01"
    assert lines[-1] == "sparsegpt 2:4: 4 of 4 blocks"


def test_few_tokens_make_singular_hessians_that_the_default_damping_mends():
    """One sample of 3 tokens: every Hessian has rank 3 at most."""
    notes = Notes()
    weights = sparse(make("llama-tied"), "sparsegpt", tokens(1, 3), notes=notes)
    assert all(weight.isfinite().all() for weight in weights.values())
    assert all(check_pattern(weight, 2, 4) for weight in weights.values())


@pytest.mark.parametrize("scorer", ["magnitude", "wanda", "sparsegpt"])
def test_broken_weights_are_named(scorer):
    model = make("llama-tied")
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(RunFailed, match="not finite") as error:
        sparse(model, scorer, tokens())
    assert "mlp.up_proj" in str(error.value)
    assert "model.layers.1" in str(error.value)


@pytest.mark.parametrize("scorer", ["wanda", "sparsegpt"])
def test_no_tokens(scorer):
    with pytest.raises(InputError, match=f"'{scorer}' needs calibration text"):
        sparse(make("llama-tied"), scorer)
