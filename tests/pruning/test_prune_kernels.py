"""The pure kernels: N:M masks against enumeration, calibration statistics against a direct computation."""

import itertools

import pytest
import torch
from tiny_models import FAMILIES, make, tokens

from regrow.data import Blocks
from regrow.errors import InputError, RunFailed
from regrow.models import architecture_of
from regrow.pruning.calibration import calibrate, choose_blocks
from regrow.pruning.depth import drop_config_blocks, least_important
from regrow.pruning.scores import Scores
from regrow.pruning.semistructured import keep_largest, magnitude_score, n_m_mask, wanda_score
from regrow.pruning.width import expand_heads, most_important


def test_groups_are_compared_or_sorted_to_the_same_end(monkeypatch):
    # few values, so that many are equal: of these the first stay
    places = torch.randint(0, 3, (8, 5, 7), generator=torch.Generator().manual_seed(0)).float()
    compared = [keep_largest(places, n) for n in range(1, 9)]
    monkeypatch.setattr("regrow.pruning.semistructured.MOST_COMPARED", 4)
    for n, mask in enumerate(compared, 1):
        assert torch.equal(keep_largest(places, n), mask)
        assert (mask.sum(0) == n).all()


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (4, 8), (1, 2), (20, 24)])
def test_the_mask_keeps_the_best_of_all_masks(n, m):
    score = torch.rand(6, 3 * m, generator=torch.Generator().manual_seed(0))
    mask = n_m_mask(score, n, m)
    assert (mask.unflatten(-1, (-1, m)).sum(-1) == n).all()
    for group, kept in zip(score.reshape(-1, m).tolist(), mask.reshape(-1, m).tolist(), strict=True):
        best = max(itertools.combinations(range(m), n), key=lambda chosen: sum(group[i] for i in chosen))
        assert tuple(i for i, keep in enumerate(kept) if keep) == best


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_ties_still_keep_exactly_n(value):
    mask = n_m_mask(torch.full((3, 8), value), 2, 4)
    assert mask.tolist() == [[True, True, False, False] * 2] * 3


def test_wanda_is_magnitude_when_all_inputs_are_alike():
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    wanda = n_m_mask(wanda_score(weight, torch.ones(16)), 2, 4)
    assert torch.equal(wanda, n_m_mask(magnitude_score(weight), 2, 4))


def test_wanda_prefers_loud_inputs():
    norms = torch.tensor([1.0, 100.0, 1.0, 100.0])
    weight = torch.tensor([[1.0, 0.1, 1.0, 0.1]])
    assert n_m_mask(wanda_score(weight, norms), 2, 4).tolist() == [[False, True, False, True]]


def test_selection_is_ascending_and_breaks_ties_by_place():
    assert most_important(torch.tensor([1.0, 3, 3, 2, 3]), 2) == (1, 2)
    assert least_important(torch.tensor([2.0, 1, 3, 1, 1]), 2) == (1, 3)
    assert expand_heads([0, 2], 3).tolist() == [0, 1, 2, 6, 7, 8]


