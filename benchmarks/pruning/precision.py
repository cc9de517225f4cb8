"""Held-out loss after pruning with float32 and with bf16 matrix products in the passes over calibration text.

    python -m benchmarks.pruning.precision [--scorers sparsegpt,wanda] [--precisions fp32,bf16] [--seeds 3]

SmolLM2-135M-Instruct in float32, pruned in memory: 2:4, and the feed-forward width 1536 -> 1229 for `least-squares` and
`activation`. `--blocks` blocks of 512 tokens to calibrate and `--held-out` to evaluate (in float32), of the first 400
documents of the embedded corpus's splits; each seed draws other calibration blocks. `CPU` is the processor time of the
pruning.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from benchmarks.models.smollm2 import smollm2
from benchmarks.pruning.common import LENGTH, texts

from regrow.evaluation import evaluate
from regrow.models import load_model, load_tokenizer
from regrow.pruning import PruneSpec, choose_blocks, prune_model

#: What is pruned by scorers that are not for N:M.
WIDTH = {"method": "width", "shape": {"intermediate": 1229}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scorers", default="sparsegpt,wanda,least-squares")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--seeds", type=int, default=3, help="draws of calibration blocks")
    parser.add_argument("--blocks", type=int, default=8, help="calibration blocks of 512 tokens")
    parser.add_argument("--held-out", type=int, default=16, help="held-out blocks of 512 tokens")
    asked = parser.parse_args()
    folder = smollm2()
    train, held_out = texts(load_tokenizer(folder), held_out=asked.held_out)
    model = load_model(folder, dtype=torch.float32)
    print(f"| scorer | products | {' | '.join(f'seed {seed}' for seed in range(asked.seeds))} | mean | CPU s |")
    print(f"|{'---|' * (4 + asked.seeds)}", flush=True)
    for scorer in asked.scorers.split(","):
        given = WIDTH if scorer in ("least-squares", "activation") else {"method": "2:4"}
        spec = PruneSpec(**given, scorer=scorer)
        for precision in asked.precisions.split(","):
            losses, times = [], []
            for seed in range(asked.seeds):
                tokens = choose_blocks(train, count=asked.blocks, length=LENGTH, seed=seed)
                began = time.process_time()
                pruned, _ = prune_model(model, spec, tokens, precision=precision)
                times.append(time.process_time() - began)
                losses.append(evaluate(pruned, held_out, batch_size=4).loss)
            cells = [f"{loss:.4f}" for loss in (*losses, statistics.mean(losses))]
            print(f"| `{scorer}` | {precision} | {' | '.join(cells)} | {statistics.median(times):.1f} |", flush=True)


if __name__ == "__main__":
    main()
