"""Every supported family on a tiny random model of its own class: the table in docs/families.md says what each test is.

References are computed by transformers' own class on the original weights, with what pruning removes set to zero.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import cache

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import SHAPE, TINY, make_tiny
from tiny_models import logits, tokens
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from regrow.arch import Architecture
from regrow.data import Blocks
from regrow.errors import InputError
from regrow.evaluation import evaluate
from regrow.families import FAMILIES
from regrow.models import architecture_of, check_pattern, count_params, open_checkpoint, save_checkpoint
from regrow.models.config_file import skeleton_of, with_old_names
from regrow.models.experts import as_stored
from regrow.models.layout import axes_of, is_block_weight, is_tied
from regrow.pruning import PruneSpec
from regrow.pruning.apply import PlannedModel
from regrow.pruning.outline import outline
from regrow.pruning.prune import apply_plan, make_plan, prune
from regrow.pruning.scorers import SCORERS
from regrow.pruning.sparsify import walk_parts
from regrow.pruning.stream import open_stream
from regrow.training import TrainSpec
from regrow.training.kernels import set_kernels

#: Longer than the sliding windows of 8.
IDS = tokens(3, 20, seed=1)
TEXT = Blocks(tokens=tokens(6, 20).int().numpy(), documents=3, fingerprint="f00d")


DENSE = [name for name, family in FAMILIES.items() if family.experts is None]


@cache
def tiny(model_type):
    return make_tiny(model_type)


def tiny_arch(model_type):
    return architecture_of(tiny(model_type))


@pytest.fixture
def folder(model_type, tmp_path):
    return save_checkpoint(tiny(model_type), None, tmp_path / "model")


def reload(folder):
    """The model in a folder as plain transformers reads it."""
    return AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()


def last_weights(block):
    """The parameters that give what the feed-forward of a block adds to the residual stream."""
    experts = getattr(block.mlp, "experts", None)
    return list(block.mlp.down_proj.parameters()) if experts is None else [experts.down_proj]


def zero(*parameters):
    with torch.no_grad():
        for parameter in parameters:
            parameter.zero_()


def test_every_family_has_a_tiny_model():
    assert set(TINY) == set(FAMILIES)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_counts_are_those_of_transformers(model_type):
    model = tiny(model_type)
    arch = architecture_of(model)  # raises where the counts differ
    widths = {
        "hidden": arch.hidden,
        "intermediate": arch.intermediate,
        "query": arch.heads * arch.head_dim,
        "kv": arch.kv_heads * arch.head_dim,
    }
    for name, parameter in as_stored(model.named_parameters()).items():
        for along, size in zip(axes_of(name, arch.family), parameter.shape, strict=True):
            assert not along or sum(widths[axis] for axis in along) == size, name
    # a config that says as little as it may: transformers' defaults are the family's
    few = {"vocab_size": 64, "num_hidden_layers": 1, "intermediate_size": 48, "hidden_size": 2560}
    few["num_attention_heads"] = 20 if model_type == "helium" else 32
    if model_type == "ministral":
        few["head_dim"] = 80  # transformers 5.23 builds none without
    silent = CONFIG_MAPPING[model_type](**few, pad_token_id=0)
    assert Architecture.from_config({"model_type": model_type, **few}).params == count_params(skeleton_of(silent))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_walk_block_by_block_is_the_forward_pass(model_type):
    model = tiny(model_type)
    stream = open_stream(model)
    whole = parts = stream.embed(IDS)
    parts = whole.clone()
    for _, block in stream.blocks():
        whole = stream.run(block, whole)
        if model_type in DENSE:
            assert [inputs.shape[-1] for _, inputs in walk_parts(stream, block, parts)][1::2] == [32, 48]
            torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(stream.norm(whole), model.model(input_ids=IDS, use_cache=False).last_hidden_state)
    # the loss is that of transformers' logits, which some families scale or cap after the output layer
    found = logits(model, IDS)
    expected = torch.nn.functional.cross_entropy(found[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()).item()
    assert stream.loss(whole, IDS) == pytest.approx(expected, abs=1e-5)
    assert evaluate(model, Blocks(tokens=IDS.int().numpy(), documents=1, fingerprint="")).loss == pytest.approx(
        expected, abs=1e-5
    )
    assert torch.equal(logits(model, IDS), found), "the evaluation has left something behind in the model"


@pytest.mark.parametrize("model_type", FAMILIES)
def test_depth_is_the_model_without_the_block(model_type, folder, tmp_path):
    plan = prune(folder, PruneSpec(method="depth", shape={"layers": 2}), calibration=TEXT, out=tmp_path / "out")
    (gone,) = plan.dropped_layers
    pruned, expected = reload(tmp_path / "out"), copy.deepcopy(tiny(model_type))
    block = expected.model.layers[gone]
    zero(*block.self_attn.o_proj.parameters(), *last_weights(block))
    torch.testing.assert_close(logits(pruned, IDS), logits(expected, IDS))
    assert count_params(pruned) == plan.params_after
    # every list of the config that has an entry for each block has lost this one
    for name in FAMILIES[model_type].block_lists:
        before, after = (getattr(model.config, name, None) for model in (expected, pruned))
        assert after == (before and [kind for layer, kind in enumerate(before) if layer != gone]), name


@pytest.mark.parametrize("model_type", FAMILIES)
def test_width_is_the_model_with_zeros(model_type, folder, tmp_path):
    arch = tiny_arch(model_type)
    shape = {"hidden": 16 if arch.square else 24, "intermediate": 40, "kv_heads": 1}
    free = {axis: size for axis, size in shape.items() if axis not in arch.fixed_axes}
    check_width(tiny(model_type), folder, free, tmp_path)


def check_width(model, folder, sizes, tmp_path):
    """A width-pruned checkpoint gives the logits of the original with zeros, and can be trained."""
    plan = prune(folder, PruneSpec(method="width", shape=sizes), calibration=TEXT, out=tmp_path / "out")
    pruned = reload(tmp_path / "out")
    assert architecture_of(pruned) == plan.after
    assert count_params(pruned) == plan.params_after
    expected = with_zeros(copy.deepcopy(model), plan)
    torch.testing.assert_close(logits(pruned, IDS), logits(expected, IDS), rtol=1e-4, atol=1e-4)
    # one step of training reaches every parameter, and what comes out can be read
    loss = pruned(input_ids=IDS, labels=IDS).loss
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pruned.parameters())
    torch.optim.SGD(pruned.parameters(), lr=1e-2).step()
    assert pruned(input_ids=IDS, labels=IDS).loss < loss


def with_zeros(model, plan):
    """The original model with all that writes the removed channels, neurons and heads set to zero.

    Only what an RMS norm averages over then differs, by the share of its channels that are left.
    """
    before, after = plan.before, plan.after
    hidden = [index for index in range(before.hidden) if plan.kept_hidden and index not in plan.kept_hidden]
    offset = before.family.norm_offset

    def keep_scale(norm, share):
        norm.weight.data = (norm.weight.data + offset) * share**0.5 - offset
        eps = "eps" if hasattr(norm, "eps") else "variance_epsilon"
        setattr(norm, eps, getattr(norm, eps) * share)

    with torch.no_grad():
        model.model.embed_tokens.weight[:, hidden] = 0
        for layer, block in enumerate(model.model.layers):
            for parameter in (*block.self_attn.o_proj.parameters(), *last_weights(block)):
                # of experts [experts, hidden, width], else [hidden, ...]
                parameter.transpose(0, max(0, parameter.ndim - 2))[hidden] = 0
            if plan.kept_intermediate:
                gone = [index for index in range(before.intermediate) if index not in plan.kept_intermediate[layer]]
                block.mlp.down_proj.weight[:, gone] = 0
            for index in range(before.kv_heads):
                if plan.kept_kv_heads and index not in plan.kept_kv_heads[layer]:
                    width = before.heads // before.kv_heads * before.head_dim
                    block.self_attn.o_proj.weight[:, index * width : (index + 1) * width] = 0
                    if before.family.qk_norm == "projection":
                        for name, rows in (("q", width), ("k", before.head_dim)):
                            for parameter in block.self_attn.get_submodule(f"{name}_proj").parameters():
                                parameter[index * rows : (index + 1) * rows] = 0
            if before.family.qk_norm == "projection":
                keep_scale(block.self_attn.q_norm, after.heads / before.heads)
                keep_scale(block.self_attn.k_norm, after.kv_heads / before.kv_heads)
    for name, module in model.named_modules():
        if name.endswith("norm") and module.weight.shape == (before.hidden,) and "self_attn." not in name:
            keep_scale(module, after.hidden / before.hidden)
    return model


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_scorer_prunes_it(model_type):
    stream = open_stream(tiny(model_type))
    width = {"intermediate": 40} if model_type in DENSE else {"hidden": 24}
    targets = {"depth": {"layers": 2}, "width": width, "experts": {"experts": 4}, "N:M": None}
    for (kind, scorer), entry in SCORERS.items():
        if kind in (("N:M",) if model_type not in DENSE else ("experts",)):
            continue  # refused, see below
        spec = PruneSpec(method="2:4" if kind == "N:M" else kind, scorer=scorer, shape=targets[kind])
        ids = IDS if entry.reads_text else None
        plan, _ = make_plan(stream, spec, ids)
        planned = PlannedModel(stream.source, plan)
        made = {name: torch.cat(list(parts)) for name, parts in planned.tensors(stream, tokens=ids)}
        assert {name: tensor.shape for name, tensor in made.items()} == {
            name: tensor.shape for name, tensor in planned.layout.items()
        }
        assert all(tensor.isfinite().all() for tensor in made.values()), scorer
        if plan.pattern:
            weights = [tensor for name, tensor in made.items() if is_block_weight(name)]
            assert len(weights) == sum(name.endswith("proj.weight") for name in made)
            assert all(check_pattern(weight, 2, 4) for weight in weights), scorer


def test_what_cannot_be_narrowed_is_said():
    helium = architecture_of(tiny("helium"))
    with pytest.raises(InputError, match="hidden can't shrink alone in this helium: transformers builds its o_proj sq"):
        outline(helium, PruneSpec(method="width", rate=0.2, axes=("hidden",)))
    with pytest.raises(InputError, match="kv_heads can't shrink alone in this helium"):
        outline(helium, PruneSpec(method="width", rate=0.2, axes=("intermediate", "kv_heads")))
    with pytest.raises(InputError, match="hidden is 24, and 2 heads of 8 make 16; in this helium both must be"):
        outline(helium, PruneSpec(method="width", shape={"hidden": 24, "kv_heads": 1}))
    # the feed-forward width alone where it reaches the rate, then channels with their KV groups
    assert outline(helium, PruneSpec(method="width", rate=0.19)).after.hidden == helium.hidden
    for spec in (PruneSpec(method="width", rate=0.6), PruneSpec(method="width", shape={"kv_heads": 1})):
        after = outline(helium, spec).after
        assert (after.hidden, after.heads, after.kv_heads) == (16, 2, 1)


FACTORS = {"rope_type": "longrope", "short_factor": [1.5] * 4, "long_factor": [2.0] * 4}


def test_longrope_is_narrowed_by_channels_with_their_kv_groups(tmp_path):
    phi = {"model_type": "phi3", **SHAPE}
    long = Architecture.from_config({**phi, "rope_scaling": FACTORS})
    assert long.square
    assert not Architecture.from_config({**phi, "rope_scaling": None}).square
    assert Architecture.from_dict(long.to_dict()) == long
    with pytest.raises(InputError, match="hidden can't shrink alone in this phi3: transformers takes hidden / heads"):
        outline(long, PruneSpec(method="width", shape={"hidden": 24}))
    model = make_tiny("phi3", rope_scaling=FACTORS, original_max_position_embeddings=32)
    assert architecture_of(model).square
    folder = save_checkpoint(model, None, tmp_path / "model")
    check_width(model, folder, {"kv_heads": 1, "intermediate": 40}, tmp_path)


@pytest.mark.parametrize("model_type", ["gemma2", "smollm3", "ernie4_5"])
def test_embeddings_that_are_one_by_default_stay_one(model_type, folder, tmp_path):
    """Public checkpoints of these families leave `tie_word_embeddings` out, or store the tied matrix twice."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    del content["tie_word_embeddings"]
    path.write_text(json.dumps(content))
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    plan = prune(folder, PruneSpec(method="depth", shape={"layers": 2}), calibration=TEXT, out=tmp_path / "out")
    assert plan.after.tied
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    assert is_tied(reload(tmp_path / "out"))


