"""A law asked about a method that it has no runs of: does the interval hold?

Of each study every method is left out in turn, and predicted by the law of the other methods in two ways: as a law file
gives it (`regrow.laws.pooled.unseen`: the methods' laws, moved to their mean, with one more effect), and as the fit
itself draws it (`regrow validate --hold-out method`). The loss right after pruning is known, as `regrow plan` asks.

    python -m benchmarks.laws.unseen_method [STUDY.jsonl ...] [--draws 200]

Prints, per study and method and for all: the mean absolute error as a share of the loss, and the coverage and mean
width of the nominal 90% interval, by both ways. Width is a share of the loss.
"""

from __future__ import annotations

import argparse

import numpy as np

from regrow.laws import fit
from regrow.laws.observations import observe
from regrow.laws.pooled.unseen import law_without_runs
from regrow.laws.validation import validate
from regrow.runs import read_runs
from regrow.runs.record import RunRecord

STUDIES = ("studies/ladder-llama.jsonl", "studies/ladder-qwen2.jsonl")
LEVEL = 0.9


def by_law(records: list[RunRecord], method: str, draws: int) -> tuple[float, float, float, int]:
    """Error, coverage, width and number of readings of a method, by the law over the others."""
    laws = fit([run for run in records if run.method != method], form="regrowth", draws=draws)
    law = law_without_runs(laws, method)
    (group,) = observe([run for run in records if run.method == method], columns=law.formula.optional)
    group = group.keep(group.x.tokens > 0)
    low, high = law.interval(group.x, level=LEVEL)
    error = np.abs(law.loss(group.x) / group.loss - 1)
    held = (low <= group.loss) & (group.loss <= high)
    return float(error.mean()), float(held.mean()), float(((high - low) / group.loss).mean()), len(group)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", default=STUDIES)
    parser.add_argument("--draws", type=int, default=200)
    asked = parser.parse_args()
    print(f"{'family':12} {'method':8} {'readings':>8}  law file: error coverage width  the fit: error coverage width")
    every = []
    for path in asked.studies:
        records = read_runs(path)
        by_fit = {one.method: one for one in validate(records, "method", "regrowth", level=LEVEL, draws=asked.draws)}
        for method, exact in by_fit.items():
            error, coverage, width, count = by_law(records, method, asked.draws)
            every.append((error, coverage, width, exact.mape, exact.coverage, exact.width))
            show(exact.family, method, count, every[-1])
    show("all", "mean", 0, tuple(np.mean(every, axis=0)))


def show(family: str, method: str, count: int, row: tuple[float, ...]) -> None:
    """One line of the table."""
    mine, theirs = (f"{error:.4f} {coverage:8.2f} {width:.3f}" for error, coverage, width in (row[:3], row[3:]))
    print(f"{family:12} {method:8} {count or '':>8}            {mine}           {theirs}")


if __name__ == "__main__":
    main()
