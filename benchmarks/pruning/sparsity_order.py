"""Choices inside N:M pruning, compared by held-out loss: whose inputs a layer sees, and in which order SparseGPT goes.

    python -m benchmarks.pruning.sparsity_order tiny-llama-3m [--blocks 32] [--held-out 64] [--length 256] [--seeds 3]

`block`: all layers of a block see the inputs of the block while it is whole, after pruned blocks (what regrow does for
Wanda). `parts`: q, k and v are pruned first, then o on inputs that already come from pruned q, k and v, then gate and
up, then down (what regrow does for SparseGPT; it runs every part once). `largest first`: SparseGPT settles the groups
with the largest inputs first (what regrow does); `left to right`: as the columns stand, as in its paper. Each seed
draws other calibration blocks.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch

from regrow.data import read_documents, tokenize
from regrow.evaluation import evaluate
from regrow.ladder import find_corpus, find_model
from regrow.models import load_model, load_tokenizer
from regrow.pruning import choose_blocks, sparsegpt
from regrow.pruning.kernel import Notes, kernel_of
from regrow.pruning.sparsegpt import Factor, factor
from regrow.pruning.sparsify import Pruner, SparsityKernel, measure_inputs, summed, walk_parts
from regrow.pruning.stream import open_stream


@torch.no_grad()
def prune(model: torch.nn.Module, tokens: torch.Tensor, scorer: str, order: str) -> torch.nn.Module:
    """A 2:4 copy of the model."""
    result, stream = copy.deepcopy(model), open_stream(model)
    hidden, kernel = stream.embed(tokens), kernel_of("2:4", scorer)
    assert isinstance(kernel, SparsityKernel)
    assert kernel.statistic is not None
    for layer, block in stream.blocks():
        pruner = Pruner(stream, layer, block, kernel, (2, 4), Notes(), lambda line: None)
        if order == "parts":
            for group, inputs in walk_parts(stream, block, hidden):
                pruner.prune(group, summed(kernel.statistic, inputs))
        else:
            measured = measure_inputs(stream, block, hidden, kernel.statistic)
            for group, summary in measured.items():
                pruner.prune(group, summary)
            hidden = stream.run(block, hidden, out=hidden)
        for name, weight in pruner.stored.items():
            result.get_parameter(name).data.copy_(weight)
    return result


def left_to_right(hessian: torch.Tensor, m: int, *, where: str) -> Factor:
    """The factor with the columns as they stand: one group as wide as the layer."""
    return factor(hessian, len(hessian), where=where)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint folder or an embedded model")
    parser.add_argument("--blocks", type=int, default=32, help="calibration blocks")
    parser.add_argument("--held-out", type=int, default=64, help="held-out blocks")
    parser.add_argument("--length", type=int, default=256, help="tokens in a block")
    parser.add_argument("--seeds", type=int, default=3, help="draws of calibration blocks")
    parser.add_argument("--scorers", default="wanda,sparsegpt")
    asked = parser.parse_args()
    folder = find_model(asked.model)
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    train, held_out = (
        tokenize(read_documents(find_corpus("ladder", split))[:400], tokenizer, sequence_length=asked.length)
        for split in ("post_train", "held_out")
    )
    held_out = held_out.sample(asked.held_out, seed=0)
    print(f"{asked.model}, unpruned: {evaluate(model, held_out, batch_size=4).loss:.4f} nats/token")
    for scorer, order, columns in (
        ("wanda", "block", ""),
        ("wanda", "parts", ""),
        ("sparsegpt", "parts", "largest first"),
        ("sparsegpt", "block", "largest first"),
        ("sparsegpt", "parts", "left to right"),
    ):
        if scorer not in asked.scorers.split(","):
            continue
        sparsegpt.factor = left_to_right if columns == "left to right" else factor
        losses, began = [], time.process_time()
        for seed in range(asked.seeds):
            tokens = choose_blocks(train, count=asked.blocks, length=asked.length, seed=seed)
            pruned = prune(model, tokens, scorer, order)
            losses.append(evaluate(pruned, held_out, batch_size=4).loss)
        cpu = (time.process_time() - began) / asked.seeds
        shown = " ".join(f"{loss:.4f}" for loss in losses)
        how = ", ".join(word for word in (scorer, order, columns) if word)
        print(f"{how}: mean {statistics.mean(losses):.4f} ({shown}); {cpu:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
