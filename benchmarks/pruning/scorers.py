"""Held-out loss right after pruning by each scorer, on one model: which measure picks best before any training.

    python -m benchmarks.pruning.scorers tiny-llama-3m --method depth --rates 0.17,0.25,0.33
    python -m benchmarks.pruning.scorers tiny-llama-3m --method width --rates 0.1,0.2,0.3 --axes intermediate

Calibration text is from the embedded corpus's training split, the evaluation from its held-out split. The weights are
read in float32. Prints one Markdown row per scorer; `random` is the mean of five seeds.
"""

from __future__ import annotations

import argparse
import time

import torch

from regrow.data import read_blocks
from regrow.evaluation import evaluate
from regrow.ladder import find_corpus, find_model
from regrow.models.load import load_model, load_tokenizer
from regrow.pruning import PruneSpec, choose_blocks, prune_model
from regrow.pruning.scorers import find_scorer, scorers_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint folder or an embedded model")
    parser.add_argument("--method", choices=("depth", "width"), default="depth")
    parser.add_argument("--rates", default="0.15,0.25,0.35")
    parser.add_argument("--axes", help="width only, e.g. intermediate")
    parser.add_argument("--scorers", help="some of them, with commas; all by default")
    parser.add_argument("--length", type=int, default=256, help="tokens in a block")
    parser.add_argument("--calibration-blocks", type=int, default=32)
    parser.add_argument("--held-out-blocks", type=int, default=64)
    asked = parser.parse_args()

    folder = find_model(asked.model)
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    text = read_blocks(find_corpus("ladder", "post_train"), tokenizer, sequence_length=asked.length)
    held_out = read_blocks(find_corpus("ladder", "held_out"), tokenizer, sequence_length=asked.length)
    held_out = held_out.sample(asked.held_out_blocks, seed=0)
    tokens = choose_blocks(text, count=asked.calibration_blocks, length=asked.length, seed=0)
    rates = [float(rate) for rate in asked.rates.split(",")]
    before = evaluate(model, held_out, batch_size=4)
    print(
        f"{asked.model}: {before.loss:.4f} nats/token before, {before.tokens} held-out tokens, {tokens.numel()} of text"
    )
    print(f"| scorer | {' | '.join(f'{rate:g}' for rate in rates)} | seconds |")
    print(f"|---|{'---|' * (len(rates) + 1)}", flush=True)
    chosen = asked.scorers.split(",") if asked.scorers else [scorer.name for scorer in scorers_of(asked.method)]
    for scorer in chosen:
        for iterative in (False, True) if find_scorer(asked.method, scorer).iterative else (False,):
            cells, seconds = [], 0.0
            for rate in rates:
                losses = []
                for seed in range(5 if scorer == "random" else 1):
                    spec = PruneSpec(
                        method=asked.method,
                        rate=rate,
                        scorer=scorer,
                        iterative=iterative,
                        axes=tuple(asked.axes.split(",")) if asked.axes else None,
                        search=1,
                        seed=seed,
                    )
                    start = time.perf_counter()
                    pruned, plan = prune_model(model, spec, tokens)
                    seconds += time.perf_counter() - start
                    losses.append(evaluate(pruned, held_out, batch_size=4).loss)
                cells.append(f"{sum(losses) / len(losses):.4f} ({plan.pruning_rate:.3f})")
            name = f"{scorer}, iterative" if iterative else scorer
            print(f"| {name} | {' | '.join(cells)} | {seconds / len(rates):.1f} |", flush=True)


if __name__ == "__main__":
    main()
