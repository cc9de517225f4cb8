"""The memory of a served model, as `--max-memory` counts it, against what transformers allocates.

    python -m benchmarks.models.served_memory [--fraction 0.75]

First a tiny random model of every family's own class: the bytes of its parameters, and of the keys and values that
transformers' cache holds after a forward pass over a batch of 3 sequences of 96 tokens, in bf16; unpruned, and pruned
in width and depth to a fraction of its memory. Then public shapes of the catalogue, too large to allocate: the
parameters of the model that transformers builds on torch's meta device, and its cache filled on that device with 32,768
tokens of 2 sequences; unpruned, and the shapes in depth and width that `--max-memory` leaves of a fraction of it.

Which blocks of a public shape go in depth is for scores to say. Where blocks differ in their windows, the plan counts
those with the larger caches, so that it holds whichever go; here the last ones go.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedModel

from regrow.arch import Architecture, catalog, config_of
from regrow.errors import InputError
from regrow.families import FAMILIES
from regrow.footprint import MemoryTarget, shape_for_memory
from regrow.models import architecture_of
from regrow.pruning.prune import prune_model
from regrow.pruning.spec import PruneSpec
from regrow.units import format_si

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "models"))
from tiny_families import make_tiny

PUBLIC = (
    "Llama-3.1-8B", "Qwen2.5-7B", "Qwen3-30B-A3B", "Mistral-7B-v0.1", "Ministral-8B-Instruct-2410", "gemma-3-12b-pt",
    "Olmo-3-1025-7B", "EXAONE-4.0-32B", "Phi-4-mini-instruct", "granite-3.3-8b-instruct",
)  # fmt: skip


class Row(NamedTuple):
    """Bytes of weights and cache: what the plan says, and what transformers holds."""

    name: str
    method: str
    weights: float
    held_weights: float
    cache: float
    held_cache: float

    @property
    def off(self) -> float:
        """How far the plan's total is from what is held, as a share of it."""
        return (self.weights + self.cache) / (self.held_weights + self.held_cache) - 1


def held_by(cache: DynamicCache) -> int:
    """Bytes of a cache's keys and values."""
    return sum(tensor.numel() * tensor.itemsize for layer in cache.layers for tensor in (layer.keys, layer.values))


@torch.no_grad()
def tiny(model_type: str, fraction: float) -> Iterator[Row]:
    """A family's tiny model, unpruned and pruned to a fraction of its memory."""
    target = MemoryTarget(max_memory=1, context=96, batch=3)
    whole = make_tiny(model_type).to(torch.bfloat16)

    def row(method: str, model: PreTrainedModel) -> Row:
        said = target.for_config(model.config.to_dict()).footprint(architecture_of(model))
        cache = DynamicCache(config=model.config)
        model(input_ids=torch.ones(3, 96, dtype=torch.long), past_key_values=cache, use_cache=True)
        weights = sum(parameter.numel() * parameter.itemsize for parameter in model.parameters())
        return Row(model_type, method, said.weights, weights, said.cache, held_by(cache))

    first = row("none", whole)
    yield first
    memory = MemoryTarget(max_memory=fraction * (first.held_weights + first.held_cache), context=96, batch=3)
    for method in ("depth", "width"):
        try:
            pruned, _ = prune_model(whole, PruneSpec(method=method, scorer="random", memory=memory), None)
        except InputError as refused:  # so small a model has few widths
            print(f"{model_type}, {method}: {refused}", file=sys.stderr)
            continue
        yield row(method, pruned)


def public(name: str, fraction: float) -> Iterator[Row]:
    """A shape of the catalogue, unpruned, and as a memory target leaves it."""
    whole, config = catalog()[name], config_of(name)
    target = MemoryTarget(max_memory=1, context=32_768, batch=2).for_config(config)
    memory = MemoryTarget(max_memory=fraction * target.footprint(whole).total, context=32_768, batch=2)
    shapes = {"none": whole}
    for method in ("depth", "width"):
        shapes[method] = shape_for_memory(whole, method, memory.for_config(config)).architecture
    for method, shape in shapes.items():
        said = target.footprint(shape)
        weights, cache = on_meta(config, shape)
        yield Row(name, method, said.weights, weights, said.cache, cache)


def on_meta(config: dict[str, Any], shape: Architecture) -> tuple[int, int]:
    """Bytes of the parameters that transformers builds of this shape, and of its cache when it is full."""
    # rotary factors have no parameters, and the catalogue leaves them out
    options = {k: v for k, v in config.items() if k not in ("model_type", "rope_scaling")} | {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate if not shape.experts else config["intermediate_size"],
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
    }
    if "layer_types" in config:
        options["layer_types"] = config["layer_types"][: shape.layers]
    made = AutoConfig.for_model(config["model_type"], **options)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16)
        cache = DynamicCache(config=made)
        for layer in range(shape.layers):
            states = torch.zeros(2, shape.kv_heads, 32_768, shape.head_dim, dtype=torch.bfloat16)
            cache.update(states, states, layer)
    return sum(parameter.numel() * parameter.itemsize for parameter in model.parameters()), held_by(cache)


def show(rows: list[Row]) -> None:
    """A table, and the largest difference of it."""
    head = f"{'model':28} {'pruned by':9} {'weights':>9} {'held':>9} {'cache':>9} {'held':>9} {'off':>7}"
    print(head)
    for row in rows:
        sizes = (row.weights, row.held_weights, row.cache, row.held_cache)
        cells = " ".join(f"{format_si(size, 'B'):>9}" for size in sizes)
        print(f"{row.name:28} {row.method:9} {cells} {row.off:+7.2%}")
    exact = [row for row in rows if row.method != "depth"]
    deep = [row for row in rows if row.method == "depth"]
    print(f"{len(rows)} models: off by {max(abs(row.off) for row in exact):.2%} at most", end="")
    print(f"; by depth {min(r.off for r in deep):+.2%} to {max(r.off for r in deep):+.2%}\n" if deep else "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fraction", type=float, default=0.75, help="Memory left, as a share of the unpruned model's.")
    fraction = parser.parse_args().fraction
    torch.set_num_threads(1)
    show([row for model_type in FAMILIES for row in tiny(model_type, fraction)])
    show([row for name in PUBLIC for row in public(name, fraction)])


if __name__ == "__main__":
    main()
