"""Pruned models are the models they should be: against references, on every family."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny_models import FAMILIES, logits, make, tokens

from regrow.errors import InputError
from regrow.models import architecture_of, count_nonzero, count_params, load_model, save_checkpoint
from regrow.models.layout import is_tied
from regrow.pruning import PruneSpec, calibrate, prune_model
from regrow.pruning.outline import outline
from regrow.pruning.prune import apply_plan
from regrow.pruning.scoring import decide

SPECS = {
    "depth": PruneSpec(method="depth", rate=0.22),
    "width": PruneSpec(method="width", rate=0.3),
    "width-kv": PruneSpec(method="width", rate=0.35, axes=("hidden", "intermediate", "kv_heads")),
    "2:4": PruneSpec(method="2:4"),
    "1:4-magnitude": PruneSpec(method="1:4", scorer="magnitude"),
}


def narrow(model, **shape):
    """The model pruned to the given widths, and the plan of it."""
    plan = outline(architecture_of(model), PruneSpec(method="width", rate=0.2))
    plan = decide(replace(plan, after=plan.before.with_shape(**shape)), calibrate(model, tokens()))
    return apply_plan(model, plan), plan


def generate(model, ids, *, cache):
    return model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, use_cache=cache, eos_token_id=None
    )


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("family", FAMILIES)
def test_pruned_models_count_reload_and_generate(family, spec, tmp_path):
    model = make(family)
    before = copy.deepcopy(model.state_dict())
    pruned, plan = prune_model(model, spec, tokens())

    assert architecture_of(pruned) == plan.after
    counted = count_nonzero(pruned) if plan.pattern else count_params(pruned)
    assert (count_params(model), counted) == (plan.params_before, plan.params_after)
    if plan.target_rate:
        assert abs(plan.pruning_rate - plan.target_rate) < (0.12 if spec.method == "depth" else 0.005)
    assert is_tied(pruned) == is_tied(model)
    assert [block.self_attn.layer_idx for block in pruned.model.layers] == list(range(plan.after.layers))

    save_checkpoint(model, None, tmp_path / "before")
    out = save_checkpoint(pruned, None, tmp_path / "after")
    size = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path / "before", out)]
    assert size[1] <= size[0]
    again = load_model(out)
    # longer than the sliding windows of 8
    ids = tokens(2, 20, seed=1)
    assert torch.equal(logits(again, ids), logits(pruned, ids))
    assert torch.equal(generate(again, ids, cache=True), generate(again, ids, cache=False))

    # the original is as it was, and shares no memory with the result
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.fill_(7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_equals_skipping_the_blocks(family):
    model = make(family)
    pruned, plan = prune_model(model, PruneSpec(method="depth", rate=0.4), tokens())
    assert len(plan.dropped_layers) == plan.before.layers - plan.after.layers >= 1
    for layer in plan.dropped_layers:
        # a block with zero output matrices adds nothing to the residual stream
        with torch.no_grad():
            for matrix in (model.model.layers[layer].self_attn.o_proj, model.model.layers[layer].mlp.down_proj):
                for parameter in matrix.parameters():
                    parameter.zero_()
    ids = tokens(2, 20, seed=1)
    torch.testing.assert_close(logits(pruned, ids), logits(model, ids))


def test_depth_keeps_qwens_windows_with_their_blocks():
    model = make("qwen2")
    for dropped, kinds, window in (
        ((0,), ["full_attention", "sliding_attention", "sliding_attention"], 1),
        ((1, 3), ["full_attention", "sliding_attention"], 1),
        ((2, 3), ["full_attention", "full_attention"], 2),
    ):
        plan = outline(architecture_of(model), PruneSpec(method="depth", rate=0.2))
        after = plan.before.with_shape(layers=4 - len(dropped))
        pruned = apply_plan(model, replace(plan, after=after, dropped_layers=dropped))
        assert pruned.config.layer_types == kinds
        assert pruned.config.max_window_layers == window
        assert [block.self_attn.layer_type for block in pruned.model.layers] == kinds


@pytest.mark.parametrize("family", FAMILIES)
def test_slicing_neurons_equals_zeroing_them(family):
    model = make(family)
    pruned, plan = narrow(model, intermediate=30)
    assert plan.kept_hidden is None
    assert plan.kept_kv_heads is None
    with torch.no_grad():
        for block, kept in zip(model.model.layers, plan.kept_intermediate, strict=True):
            gone = [index for index in range(plan.before.intermediate) if index not in kept]
            block.mlp.down_proj.weight[:, gone] = 0
    ids = tokens(2, 20, seed=1)
    torch.testing.assert_close(logits(pruned, ids), logits(model, ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_dropping_kv_groups_equals_zeroing_their_output_columns(family):
    model = make(family)
    arch = architecture_of(model)
    group = arch.heads // arch.kv_heads
    pruned, plan = narrow(model, kv_heads=arch.kv_heads // 2, heads=arch.heads // 2)
    assert architecture_of(pruned) == plan.after
    with torch.no_grad():
        for block, kept in zip(model.model.layers, plan.kept_kv_heads, strict=True):
            columns = block.self_attn.o_proj.weight.unflatten(1, (arch.kv_heads, group * arch.head_dim))
            columns[:, [head for head in range(arch.kv_heads) if head not in kept]] = 0
    ids = tokens(2, 20, seed=1)
    torch.testing.assert_close(logits(pruned, ids), logits(model, ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_slicing_channels_equals_zeroing_them(family):
    """With everything that writes or reads the dropped channels zeroed, only the norms' mean differs: by the share."""
    model = make(family)
    pruned, plan = narrow(model, hidden=architecture_of(model).hidden * 3 // 4)
    assert list(plan.kept_hidden) == sorted(plan.kept_hidden)
    gone = [index for index in range(plan.before.hidden) if index not in plan.kept_hidden]
    share = plan.after.hidden / plan.before.hidden
    with torch.no_grad():
        model.model.embed_tokens.weight[:, gone] = 0
        for block in model.model.layers:
            for matrix in (block.self_attn.o_proj, block.mlp.down_proj):
                matrix.weight[gone] = 0
                if matrix.bias is not None:
                    matrix.bias[gone] = 0
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and module.weight.shape == (plan.before.hidden,):
            # a mean over all channels is the mean over the kept ones times their share
            module.weight.data *= share**0.5
            module.variance_epsilon *= share
    ids = tokens(2, 20, seed=1)
    torch.testing.assert_close(logits(pruned, ids), logits(model, ids), rtol=1e-4, atol=1e-4)


def test_head_dim_is_written_out():
    pruned, plan = prune_model(make("qwen2"), PruneSpec(method="width", rate=0.3), tokens())
    assert plan.after.hidden != 56
    assert pruned.config.to_dict()["head_dim"] == 4


def test_one_kv_group_of_two_goes_at_rate_035():
    pruned, plan = prune_model(
        make("qwen2"), PruneSpec(method="width", rate=0.35, axes=("hidden", "intermediate", "kv_heads")), tokens()
    )
    assert plan.after.heads % plan.after.kv_heads == 0
    assert logits(pruned, tokens()).isfinite().all()


def test_bfloat16_stays_bfloat16(tmp_path):
    model = make("llama-tied", dtype=torch.bfloat16)
    for spec in SPECS.values():
        pruned, _ = prune_model(model, spec, tokens())
        assert {parameter.dtype for parameter in pruned.parameters()} == {torch.bfloat16}


def test_scores_serve_many_specs_and_refuse_another_model():
    model = make("llama-tied")
    scores = calibrate(model, tokens())
    # what N:M by scores gives is another thing: see `test_wanda_by_stored_scores_looks_at_dense_inputs`
    for spec in (spec for spec in SPECS.values() if spec.pattern is None):
        with_scores, plan = prune_model(model, spec, None, scores=scores)
        # with text, width would look for a shape
        with_tokens, again = prune_model(model, replace(spec, search=1), tokens())
        assert plan == again
        assert torch.equal(logits(with_scores, tokens()), logits(with_tokens, tokens()))
    with pytest.raises(InputError, match="sparsegpt goes by text, not by scores; --scorer wanda"):
        prune_model(model, SPECS["2:4"], None, scores=scores)
    with pytest.raises(InputError, match="another model"):
        prune_model(make("llama-tied", seed=1), SPECS["depth"], None, scores=scores)


def test_random_is_a_seeded_baseline():
    model = make("llama-tied")
    plans = {
        seed: prune_model(model, PruneSpec(method="width", rate=0.3, scorer="random", seed=seed), None)[1]
        for seed in (0, 1)
    }
    assert plans[0] != plans[1]
    assert plans[0] == prune_model(model, PruneSpec(method="width", rate=0.3, scorer="random", seed=0), None)[1]


def test_no_calibration_is_one_line():
    with pytest.raises(InputError, match="'sparsegpt' needs calibration text"):
        prune_model(make("llama-tied"), PruneSpec(method="2:4"), None)


def test_a_matrix_that_does_not_divide_is_named():
    with pytest.raises(InputError, match=r"56 of self_attn\.q_proj does not divide into groups of 5"):
        prune_model(make("qwen2"), PruneSpec(method="2:5", scorer="magnitude"), None)
