"""Parameters and FLOPs of every catalogue entry, unpruned and pruned, against the models that transformers builds.

    python -m benchmarks.models.catalogue_counts [--context 64] [--model NAME ...] [--whole]

The models are built on torch's meta device, where nothing is allocated, and a forward pass is counted by
`torch.utils.flop_counter`. Both counts are linear in the number of blocks, so models of one and of two blocks give the
one of any depth; `--whole` builds all blocks instead.

One convention is taken into account, exactly: transformers multiplies the whole square of scores and values and then
masks it; regrow counts the causal half, which is what a fused kernel does.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

import regrow.arch
from regrow.arch import Architecture, catalog
from regrow.planning.cost import PrunedModel, pruned_model

RATES = (0.15, 0.25, 0.35)

#: Which experts run is the router's choice, which the meta device does not have: mixtures of experts are left out.
DENSE = [name for name, shape in catalog().items() if not shape.experts]


@dataclass(frozen=True)
class Counts:
    """Parameters, those in the linear layers of the blocks, and FLOPs of a forward pass per token."""

    params: float
    block_weights: float
    flops: float


@dataclass(frozen=True)
class Row:
    """One model at one rate: what regrow counts and what was built."""

    name: str
    method: str
    rate: float | None
    model: PrunedModel
    params: int
    flops: float
    built_params: int
    built_flops: float


def configs() -> dict[str, dict[str, Any]]:
    """The catalogue's configs by name, as transformers reads them."""
    entries = json.loads((Path(regrow.arch.__file__).parent / "catalog.json").read_text())["models"]
    return {name: entry["config"] for name, entry in entries.items()}


def build(config: dict[str, Any], shape: Architecture, layers: int, context: int) -> Counts:
    """Count the model that transformers builds of this config in this shape, with so many blocks."""
    # rotary factors have no parameters, and the catalogue leaves them out
    options = {k: v for k, v in config.items() if k not in ("model_type", "rope_scaling")} | {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
    }
    if "layer_types" in config:
        options["layer_types"] = config["layer_types"][:layers]
    made = AutoConfig.for_model(config["model_type"], **options, attn_implementation="eager")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(made)
        ids = torch.zeros(1, context, dtype=torch.long)
        mask = torch.zeros(1, 1, context, context)  # given, as making one would look at values
    assert all(p.device.type == "meta" for p in model.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    linear = [m.weight.numel() for m in model.model.layers.modules() if isinstance(m, torch.nn.Linear)]
    masked_half = layers * 2 * shape.heads * shape.head_dim * context**2
    return Counts(
        params=sum(p.numel() for p in model.parameters()),
        block_weights=sum(linear),
        flops=(counter.get_total_flops() - masked_half) / context,
    )


def extrapolate(one: Counts, two: Counts, layers: int) -> Counts:
    """The counts of a model of so many blocks from those of one and of two."""
    more = layers - 1
    return Counts(
        params=one.params + more * (two.params - one.params),
        block_weights=one.block_weights + more * (two.block_weights - one.block_weights),
        flops=one.flops + more * (two.flops - one.flops),
    )


def rows(name: str, *, context: int = 64, rates: tuple[float, ...] = RATES, whole: bool = False) -> Iterator[Row]:
    """One catalogue entry: unpruned, 2:4, and depth and width at each rate."""
    architecture, config = catalog()[name], configs()[name]
    asked: list[tuple[str, float | None]] = [("2:4", None)]
    asked += [(method, rate) for method in ("depth", "width") for rate in rates]
    known: dict[Architecture, tuple[Counts, Counts]] = {}

    def counted(shape: Architecture) -> Counts:
        if whole:
            return build(config, shape, shape.layers, context)
        widths = shape.with_shape(layers=1)  # another depth of widths already built needs no other model
        if widths not in known:
            known[widths] = build(config, shape, 1, context), build(config, shape, 2, context)
        return extrapolate(*known[widths], shape.layers)

    unpruned = PrunedModel(
        method="none",
        params_before=architecture.params,
        params_after=architecture.params,
        pruning_rate=0.0,
        before=architecture,
        after=architecture,
    )
    for method, rate in [("none", None), *asked]:
        model = (
            unpruned
            if method == "none"
            else pruned_model(method=method, pruning_rate=rate, params_before=None, architecture=architecture)
        )
        assert model.after is not None
        found = counted(model.after)
        yield Row(
            name=name,
            method=method,
            rate=rate,
            model=model,
            params=round(model.params_after),
            flops=model.inference_flops(context),
            built_params=round(found.params - (0.5 * found.block_weights if method == "2:4" else 0)),
            built_flops=found.flops,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--model", nargs="*", default=DENSE, help="names of the catalogue")
    parser.add_argument("--whole", action="store_true", help="build every block")
    options = parser.parse_args()
    began = time.perf_counter()
    head = ("model", "method", "rate", "reached", "parameters", "difference", "GFLOPs/token", "relative difference")
    print(("{:<33}{:<8}{:>6}{:>9}{:>18}{:>12}{:>14}{:>21}").format(*head))
    worst_params, worst_flops, number = 0, 0.0, 0
    for name in options.model:
        for row in rows(name, context=options.context, whole=options.whole):
            params, flops = row.params - row.built_params, row.flops / row.built_flops - 1
            worst_params, worst_flops = max(worst_params, abs(params)), max(worst_flops, abs(flops))
            number += 1
            rate = "" if row.rate is None else f"{row.rate:g}"
            print(
                f"{row.name:<33}{row.method:<8}{rate:>6}{row.model.pruning_rate:>9.4f}{row.params:>18,}{params:>12,}"
                f"{row.flops / 1e9:>14.4f}{flops:>21.1e}"
            )
    print(
        f"{number} models: parameters differ by {worst_params} at most, FLOPs by {worst_flops:.1e} of them; "
        f"{time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
