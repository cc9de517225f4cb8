"""Seconds and memory of 2:4 pruning on a GPU: random Llama shapes of 1B and 8B, made block by block on the device.

    python -m benchmarks.pruning.speed_gpu [--sizes 1B,8B] [--scorers sparsegpt,wanda] [--samples 32] [--length 512]
    python -m benchmarks.pruning.speed_gpu --against CHECKOUT   # beside an older build, e.g. of the last tag
    python -m benchmarks.pruning.speed_gpu --profile            # where the time of one block goes

No weight is read from a disk or written to one: what is timed is the pruning itself, from the embedded tokens to the
last pruned block, in bfloat16. `seconds` is the wall time of all blocks, each waited for (with `--device cpu` the
processor time); `first` that of the first, which loads the device's libraries; `median` that of a block; `memory` the
most that was allocated on the device.

With `--against`, every row is made by both builds, each in a process of its own, one after the other. The older build
prunes `--against-blocks` blocks only, and `older / now` is the ratio of the medians. A block's time does not depend
on which block it is: all have one shape.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from benchmarks.training.common import machine, table
from transformers import LlamaConfig

from regrow.arch import Architecture
from regrow.models.config_file import skeleton_of
from regrow.pruning.kernel import kernel_of
from regrow.pruning.sparsify import SparsityKernel, sparsify
from regrow.pruning.stream import BlockStream

#: hidden, intermediate, blocks, heads, KV heads, vocabulary of Llama-3.2-1B and Llama-3.1-8B; a small one to try it on.
SHAPES = {
    "1B": (2048, 8192, 16, 32, 8, 128256),
    "8B": (4096, 14336, 32, 32, 8, 128256),
    "20M": (256, 1024, 4, 4, 2, 32000),
}

HERE = Path(__file__).resolve().parents[2]


class RandomWeights:
    """A model of random numbers (a `Source`): each tensor is made when it is read, the same every time."""

    def __init__(self, size: str, device: str) -> None:
        hidden, intermediate, blocks, heads, kv_heads, vocabulary = SHAPES[size]
        self.config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=blocks,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            tie_word_embeddings=size != "8B",
            dtype="bfloat16",
            architectures=["LlamaForCausalLM"],
        )
        self.device = device
        made = skeleton_of(self.config).named_parameters()
        self.layout = {name: torch.empty(p.shape, dtype=torch.bfloat16, device="meta") for name, p in made}
        self.arch = Architecture.from_config(self.config.to_dict())

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Some of the tensors, with unit outputs for unit inputs; norms are ones."""
        return {name: self._make(name) for name in names}

    def _make(self, name: str) -> torch.Tensor:
        shape = self.layout[name].shape
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16, device=self.device)
        generator = torch.Generator(self.device).manual_seed(list(self.layout).index(name))
        made = torch.randn(shape, generator=generator, dtype=torch.bfloat16, device=self.device)
        return made.mul_(1.0 if "embed" in name else shape[-1] ** -0.5)


def measure(size: str, scorer: str, *, samples: int, length: int, device: str, blocks: int | None) -> dict[str, Any]:
    """Prune to 2:4 once; the seconds of each block and the peak of the device's memory in bytes."""
    kernel = kernel_of("2:4", scorer)
    assert isinstance(kernel, SparsityKernel)
    source = RandomWeights(size, device)
    stream = BlockStream(source, device=device)
    tokens = torch.randint(SHAPES[size][-1], (samples, length), generator=torch.Generator().manual_seed(0))
    seconds: list[float] = []
    # the processor time on a CPU, which other work may share
    clock = time.process_time if device == "cpu" else time.perf_counter
    before = clock()
    for pruned in islice(sparsify(stream, tokens, kernel=kernel, n=2, m=4), blocks):
        assert all(weight.device.type == torch.device(device).type for weight in pruned.values())
        wait(device)
        seconds.append(clock() - before)
        before = clock()
    memory = torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0
    return {"seconds": seconds, "memory": memory}


def wait(device: str) -> None:
    """Until the device has done all that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def in_process(source: Path, asked: argparse.Namespace, size: str, scorer: str, blocks: int | None) -> dict[str, Any]:
    """`measure` in a process of its own, with the build in `source`."""
    given = {"samples": asked.samples, "length": asked.length, "device": asked.device, "blocks": blocks}
    command = [sys.executable, "-m", "benchmarks.pruning.speed_gpu", "--child", json.dumps([size, scorer, given])]
    path = {"PYTHONPATH": os.pathsep.join((str(source / "src"), str(HERE)))}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=HERE, env=os.environ | path)
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def profile(asked: argparse.Namespace) -> None:
    """Print the operations of one block that take most, of the second of two, by the time on the device."""
    for size in asked.sizes.split(","):
        for scorer in asked.scorers.split(","):
            given = {"samples": asked.samples, "length": asked.length, "device": asked.device}
            measure(size, scorer, **given, blocks=1)
            with torch.profiler.profile() as made:
                measure(size, scorer, **given, blocks=1)
            by = "self_device_time_total" if asked.device.startswith("cuda") else "self_cpu_time_total"
            print(f"{size}, {scorer}\n{made.key_averages().table(sort_by=by, row_limit=15, max_name_column_width=60)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1B,8B", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--scorers", default="sparsegpt,wanda")
    parser.add_argument("--samples", type=int, default=32, help="calibration samples")
    parser.add_argument("--length", type=int, default=512, help="tokens in a sample")
    parser.add_argument("--blocks", type=int, help="decoder blocks that are pruned; default: all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="the top folder of an older build")
    parser.add_argument("--against-blocks", type=int, default=2, help="decoder blocks that it prunes")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, and nothing else")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        size, scorer, given = json.loads(asked.child)
        print(json.dumps(measure(size, scorer, **given)))
        return
    if asked.profile:
        profile(asked)
        return
    rows = []
    for size in asked.sizes.split(","):
        for scorer in asked.scorers.split(","):
            new = in_process(HERE, asked, size, scorer, asked.blocks)
            seconds, median = new["seconds"], statistics.median(new["seconds"][1:] or new["seconds"])
            cells = [size, scorer, str(len(seconds)), f"{sum(seconds):.1f}", f"{seconds[0]:.2f}", f"{median:.3f}"]
            cells.append(f"{new['memory'] / 1e9:.2f}")
            if asked.against:
                old = in_process(asked.against.resolve(), asked, size, scorer, asked.against_blocks)
                before = statistics.median(old["seconds"][1:] or old["seconds"])
                cells += [f"{before:.3f}", f"{old['memory'] / 1e9:.2f}", f"{before / median:.2f}"]
            print(" | ".join(cells), file=sys.stderr, flush=True)
            rows.append(cells)
    columns = ["shape", "scorer", "blocks", "seconds", "first", "median", "memory GB"]
    table(columns + (["older median", "older GB", "older / now"] if asked.against else []), rows)
    print(f"\n{asked.samples * asked.length} calibration tokens, bfloat16. {machine()}")


if __name__ == "__main__":
    main()
