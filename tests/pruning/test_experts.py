"""Experts of a mixture: what goes, by which measure, and that the rest of the model is as it was."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_families import make_tiny
from tiny_models import logits, tokens
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from regrow.arch import Architecture
from regrow.data import Blocks
from regrow.errors import InputError
from regrow.models import architecture_of, count_params, load_model, save_checkpoint
from regrow.models.beside import PRUNE_RECORD
from regrow.models.experts import as_built, as_stored
from regrow.pruning import PruneSpec, prune_model
from regrow.pruning.card import CARD
from regrow.pruning.estimate import estimate_for
from regrow.pruning.experts import routed_norms
from regrow.pruning.joint_spec import JointSpec, mixes_of
from regrow.pruning.outline import outline
from regrow.pruning.plan import read_plan, spec_of
from regrow.pruning.prune import prune
from regrow.pruning.scores import load_scores
from regrow.pruning.stream import open_stream
from regrow.shapes import experts_for_rate, prune_shape
from regrow.units import format_count

IDS = tokens(3, 20, seed=1)
TEXT = Blocks(tokens=tokens(6, 20).int().numpy(), documents=3, fingerprint="f00d")

#: Qwen3-30B-A3B, https://huggingface.co/Qwen/Qwen3-30B-A3B/blob/main/config.json
BIG = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def model():
    return make_tiny("qwen3_moe")


def without_experts(model, kept):
    """The original, whose routers never choose the experts that are not kept."""
    model = copy.deepcopy(model)
    for block, stay in zip(model.model.layers, kept, strict=True):
        gate, gone = block.mlp.gate, [e for e in range(block.mlp.gate.num_experts) if e not in stay]

        def forward(states, gate=gate, gone=gone):
            found = F.linear(states.reshape(-1, gate.hidden_dim), gate.weight)
            found[:, gone] = -torch.inf
            weights, chosen = found.softmax(-1, dtype=torch.float).topk(gate.top_k, dim=-1)
            weights = weights / weights.sum(-1, keepdim=True) if gate.norm_topk_prob else weights
            return found, weights, chosen

        gate.forward = forward
    return model


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("scorer", ["routed-norm", "frequency", "random"])
def test_pruned_experts_are_those_that_no_token_is_routed_to(scorer, normalised, tmp_path):
    model = make_tiny("qwen3_moe", norm_topk_prob=normalised)
    folder = save_checkpoint(model, None, tmp_path / "model")
    spec = PruneSpec(method="experts", scorer=scorer, shape={"experts": 4})
    plan = prune(folder, spec, calibration=TEXT, out=tmp_path / "out")
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "out", use_safetensors=True).eval()
    assert architecture_of(pruned) == plan.after
    assert (count_params(pruned), pruned.config.num_experts) == (plan.params_after, 4)
    torch.testing.assert_close(logits(pruned, IDS), logits(without_experts(model, plan.kept_experts), IDS))
    # the router's rows and the experts go together
    stored, before = load_file(tmp_path / "out" / "model.safetensors"), as_stored(model.named_parameters())
    for layer, kept in enumerate(plan.kept_experts):
        place = f"model.layers.{layer}.mlp."
        assert torch.equal(stored[f"{place}gate.weight"], before[f"{place}gate.weight"][list(kept)])
        for new, old in enumerate(kept):
            for name in ("gate_proj", "up_proj", "down_proj"):
                assert torch.equal(
                    stored[f"{place}experts.{new}.{name}.weight"], before[f"{place}experts.{old}.{name}.weight"]
                )
    # both transformers 4 and 5 find the number under the name that they know
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (content["num_experts"], content["num_local_experts"]) == (4, 4)


def test_importance_is_the_mean_of_weight_times_norm_over_the_tokens_routed(model):
    norms, counts = routed_norms(open_stream(model), IDS)
    seen = []
    block = model.model.layers[0]
    handle = block.mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(0, 1)))
    logits(model, IDS)
    handle.remove()
    (states,) = seen
    _, weights, chosen = block.mlp.gate(states)
    stored = as_stored(model.named_parameters())
    for expert in range(6):
        place = f"model.layers.0.mlp.experts.{expert}."
        gate, up, down = (stored[f"{place}{name}_proj.weight"] for name in ("gate", "up", "down"))
        output = (F.silu(states @ gate.T) * (states @ up.T)) @ down.T
        share = (weights * (chosen == expert)).sum(-1)
        assert norms[0, expert].item() == pytest.approx((output.norm(dim=-1) * share).sum().item(), rel=1e-5)
        assert counts[0, expert] == (chosen == expert).sum()
    assert counts.sum() == 3 * 2 * IDS.numel()


def test_scores_and_plans_come_back_from_files(model, tmp_path):
    folder = save_checkpoint(model, None, tmp_path / "model")
    spec = PruneSpec(method="experts", rate=0.3)
    plan = prune(folder, spec, calibration=TEXT, out=tmp_path / "out", save_scores=tmp_path / "scores")
    scores = load_scores(tmp_path / "scores")
    assert prune(folder, spec, calibration=None, scores=scores, out=None) == plan
    assert read_plan(tmp_path / "out" / PRUNE_RECORD) == plan
    record = json.loads((tmp_path / "out" / PRUNE_RECORD).read_text())["plan"]
    assert record["active_params_before"] == plan.before.active_params > record["active_params_after"]
    assert plan.active_rate == record["active_rate"] < plan.pruning_rate
    card = (tmp_path / "out" / CARD).read_text()
    assert "whole experts of every decoder block were removed" in card
    assert "| experts | 6 |" in card
    assert "| parameters of a token |" in card
    with pytest.raises(InputError, match="the scores hold routed-norm, the scorer is frequency"):
        prune_model(model, PruneSpec(method="experts", rate=0.3, scorer="frequency"), None, scores=scores)


def test_counts_of_the_public_mixtures():
    """Totals of the owners' safetensors metadata; active parameters as their names say, 3B and 22B."""
    big = Architecture.from_config(BIG)
    assert (big.params, big.active_params) == (30_532_122_624, 3_353_032_704)
    huge = {"hidden_size": 4096, "moe_intermediate_size": 1536, "num_hidden_layers": 94, "num_attention_heads": 64}
    larger = Architecture.from_config({**BIG, **huge})
    assert (larger.params, round(larger.active_params / 1e9)) == (235_093_634_560, 22)
    # a token costs what its experts cost, and the router
    half = big.with_shape(experts=64)
    router = 48 * 2048 * 64
    assert big.forward_flops_per_token(0) - half.forward_flops_per_token(0) == 2 * router
    assert big.active_params - half.active_params == router