def test_a_list_that_is_too_short_is_named(tmp_path):
    folder = save_checkpoint(tiny("smollm3"), None, tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"no_rope_layers": [1, 0]}))
    with pytest.raises(InputError, match=r"config\.json: no_rope_layers has 2 entries, num_hidden_layers is 3"):
        open_checkpoint(folder)


def test_blocks_keep_their_rope_whichever_goes():
    """SmolLM3: block 1 has no rotary embeddings, and is the only one that windows would touch."""
    for gone, marks in ((0, [0, 1]), (1, [1, 1]), (2, [1, 0])):
        plan = replace(
            outline(tiny_arch("smollm3"), PruneSpec(method="depth", shape={"layers": 2})), dropped_layers=(gone,)
        )
        pruned = apply_plan(tiny("smollm3"), plan)
        assert pruned.config.no_rope_layers == marks
        assert [block.self_attn.use_rope for block in pruned.model.layers] == marks


@pytest.mark.parametrize("model_type", ["gemma3_text", "olmo3"])
def test_rotary_bases_by_kind_are_written_in_the_old_names_too(model_type):
    kinds = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    }
    said = with_old_names({"model_type": model_type, "rope_parameters": kinds})
    assert (said["rope_theta"], said["rope_scaling"]) == (1e6, {"rope_type": "linear", "factor": 8.0})
    assert said.get("rope_local_base_freq") == (1e4 if model_type == "gemma3_text" else None)
    assert CONFIG_MAPPING[model_type](**{**said, "model_type": None}).rope_parameters == kinds


