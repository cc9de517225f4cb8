"""Two choices inside N:M pruning, compared by held-out loss: whose inputs a layer sees, and how SparseGPT picks.

    python benchmarks/sparsity_order.py tiny-llama-3m [--blocks 32] [--held-out 64] [--length 256]

`block`: all layers of a block see the inputs of the block while it is whole, after pruned blocks (what regrow does).
`parts`: q, k and v are pruned first, then o on inputs that already come from pruned q, k and v, then gate and up, then
down. `all choices`: SparseGPT tries every way to keep 2 of 4 and takes the one of least error (what regrow does);
`ranked`: by w^2 / U[i, i]^2, as in its paper.
"""

from __future__ import annotations

import argparse
import copy

import torch

from regrow.data import read_documents, tokenize
from regrow.evaluation import evaluate
from regrow.ladder import find_corpus, find_model
from regrow.models import load_model, load_tokenizer
from regrow.pruning import choose_blocks, sparsegpt
from regrow.pruning.sparsegpt import Hessian
from regrow.pruning.sparsify import GROUPS, Notes, SquaredNorms, _Pruner, measure_inputs
from regrow.pruning.stream import open_stream


def prune(model: torch.nn.Module, tokens: torch.Tensor, scorer: str, order: str) -> torch.nn.Module:
    """A 2:4 copy of the model."""
    result, stream = copy.deepcopy(model), open_stream(model)
    hidden, statistic = stream.embed(tokens), Hessian if scorer == "sparsegpt" else SquaredNorms
    for layer, block in stream.blocks():
        pruner = _Pruner(stream, layer, block, scorer, (2, 4), Notes(), lambda line: None)
        measured = measure_inputs(stream, block, hidden, statistic)
        for number, linears in enumerate(GROUPS):
            if order == "parts" and number:
                measured = measure_inputs(stream, block, hidden, statistic)
            pruner.prune(linears, measured[linears])
        hidden = stream.run(block, hidden)
        for name, weight in pruner.stored.items():
            result.get_parameter(name).data.copy_(weight)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint folder or an embedded model")
    parser.add_argument("--blocks", type=int, default=32, help="calibration blocks")
    parser.add_argument("--held-out", type=int, default=64, help="held-out blocks")
    parser.add_argument("--length", type=int, default=256, help="tokens in a block")
    asked = parser.parse_args()
    folder = find_model(asked.model)
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    train, held_out = (
        tokenize(read_documents(find_corpus("ladder", split))[:400], tokenizer, sequence_length=asked.length)
        for split in ("post_train", "held_out")
    )
    held_out = held_out.sample(asked.held_out, seed=0)
    tokens = choose_blocks(train, count=asked.blocks, length=asked.length, seed=0)
    print(f"{asked.model}, unpruned: {evaluate(model, held_out, batch_size=4).loss:.4f} nats/token")
    for scorer, order, choices in (
        ("wanda", "parts", None),
        ("wanda", "block", None),
        ("sparsegpt", "parts", 70),
        ("sparsegpt", "block", 70),
        ("sparsegpt", "parts", 0),
        ("sparsegpt", "block", 0),
    ):
        if choices is not None:
            sparsegpt.MAX_CHOICES = choices
        loss = evaluate(prune(model, tokens, scorer, order), held_out, batch_size=4).loss
        picked = "" if choices is None else ", all choices" if choices else ", ranked"
        print(f"{scorer}, {order}{picked}: {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