def test_rates_come_in_whole_experts(model):
    big = Architecture.from_config(BIG)
    half = prune_shape(big, "experts", 0.475)
    assert half.architecture.experts == 64
    assert half.params == big.params - 48 * 64 * (3 * 2048 * 768 + 2048)
    with pytest.raises(InputError, match=r"no shape of this model reaches rate 0\.99"):
        experts_for_rate(big, 0.99)
    plan = outline(big, PruneSpec(method="experts", params=20_000_000_000))
    assert abs(plan.params_after - 20e9) < 48 * big.expert_params
    assert plan.notes == ()  # an expert of each block is 0.74 points
    assert (
        outline(architecture_of(model), PruneSpec(method="experts", rate=0.3))
        .notes[0]
        .startswith("asked for rate 0.3000, nearest in whole experts of every block is 0.3")
    )


def test_the_parameters_of_a_token_are_a_target(model, tmp_path):
    before = architecture_of(model)
    asked = before.with_shape(layers=1).active_params + 3
    spec = PruneSpec(method="depth", active_params=asked)
    assert PruneSpec.from_dict(spec.to_dict()) == spec
    folder = save_checkpoint(model, None, tmp_path / "model")
    plan = prune(folder, spec, calibration=TEXT, out=tmp_path / "out")
    assert (plan.after.layers, plan.target_active_params, plan.notes) == (1, asked, ())
    pruned = load_model(tmp_path / "out")
    idle = sum(p.numel() for name, p in pruned.named_parameters() if ".mlp.experts." in name) * 4 // 6
    assert count_params(pruned) - idle == asked - 3
    record = json.loads((tmp_path / "out" / PRUNE_RECORD).read_text())
    assert record["plan"]["target_active_params"] == record["spec"]["active_params"] == asked
    card = (tmp_path / "out" / CARD).read_text()
    assert f", asked {format_count(asked)} |" in card
    assert f"--active-params {asked}" in card
    # the plan in the record does the same again
    again = read_plan(tmp_path / "out" / PRUNE_RECORD)
    assert again == plan
    assert outline(before, spec_of(again)).after == plan.after
    far = outline(before, PruneSpec(method="depth", active_params=asked + before.block_params // 5))
    assert far.notes[0].startswith("asked for ")
    assert far.notes[0].endswith(f"nearest in whole blocks is {format_count(asked - 3)}")
    # mixes of depth and width meet it, too
    mixes = mixes_of(Architecture.from_config(BIG), JointSpec(active_params="2.5B"))
    assert len(mixes) == 5
    assert all(mix.after.active_params <= 2.5e9 + 0.005 * 3.353e9 for mix in mixes)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"method": "2:4"}, "2:4 of a mixture of experts is not supported; --method experts removes experts"),
        ({"method": "experts", "shape": {"experts": 1}}, "2 of 1 experts are active"),
        ({"method": "experts", "shape": {"experts": 7}}, "experts=7: the model has 6"),
        ({"method": "width", "shape": {"hidden": 20}}, "hidden=20 is not a multiple of 8, .*; nearest: 16 and 24"),
        ({"method": "width", "shape": {"intermediate": 8}}, "intermediate can't shrink in a qwen3_moe: experts keep"),
        ({"method": "width", "rate": 0.2, "axes": ("intermediate",)}, "intermediate can't shrink"),
        ({"method": "depth", "rate": 0.2, "active_params": 100}, "rate and active_params given together"),
        ({"method": "depth", "active_params": "some"}, "'some' is not a positive number"),
        ({"method": "2:4", "active_params": 100}, "active_params 100 given with 2:4; the pattern sets it"),
    ],
)
def test_what_cannot_be_done_to_a_mixture_is_one_line(model, spec, says):
    with pytest.raises(InputError, match=says) as caught:
        outline(architecture_of(model), PruneSpec(**spec))
    assert "\n" not in str(caught.value)