def test_config_fields_that_count_blocks():
    config = {"model_type": "qwen2", "num_hidden_layers": 4, "layer_types": list("abcd"), "max_window_layers": 3}
    assert drop_config_blocks({**config, "vocab_size": 9}, [1, 3]) == {
        "model_type": "qwen2",
        "num_hidden_layers": 2,
        "layer_types": ["a", "c"],
        "max_window_layers": 2,
        "vocab_size": 9,
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_match_a_direct_computation(family):
    model, ids = make(family), tokens(3, 12)
    arch = architecture_of(model)
    scores = calibrate(model, ids)
    seen: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
    for layer in range(arch.layers):
        for linear in ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"):
            direct = seen[f"model.layers.{layer}.{linear}"].flatten(0, 1).norm(dim=0)
            torch.testing.assert_close(scores.input_norms(layer, linear), direct)
        # the last of transformers' hidden states is after the final norm, so only the inner ones compare
        if layer < arch.layers - 1:
            cosine = torch.nn.functional.cosine_similarity(states[layer], states[layer + 1], dim=-1).mean()
            torch.testing.assert_close(scores.block_influence[layer], 1 - cosine, rtol=1e-4, atol=1e-5)
    heads = seen["model.layers.0.self_attn.o_proj"].unflatten(-1, (arch.heads, arch.head_dim))
    groups = heads.unflatten(2, (arch.kv_heads, -1)).flatten(3).square().sum((0, 1, 3)).sqrt()
    torch.testing.assert_close(scores.kv_groups(arch)[0], groups)
    torch.testing.assert_close(scores.final_norm, seen["lm_head"].flatten(0, 1).norm(dim=0))
    # Minitron's channel importance: the outputs of all layer norms together
    norms = [
        seen[f"model.layers.{n}.{linear}"] for n in range(arch.layers) for linear in ("self_attn.q_proj", "mlp.up_proj")
    ]
    channels = sum(states.flatten(0, 1).norm(dim=0) for states in (*norms, seen["lm_head"]))
    torch.testing.assert_close(scores.hidden(), channels)


def test_batches_do_not_change_the_statistics(monkeypatch):
    model, ids = make("qwen3"), tokens(5, 12)
    whole = calibrate(model, ids)
    monkeypatch.setattr("regrow.pruning.stream.BATCH_TOKENS", 24)
    lines: list[str] = []
    parts = calibrate(model, ids, progress=lines.append)
    assert lines[-1] == "calibration: 4 of 4 blocks"
    torch.testing.assert_close(parts.mlp_activation, whole.mlp_activation)
    torch.testing.assert_close(parts.block_influence, whole.block_influence)


def test_calibration_leaves_the_model_alone():
    model = make("llama-tied").train()
    calibrate(model, tokens())
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_scores_round_trip(tmp_path):
    scores = calibrate(make("llama-tied"), tokens())
    scores.save(tmp_path / "new" / "scores.safetensors")
    again = Scores.load(tmp_path / "new" / "scores.safetensors")
    assert (again.tokens, again.fingerprint) == (scores.tokens, scores.fingerprint)
    assert torch.equal(again.mlp_activation, scores.mlp_activation)


def test_bad_scores_files(tmp_path):
    (tmp_path / "broken").write_bytes(b"not safetensors")
    for path in (tmp_path / "broken", tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match="not a scores file"):
            Scores.load(path)
    with pytest.raises(InputError, match="cannot write"):
        calibrate(make("llama-tied"), tokens()).save(tmp_path / "broken" / "scores.safetensors")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.full((2, 8), 64), "outside the model's vocabulary of 64"),
        (torch.full((2, 8), -1), "token -1"),
        (torch.zeros(0, 8, dtype=torch.long), "shape"),
        (torch.zeros(8, dtype=torch.long), "shape"),
        (torch.zeros(2, 8), "float32"),
    ],
)
def test_bad_calibration_tokens(bad, message):
    with pytest.raises(InputError, match=message):
        calibrate(make("llama-tied"), bad)


def test_broken_weights_are_noticed():
    model = make("llama-tied")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(RunFailed, match="not finite"):
        calibrate(model, tokens())


def test_blocks_are_chosen_by_seed_and_capped():
    blocks = Blocks(tokens=torch.arange(40 * 8).view(40, 8).int().numpy(), documents=1, fingerprint="x")
    chosen = choose_blocks(blocks, count=5, length=6, seed=1)
    assert chosen.shape == (5, 6)
    assert chosen.dtype == torch.int64
    assert torch.equal(chosen, choose_blocks(blocks, count=5, length=6, seed=1))
    assert not torch.equal(chosen, choose_blocks(blocks, count=5, length=6, seed=2))
    assert choose_blocks(blocks, count=99, length=99, seed=0).shape == (40, 8)