def test_bfloat16_weights_walk_as_transformers_runs_them(monkeypatch):
    """On an accelerator a block computes in the stored type: Gemma's embedding scale is rounded to it too."""
    model = make_tiny("gemma3_text").to(torch.bfloat16)
    monkeypatch.setattr("regrow.pruning.stream.compute_types", lambda *given: (torch.bfloat16, torch.bfloat16))
    stream = open_stream(model)
    assert torch.equal(stream.embed(IDS), model.model.embed_tokens(IDS))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_bfloat16_products_on_a_cpu_are_those_of_autocast(model_type):
    model = tiny(model_type)
    stream = open_stream(model, precision="bf16")
    whole = stream.embed(IDS)
    parts = whole.clone()
    for _, block in stream.blocks():
        whole = stream.run(block, whole)
        if model_type in DENSE:
            assert {inputs.dtype for _, inputs in walk_parts(stream, block, parts)} == {torch.bfloat16}
            torch.testing.assert_close(parts, whole, rtol=0.02, atol=0.02)
    assert whole.dtype == torch.float32
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model.model(input_ids=IDS, use_cache=False).last_hidden_state
    torch.testing.assert_close(stream.norm(whole), expected.float(), rtol=1e-4, atol=1e-4)
    plain = model.model(input_ids=IDS, use_cache=False).last_hidden_state
    assert 0 < (expected - plain).norm() < 0.05 * plain.norm()


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gemma3_text", "qwen3_moe"])
def test_training_takes_an_attention_that_the_class_has(model_type):
    model = make_tiny(model_type)
    expected = logits(model, IDS)
    set_kernels(model, TrainSpec(tokens=1), precision="fp32")
    assert model.config._attn_implementation == ("eager" if model_type == "gemma2" else "sdpa")
    torch.testing.assert_close(logits(model, IDS), expected)
