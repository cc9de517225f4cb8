"""Tokens per second of a held-out evaluation, in this build and in another one, in turns.

    python -m benchmarks.training.evaluation --against CHECKOUT [--model tiny-llama-3m] [--blocks 16] [--repeats 3]

Every measurement is a process of its own: the ladder's held-out text in blocks of 256 tokens, fp32, one thread,
processor time, median of three evaluations after a short one. The losses of both builds are printed in full. The other
build is the folder of another checkout (`git worktree add ../then COMMIT`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.training.common import machine, model_folder, table

HERE = Path(__file__).resolve().parents[2]
#: what both builds run: a model's folder and how many blocks, as JSON
CHILD = """
import json, resource, statistics, sys, time
import torch
from regrow.data import read_blocks
from regrow.evaluation import evaluate
from regrow.ladder import find_corpus
from regrow.models import memory
from regrow.models.load import load_model, load_tokenizer

if hasattr(memory, "keep_freed_memory"):  # as the commands do
    memory.keep_freed_memory()
folder, count = json.loads(sys.argv[1])
model = load_model(folder, dtype=torch.float32)
blocks = read_blocks(find_corpus("ladder", "held_out"), load_tokenizer(folder), sequence_length=256)
blocks = blocks.sample(count, seed=0)
evaluate(model, blocks.sample(4, seed=0))
speeds = []
for _ in range(3):
    start = time.process_time()
    loss = evaluate(model, blocks).loss
    speeds.append(blocks.n_tokens / (time.process_time() - start))
print(json.dumps([statistics.median(speeds), loss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def measure(checkout: Path, folder: str, count: int) -> tuple[float, float, float]:
    """Tokens per second, the loss and the peak memory (GiB) of a build."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([folder, count])],
        env={**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return tuple(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="the folder of another checkout")
    parser.add_argument("--model", default="tiny-llama-3m", help="a ladder model, a checkpoint folder, or smollm2")
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    ask = parser.parse_args()
    builds = {"other": ask.against.resolve(), "this": HERE}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in builds}
    for repeat in range(ask.repeats):
        for name in list(builds)[:: 1 if repeat % 2 == 0 else -1]:
            found[name].append(measure(builds[name], model_folder(ask.model), ask.blocks))
    print(f"{ask.model}, {ask.blocks} blocks, {machine()}")
    rows = []
    for name, results in found.items():
        ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in zip(results, found["other"], strict=True))
        speed, memory = (statistics.median(result[i] for result in results) for i in (0, 2))
        rows.append([name, f"{speed:,.0f}", f"{ratio:.2f}", f"{memory:.2f}", f"{results[0][1]:.12f}"])
    table(["build", "tokens/s", "of the other build", "peak GiB", "loss"], rows)


if __name__ == "__main__":
    main()
