"""Later benchmark scores of published runs, from the readings up to some tokens.

    python -m benchmarks.laws.scores PATH.csv --seen 40e9 --until 100e9

The table has a row for each score (`run, family, method, params_before, params_after, tokens, score_name, score`) or
a column for each benchmark (`score:NAME`). A run with a score above 1 is taken as percent. Columns that average others
are left out: the mean is predicted from the rest. The benchmarks of a run are fitted together, runs apart. Errors are
mean absolute errors in points. Beside each stand the same law of each benchmark alone, a power law of each benchmark
alone, E + B D^-beta of its error, and the last score seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from regrow.errors import RegrowError
from regrow.laws.baselines import errors as baseline_errors
from regrow.laws.observations import Observations
from regrow.laws.pooled.held_out import Held
from regrow.laws.pooled.pool import LEAST_READINGS, score_pools
from regrow.laws.pooled.score_held_out import hold_out_scores
from regrow.laws.pooled.scored import ALL, MEAN, names_of
from regrow.runs import RunRecord, from_table
from regrow.runs.table import read_table

LEVEL, DRAWS = 0.9, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--seen", type=float, default=40e9, help="tokens of the last reading that is fitted")
    parser.add_argument("--until", type=float, default=100e9, help="tokens of the last reading that is predicted")
    options = parser.parse_args()
    rows: list[list[float]] = []
    for run in from_table(in_fractions(read_table(options.table)), where=str(options.table)):
        run = replace(run, curve=tuple(point for point in run.curve if point.tokens <= options.until))
        found = held_out(run, options.seen)
        if found:
            rows += report(run, found, options.seen)
    if not rows:
        print(f"no run has readings before and after {options.seen:g} tokens")
        return
    print(f"\nevery benchmark of every run, {len(rows)}: " + line(np.mean(rows, axis=0)))


def in_fractions(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its scores as fractions: those of a run with a score above 1 are percentages."""
    columns = ["score"] if "score" in table.columns else [c for c in table.columns if str(c).startswith("score")]
    for index in table.groupby("run").groups.values():
        values = table.loc[index, columns]
        if float(values.max().max()) > 1:
            table.loc[index, columns] = values / 100
    return table


def held_out(run: RunRecord, seen: float) -> list[Held]:
    """Every benchmark of a run, and their mean last: the readings after `seen` from those before."""
    early = {name for p in run.curve if 0 < p.tokens <= seen for name in p.scores}
    late = {name for p in run.curve if p.tokens > seen for name in p.scores}
    read = sum(0 < p.tokens <= seen for p in run.curve)
    if read < LEAST_READINGS or not early & late:
        return []
    return predict(run, [name for name in names_of([run], ALL) if name in early & late], seen)


def predict(run: RunRecord, names: Sequence[str], seen: float) -> list[Held]:
    """These benchmarks fitted together, and what was predicted of each and of their mean; empty where it can't be."""
    split = partial(_after, seen=seen)
    try:
        (pool,) = score_pools([run], names, "method", skipped=[])
        found, why = hold_out_scores(pool, "tokens", "method", split, level=LEVEL, draws=DRAWS, seed=0)
    except RegrowError as refused:
        found, why = [], [str(refused)]
    for text in why:
        print(f"{run.run}: {text}")
    return [parts[0] for parts in found]


def _after(group: Observations, *, seen: float) -> list[np.ndarray]:
    return [group.x.tokens > seen]


def report(run: RunRecord, found: Sequence[Held], seen: float) -> list[list[float]]:
    """Prints a run's errors and gives those of its benchmarks, without the mean."""
    first, last = found[0].fitted.x.tokens, found[0].held.x.tokens
    print(f"\n{run.run}: {len(first)} readings to {first.max():.3g} tokens, {len(last)} to {last.max():.3g}")
    print(f"{'benchmark':24} {'law':>6} {'alone':>6} {'power':>6} {'last':>6}  covered  width")
    rows: list[list[float]] = []
    single: list[dict[float, float]] = []
    for part in found:
        at = part.held.x.tokens
        if part.held.benchmark != MEAN:
            (own,) = predict(run, [part.held.benchmark], seen)
            single.append(dict(zip(own.held.x.tokens, own.predicted, strict=True)))
            alone = own.predicted
        else:
            alone = np.mean([[one[tokens] for tokens in at] for one in single], axis=0)
        values = summary(part, float(np.abs(alone - part.held.loss).mean()))
        print(f"{part.held.benchmark:24} " + line(values))
        if part.held.benchmark != MEAN:
            rows.append(values)
    print(f"{'the benchmarks, averaged':24} " + line(np.mean(rows, axis=0)))
    return rows


def summary(part: Held, alone: float) -> list[float]:
    """Errors of the law, of it `alone`, of a power law and of the last score; the share inside the interval, and its
    width; fractions."""
    rivals = baseline_errors([(part.fitted, part.held)], "tokens", relative=False)
    inside = np.mean((part.held.loss >= part.low) & (part.held.loss <= part.high))
    error, width = np.abs(part.predicted - part.held.loss).mean(), np.mean(part.high - part.low)
    power, last = (np.nan if value is None else value for value in (rivals["power"], rivals["last"]))
    return [float(error), alone, power, last, float(inside), float(width)]


def line(values: Sequence[float] | np.ndarray) -> str:
    *errors, inside, width = values
    return " ".join(f"{100 * error:6.2f}" for error in errors) + f"  {inside:7.2f}  {100 * width:5.1f}"


if __name__ == "__main__":
    main()
