"""What learning rate and batch do to recovery and to the drift of a control, from the records in `studies/`.

    python -m benchmarks.training.recipes

Runs nothing. The first table reads `studies/recipe-llama.jsonl`: the loss above the unpruned model's at one
number of tokens, by the ratio of learning rate and batch. The second reads `studies/drift-llama*.jsonl`: how far
the loss of an unpruned model has risen. Losses in nats/token, one seed.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from regrow.runs import RunRecord, read_archive

STUDIES = Path(__file__).parents[2] / "studies"
#: The ladder's own recipe; ratios are to it.
USUAL_RATE, USUAL_BATCH = 3e-4, 1024


def recipe_of(run: RunRecord) -> tuple[float, int]:
    """Learning rate and tokens a batch."""
    train = (run.spec or {})["train"]
    return float(train["learning_rate"]), int(train["batch_tokens"])


def rise(run: RunRecord, tokens: int) -> float:
    """The loss at exactly so many tokens above the unpruned model's."""
    return next(point.loss for point in run.curve if point.tokens == tokens) - run.loss_before


def pace_table(tokens: int) -> list[str]:
    """A line for every recipe: the mean rise of depth and of 2:4 at so many tokens, and the control's at the end."""
    groups: dict[tuple[float, int], list[RunRecord]] = defaultdict(list)
    for run in read_archive(STUDIES / "recipe-llama.jsonl"):
        groups[recipe_of(run)].append(run)
    lines = [
        "| rate | batch | rate/batch | depth | 2:4 | control at the end |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (rate, batch), runs in sorted(groups.items(), key=lambda one: (one[0][0] / one[0][1], one[0][1])):
        means = {}
        for method in ("depth", "2:4"):
            rises = [rise(run, tokens) for run in runs if run.method == method]
            means[method] = sum(rises) / len(rises)
        control = next(run for run in runs if run.pruning_rate == 0)
        ratio = rate / batch / (USUAL_RATE / USUAL_BATCH)
        drift = rise(control, control.curve[-1].tokens)
        cells = [f"{rate:.2g}", f"{batch:,}", f"{ratio:g}", *(f"{v:.3f}" for v in means.values()), f"{drift:.4f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def drift_table() -> list[str]:
    """A line for every recipe of the control: its rise at a quarter of the tokens and at the end."""
    lines = ["| rate | batch | schedule | text | at 1.05M | at 4.19M |", "|" + " --- |" * 6]
    for name, text in (("drift-llama", "post-training"), ("drift-llama-mixed", "a third of pretraining")):
        for run in sorted(read_archive(STUDIES / f"{name}.jsonl"), key=lambda r: (recipe_of(r), str(r.schedule))):
            rate, batch = recipe_of(run)
            ends = [f"{rise(run, tokens):.4f}" for tokens in (1_048_576, 4_194_304)]
            lines.append(f"| {' | '.join([f'{rate:.2g}', f'{batch:,}', str(run.schedule), text, *ends])} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=49_152, help="tokens of the first table; default %(default)s")
    print("\n".join([*pace_table(parser.parse_args().tokens), "", *drift_table()]))
