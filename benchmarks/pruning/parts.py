"""Where the time of pruning goes: processor milliseconds of each part of one block of SmolLM2-135M.

    OMP_NUM_THREADS=1 python -m benchmarks.pruning.parts [--blocks 8]

`--blocks` blocks of 512 tokens of the embedded corpus run through the first decoder block. `GF` are the floating-point
operations of a part in billions, where they are products of matrices alone. The best of three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from benchmarks.models.smollm2 import smollm2
from benchmarks.pruning.common import LENGTH, texts

from regrow.families import linears
from regrow.models import load_tokenizer
from regrow.pruning import choose_blocks
from regrow.pruning.refit import SKETCHED, choose_damping, solve
from regrow.pruning.sparsegpt import Hessian, factor, sparsegpt
from regrow.pruning.sparsify import summed, walk_parts
from regrow.pruning.stream import BlockStream, open_stream

#: Neurons that stay of 1536.
KEPT = 1229


def milliseconds(work: Callable[[], object]) -> float:
    """The least processor time of three runs after a first."""
    work()
    found = []
    for _ in range(3):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return 1000 * min(found)


def line(name: str, work: Callable[[], object], flops: float | None = None) -> None:
    """Time a part and print its row."""
    spent = milliseconds(work)
    rate = "" if flops is None else f"{flops / 1e9:.1f} | {flops / spent / 1e6:.0f}"
    print(f"| {name} | {spent:.0f} | {rate or ' | '} |", flush=True)


def attention(stream: BlockStream, tokens: int) -> None:
    """The attention of transformers' block by itself."""
    arch = stream.arch
    query, key = (
        torch.randn(tokens // LENGTH, heads, LENGTH, arch.head_dim, dtype=stream.matmul_dtype)
        for heads in (arch.heads, arch.kv_heads)
    )
    run = partial(torch.nn.functional.scaled_dot_product_attention, is_causal=True, enable_gqa=True)
    line(f"attention alone, {stream.precision}", lambda: run(query, key, key))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=8, help="calibration blocks of 512 tokens")
    asked = parser.parse_args()
    train, _ = texts(load_tokenizer(smollm2()), held_out=1)
    tokens = choose_blocks(train, count=asked.blocks, length=LENGTH, seed=0)
    print(f"{tokens.numel()} tokens\n\n| part | ms | GF | GF/s |\n|---|---|---|---|", flush=True)
    for precision in ("fp32", "bf16"):
        stream = open_stream(smollm2(), precision=precision)
        block, hidden = stream.block(0), stream.embed(tokens)
        weights = sum(weight.numel() for name, weight in block.named_parameters() if "proj" in name)
        run = partial(stream.run, block, hidden)
        line(f"a pass through the block, {precision}", run, 2.0 * tokens.numel() * weights)
        attention(stream, tokens.numel())
    totals = {"Hessians": 0.0, "their factors": 0.0, "columns settled": 0.0}
    inputs = {
        group: x.float()
        for group, x in walk_parts(stream, block, hidden.clone())
        if group in linears(stream.arch.family)
    }
    for group, x in inputs.items():
        weight = torch.cat([block.get_submodule(name).weight for name in group])
        hessian = summed(Hessian, x).matrix()
        factored = factor(hessian.clone(), 4)
        totals["Hessians"] += milliseconds(partial(summed, Hessian, x))
        totals["their factors"] += milliseconds(lambda hessian=hessian: factor(hessian.clone(), 4))
        totals["columns settled"] += milliseconds(partial(sparsegpt, weight, factored, 2, 4))
    for name, spent in totals.items():
        print(f"| SparseGPT: {name} | {spent:.0f} | | |", flush=True)
    neurons, weight = inputs["mlp.down_proj",], block.mlp.down_proj.weight
    kept = neurons.square().sum((0, 1)).argsort(descending=True)[:KEPT].sort().values
    halves = [summed(Hessian, half).matrix() for half in neurons.tensor_split(2)]
    line("least squares: sums of both halves", lambda: [summed(Hessian, half) for half in neurons.tensor_split(2)])
    line(f"least squares: the damping, on {SKETCHED} sums", lambda: choose_damping(weight, *halves, kept))
    line("least squares: the solution", lambda: solve(weight, halves[0], kept, dtype=torch.float32))


if __name__ == "__main__":
    main()
