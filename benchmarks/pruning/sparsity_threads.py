"""How far SparseGPT's choices depend on the order of its sums: the same pruning on one thread and on two.

    python -m benchmarks.pruning.sparsity_threads [--model DIR] [--blocks 8] [--held-out 8]

The default model is SmolLM2-135M-Instruct (see smollm2.py), float32, on calibration blocks of 512 tokens. Printed for
each number of threads: the held-out loss, and the share of the places in the masks that differ from one thread's.
One thread comes twice, so that what repeats is seen too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from benchmarks.models.smollm2 import smollm2
from benchmarks.pruning.common import LENGTH, texts

from regrow.evaluation import evaluate
from regrow.models import load_model, load_tokenizer
from regrow.models.masks import zero_masks
from regrow.pruning import PruneSpec, choose_blocks, prune_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a checkpoint folder; default: SmolLM2-135M-Instruct")
    parser.add_argument("--blocks", type=int, default=8, help="calibration blocks of 512 tokens")
    parser.add_argument("--held-out", type=int, default=8, help="held-out blocks of 512 tokens")
    asked = parser.parse_args()
    folder = asked.model or smollm2()
    train, held_out = texts(load_tokenizer(folder), held_out=asked.held_out)
    tokens = choose_blocks(train, count=asked.blocks, length=LENGTH, seed=0)
    model, first = load_model(folder, dtype=torch.float32), None
    print("| threads | held-out loss | places that differ |\n|---|---|---|", flush=True)
    for threads in (1, 1, 2):
        torch.set_num_threads(threads)
        pruned, _ = prune_model(model, PruneSpec(method="2:4", scorer="sparsegpt"), tokens)
        masks = zero_masks(pruned)
        first = masks if first is None else first
        differ = sum(int((mask != first[name]).sum()) for name, mask in masks.items())
        share = differ / sum(mask.numel() for mask in masks.values())
        print(f"| {threads} | {evaluate(pruned, held_out, batch_size=4).loss:.4f} | {share:.3f} |", flush=True)


if __name__ == "__main__":
    main()
