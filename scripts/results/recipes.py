"""What a token is worth under another learning rate and batch: ways to count, by held-out error."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from regrow.laws.pooled.fit import END, pools_of
from regrow.laws.regrowth.estimate import fit_hierarchy
from regrow.laws.regrowth.recipe import POWERS
from regrow.laws.regrowth.runs import RunCurve, log_over, usual_of
from regrow.runs import RunRecord
from results.terms import error_of

#: powers of the learning rate and the batch by which the tokens of a recovery are tried to go
WAYS = {
    "tokens as they are": (0.0, 0.0),
    "batch / rate: steps times rate": (-1.0, 1.0),
    "batch^0.8 / rate": (-1.0, 0.8),
    "**batch^0.6 / rate**": (POWERS["pace_rate"][1], POWERS["pace_batch"][1]),
    "batch^0.5 / rate": (-1.0, 0.5),
    "(batch / rate)^0.8": (-0.8, 0.8),
}
#: G0 in nats up to which a run of SmolLM2 lies within the damage of the ladder's runs
WITHIN = 2.0


def recipes_table(
    recipes: Sequence[RunRecord], ladder: Sequence[RunRecord], real: Sequence[RunRecord]
) -> Iterator[list[str]]:
    """Mean errors of what is predicted across recipes, gaps above the control, for each way to count tokens."""
    yield [
        "tokens of a recovery go as", "a recipe left out", "worst recipe", "all recipes from the ladder's one",
        f"SmolLM2 from the ladders, G0 up to {WITHIN:g}", "G0 above it",
    ]  # fmt: skip
    curves = [_curves(runs) for runs in (recipes, ladder, real)]
    with ProcessPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        waiting = {name: pool.submit(_errors, powers, *curves) for name, powers in WAYS.items()}
        for name, future in waiting.items():
            yield [name, *(f"{value:.4f}" for value in future.result())]


def _curves(records: Sequence[RunRecord]) -> list[RunCurve]:
    return [run for pool in pools_of(records, "all", baseline="control", skipped=[]) for run in pool.all_runs]


def _errors(
    powers: tuple[float, float], recipes: list[RunCurve], ladder: list[RunCurve], real: list[RunCurve]
) -> list[float]:
    """One row of the table."""
    usual = usual_of(ladder)

    def counted(run: RunCurve) -> RunCurve:
        logs = log_over(run.learning_rate, usual.learning_rate), log_over(run.batch_tokens, usual.batch_tokens)
        times = float(np.exp(powers[0] * logs[0] + powers[1] * logs[1]))
        return replace(run, tokens=run.tokens / times, warmup=run.warmup / times, learning_rate=None, batch_tokens=None)

    groups: dict[tuple[float | None, float | None], list[RunCurve]] = {}
    for run in recipes:
        groups.setdefault((run.learning_rate, run.batch_tokens), []).append(counted(run))
    left_out = []
    for name, held in groups.items():
        fitted = fit_hierarchy([run for other, runs in groups.items() if other != name for run in runs], end=END)
        left_out.append(float(np.mean([error_of(fitted, run) for run in held])))
    family = recipes[0].family
    of_ladder = fit_hierarchy([counted(run) for run in ladder if run.family == family], end=END)
    across = [error_of(of_ladder, run) for held in groups.values() for run in held]
    every = fit_hierarchy([counted(run) for run in ladder], end=END)
    light, heavy = (
        [error_of(every, counted(run)) for run in real if (run.gap_pruned <= WITHIN) == side] for side in (True, False)
    )
    return [float(np.mean(left_out)), max(left_out), *(float(np.mean(found)) for found in (across, light, heavy))]
