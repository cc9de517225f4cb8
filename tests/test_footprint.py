"""The memory of a served model, against what transformers allocates, and the shapes within a memory target."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from regrow.arch import Architecture, catalog
from regrow.errors import InputError
from regrow.footprint import (
    CACHE_DTYPES,
    DTYPES,
    MemoryTarget,
    layers_for_memory,
    memory_from,
    shape_for_memory,
    shapes_for_memory,
    windows_of,
)
from regrow.pruning.prune import prune_model
from regrow.pruning.spec import PruneSpec

SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
MODELS = {
    "grouped queries, tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "windows everywhere": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=24)),
    "windows from block 2 on": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=24, max_window_layers=2)
    ),
    "windows by layer types": lambda: Qwen3ForCausalLM(
        Qwen3Config(
            **SIZES,
            head_dim=16,
            use_sliding_window=True,
            sliding_window=24,
            layer_types=["full_attention", "sliding_attention"] * 3,
        )
    ),
    "no windows": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16)),
}


@torch.no_grad()
def measured(model: PreTrainedModel, context: int, batch: int) -> tuple[int, int]:
    """Bytes of the weights that transformers holds, and of its cache after a pass over `context` tokens."""
    weights = sum(parameter.numel() * parameter.itemsize for parameter in model.parameters())
    cache = DynamicCache(config=model.config)
    model(input_ids=torch.ones(batch, context, dtype=torch.long), past_key_values=cache, use_cache=True)
    held = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return weights, sum(tensor.numel() * tensor.itemsize for tensor in held)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_footprint_is_what_transformers_allocates(model: PreTrainedModel, dtype: str) -> None:
    model = model.to({"fp32": torch.float32, "bf16": torch.bfloat16}[dtype])
    target = MemoryTarget(max_memory=1, context=96, batch=3, dtype=dtype).for_config(model.config.to_dict())
    said = target.footprint(Architecture.from_config(model.config.to_dict()))
    weights, cache = measured(model, 96, 3)
    assert said.weights == pytest.approx(weights, rel=0.02)
    assert said.cache == pytest.approx(cache, rel=0.02)
    assert said.total == said.weights + said.cache


@pytest.mark.parametrize("method", ["depth", "width"])
def test_a_pruned_model_takes_no_more_than_it_was_given(model: PreTrainedModel, method: str) -> None:
    weights, cache = measured(model, 96, 3)
    limit = 0.75 * (weights + cache)
    memory = MemoryTarget(max_memory=limit, context=96, batch=3, dtype="fp32")
    spec = PruneSpec(method=method, memory=memory, scorer="random")
    pruned, plan = prune_model(model, spec, None)
    taken = sum(measured(pruned, 96, 3))
    assert taken <= limit
    # whole blocks leave up to one of them free, channels half a percent
    assert taken > limit - (0.005 if method == "width" else 0.25) * (weights + cache)
    said = plan.to_dict()
    assert said["memory_after"]["weights"] + said["memory_after"]["cache"] == taken
    assert type(plan).from_dict(said) == plan


@pytest.mark.parametrize("seed", range(6))
def test_depth_keeps_as_many_blocks_as_fit_by_their_own_windows(seed: int) -> None:
    kinds = ["full_attention", "sliding_attention", "sliding_attention"] * 2
    torch.manual_seed(0)
    windowed = {"head_dim": 16, "use_sliding_window": True, "sliding_window": 8, "layer_types": kinds}
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES, **windowed)).eval()
    limit = 0.75 * sum(measured(model, 400, 3))
    memory = MemoryTarget(max_memory=limit, context=400, batch=3, dtype="fp32")
    pruned, plan = prune_model(model, PruneSpec(method="depth", memory=memory, scorer="random", seed=seed), None)
    assert sum(measured(pruned, 400, 3)) == plan.memory_after.total <= limit
    # one block less to go, in the scorer's order, would not fit
    if len(plan.dropped_layers) > 1:
        fewer = PruneSpec(method="depth", shape={"layers": plan.after.layers + 1}, scorer="random", seed=seed)
        assert sum(measured(prune_model(model, fewer, None)[0], 400, 3)) > limit


def test_the_windows_that_a_config_leaves_to_transformers() -> None:
    few = {"num_hidden_layers": 3}
    assert windows_of({**few, "model_type": "mistral"}) == (4096,) * 3
    assert windows_of({**few, "model_type": "mistral", "sliding_window": None}) == (None,) * 3
    assert windows_of({**few, "model_type": "llama"}) == (None,) * 3
    assert windows_of({**few, "model_type": "qwen2", "sliding_window": 8}) == (None,) * 3
    windowed = {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8}
    assert windows_of({**few, **windowed, "max_window_layers": 1}) == (None, 8, 8)
    assert windows_of({**few, **windowed}) == (None,) * 3
    exaone = {"model_type": "exaone4", "num_hidden_layers": 5, "sliding_window": 8}
    assert windows_of({**exaone, "sliding_window_pattern": "LLLG"}) == (8, 8, 8, None, 8)
    assert windows_of({**exaone, "sliding_window_pattern": 4}) == (8, 8, 8, None, 8)


def test_public_models_that_mix_blocks_hold_less_than_full_attention() -> None:
    # one block in four of Ministral 8B attends to all tokens, three to 32,768; of EXAONE 4.0 32B the fourth does
    for name, window in (("Ministral-8B-Instruct-2410", 32_768), ("EXAONE-4.0-32B", 4096)):
        before = catalog()[name]
        held = MemoryTarget(max_memory="1TB", context="100k").for_model(name).footprint(before).cache
        full, part = before.layers // 4, before.layers - before.layers // 4
        assert held == 2 * before.kv_heads * before.head_dim * 2 * (full * 100_000 + part * (window - 1))


def test_depth_counts_on_the_largest_caches() -> None:
    arch = Architecture(
        model_type="llama", hidden=64, intermediate=128, layers=4, heads=4, kv_heads=1, head_dim=16, vocab=64, tied=True
    )
    target = MemoryTarget(max_memory=1, context=1000, dtype="fp16", windows=(11, None, 11, None))
    per_token = 2 * 16 * 2
    assert target.footprint(arch).cache == per_token * (2 * 1000 + 2 * 10)
    assert target.footprint(arch.with_shape(layers=3)).cache == per_token * (2 * 1000 + 10)
    assert target.footprint(arch.with_shape(layers=1)).cache == per_token * 1000


def test_quantised_weights_keep_the_embeddings_in_16_bits() -> None:
    arch = catalog()["Llama-3.2-1B"]
    matrices = arch.layers * arch.block_matrix_params
    for dtype, bits in (("int8", 8), ("fp8", 8), ("int4", 4 + 20 / 128)):
        said = MemoryTarget(max_memory=1, dtype=dtype).footprint(arch)
        assert said.weights == pytest.approx(matrices * bits / 8 + 2 * (arch.params - matrices))
        assert said.cache == 2 * 2 * arch.layers * arch.kv_heads * arch.head_dim * 4096
    assert set(CACHE_DTYPES) <= set(DTYPES)


@pytest.mark.parametrize("name", ["Qwen2.5-7B", "Llama-3.1-8B", "SmolLM2-360M"])
@pytest.mark.parametrize("method", ["depth", "width"])
def test_the_largest_shape_within_the_target_is_taken(name: str, method: str) -> None:
    before = catalog()[name]
    unpruned = MemoryTarget(max_memory=1, context="8k", batch=4).footprint(before).total
    target = MemoryTarget(max_memory=0.6 * unpruned, context="8k", batch=4)
    pruned = shape_for_memory(before, method, target)
    taken = target.footprint(pruned.architecture).total
    assert taken <= target.limit
    assert pruned.rate == 1 - pruned.architecture.params / before.params
    if method == "depth":
        more = pruned.architecture.with_shape(layers=pruned.architecture.layers + 1)
        assert target.footprint(more).total > target.limit
    else:
        assert taken >= target.limit - 0.005 * unpruned


def test_the_shapes_to_choose_from_all_fit_and_some_give_up_kv_heads() -> None:
    before = catalog()["Qwen2.5-7B"]
    target = MemoryTarget(max_memory="12GB", context="32k", batch=2)
    shapes = shapes_for_memory(before, target, 4)
    assert len(shapes) == len(set(shapes)) == 4
    assert shapes[0].kv_heads == before.kv_heads
    assert min(shape.kv_heads for shape in shapes) < before.kv_heads
    assert all(target.footprint(shape).total <= 12e9 for shape in shapes)
    only = shapes_for_memory(before, target, 4, axes=("intermediate",))
    assert [shape.hidden for shape in only] == [before.hidden]


def test_a_cache_that_fills_the_memory_costs_kv_heads() -> None:
    before = catalog()["Qwen2.5-7B"]
    target = MemoryTarget(max_memory="20GB", context="32k", batch=16)
    assert target.footprint(before).cache > 20e9
    shape = shapes_for_memory(before, target)[0]
    assert shape.kv_heads < before.kv_heads
    assert target.footprint(shape).total <= 20e9


@pytest.mark.parametrize(
    ("method", "target", "says"),
    [
        ("depth", {"max_memory": "200MB"}, "its embeddings alone take 525 MB in bf16"),
        ("width", {"max_memory": "200MB"}, "its embeddings alone take 525 MB in bf16"),
        ("depth", {"max_memory": "600MB", "context": "128k"}, "can't hold this model: one block takes"),
        ("width", {"max_memory": "600MB", "context": "128k", "batch": 8}, "can't hold this model: the narrowest shape"),
        ("width", {"max_memory": "8GB"}, "there is nothing to prune"),
        ("2:4", {"max_memory": "1GB"}, "2:4 leaves zeros in dense matrices, which take as much as before: 2.61 GB"),
        ("my-own", {"max_memory": "1GB"}, "depth, width and experts make a model smaller"),
    ],
)
def test_a_target_that_cannot_be_is_one_line(method: str, target: dict[str, str], says: str) -> None:
    with pytest.raises(InputError) as refused:
        shape_for_memory(catalog()["Llama-3.2-1B"], method, MemoryTarget(**target))  # type: ignore[arg-type]
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_memory": "much"},
        {"max_memory": "0GB"},
        {"context": 0},
        {"batch": -1},
        {"dtype": "bf8"},
        {"cache_dtype": "int4"},
    ],
)
def test_a_target_checks_itself(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        MemoryTarget(**{"max_memory": "1GB", **wrong})  # type: ignore[arg-type]


def test_a_target_survives_json() -> None:
    target = MemoryTarget(max_memory="12GiB", context="32k", windows=(None, 16))
    assert target.limit == 12 * 2**30
    assert memory_from(target.to_dict()) == target
    with pytest.raises(InputError, match="did you mean 'batch'"):
        memory_from({"max_memory": 1, "batches": 2})
    with pytest.raises(InputError, match="no max_memory"):
        memory_from({"batch": 2})
    assert layers_for_memory(catalog()["SmolLM2-135M"], MemoryTarget(max_memory="200MB")).layers < 30