def test_the_hidden_width_of_a_mixture_moves_by_finer_steps_where_none_is_near():
    big = Architecture.from_config(BIG)
    for rate in (0.1, 0.3, 0.4):  # of whole 16ths none lies within half a point
        after = prune_shape(big, "width", rate).architecture
        assert 1 - after.params / big.params == pytest.approx(rate, abs=0.005)
        assert (after.kv_heads, after.intermediate, after.hidden % 16) == (4, 768, 0)
    tiny = architecture_of(make_tiny("qwen3_moe"))
    with pytest.raises(InputError, match=r"no shape of this model reaches rate 0\.1 .*nearest rates"):
        prune_shape(tiny, "width", 0.1)  # hidden 28 would: torch takes 24 or 32


def test_a_dense_model_has_no_experts_to_remove():
    with pytest.raises(InputError, match="experts: the model has no experts; prune its depth or width"):
        outline(architecture_of(make_tiny("llama")), PruneSpec(method="experts", rate=0.2))


def test_blocks_with_and_without_experts_are_refused(model):
    content = model.config.to_dict()
    for field, value in (("mlp_only_layers", [0]), ("decoder_sparse_step", 2)):
        with pytest.raises(InputError, match=f"{field} is .*: blocks of it have no experts"):
            Architecture.from_config({**content, field: value})


def test_stored_and_built_are_inverses(model):
    state = dict(model.named_parameters())
    again = as_built(as_stored(state.items()))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_in_memory_and_trained_once(model, tmp_path):
    pruned, plan = prune_model(model, PruneSpec(method="experts", rate=0.3), IDS)
    assert pruned.config.num_experts == plan.after.experts == 3
    loss = pruned(input_ids=IDS, labels=IDS).loss
    loss.backward()
    torch.optim.SGD(pruned.parameters(), lr=1e-2).step()
    assert pruned(input_ids=IDS, labels=IDS).loss < loss
    again = load_model(save_checkpoint(pruned, None, tmp_path / "trained"))
    assert torch.equal(logits(again, IDS), logits(pruned, IDS))


def test_memory_counts_experts_as_stored_as_written_and_as_stacked():
    big, spec = Architecture.from_config(BIG), PruneSpec(method="experts", rate=0.25)
    needed = estimate_for(big, spec, samples=8, length=512)
    assert needed.block == big.block_params * (2 * 2 + 2 * 4)
    assert needed.states == 8 * 512 * 2048 * 4
