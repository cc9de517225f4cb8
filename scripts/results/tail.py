"""The tail: the gap that is left 16 times beyond the tokens that the laws are fitted to, on what was held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from regrow.laws import Law, Setting, fit
from regrow.laws.pooled.fit import fit_pool, law_for, pools_of
from regrow.laws.setting import REFITTED
from regrow.laws.smoothing import smooth_curve
from regrow.runs import RunRecord
from results.regrowth import setting_of
from results.stopping import gaps_of

#: how many times the tokens of the longest fitted run
TIMES = 16.0


def tail_table(short: Sequence[RunRecord], long: Sequence[RunRecord]) -> Iterator[list[str]]:
    """Mean error of the gap in nats/token where a run is `TIMES` times beyond the fit."""
    yield ["held out", "runs", "`regrowth`", "of these refitted", "others", "`p2`"]
    found = list(_errors(short, long))
    for words, column in (("the size", 1), ("the size and the method", 2)):
        errors = np.array([row[column] for row in found])
        refitted = np.array([row[0] for row in found])
        p2 = [row[3] for row in found if row[3] is not None]
        yield [
            words, str(len(found)), f"{errors.mean():.4f}", f"{errors[refitted].mean():.4f}",
            f"{errors[~refitted].mean():.4f}", f"{np.mean(p2):.4f}" if column == 1 and p2 else "cannot",
        ]  # fmt: skip


def _errors(short: Sequence[RunRecord], long: Sequence[RunRecord]) -> Iterator[tuple[bool, float, float, float | None]]:
    """Of each long run: whether its weights were solved again, and the errors of its gap by each law."""
    controls = {(r.family, r.params_before): r for r in long if r.is_control}
    most = max(run.curve[-1].tokens for run in short)

    @cache
    def others(family: str, size: int) -> list[RunRecord]:
        return [r for r in short if r.family == family and r.params_before != size]

    @cache
    def laws(family: str, size: int, form: str) -> dict[str, Law]:
        return {law.method: law for law in fit(others(family, size), form=form, baseline="control")}

    for run in long:
        control = controls.get((run.family, run.params_before))
        if run.is_control or control is None or run.curve[-1].tokens < TIMES * most:
            continue
        tokens, gaps = gaps_of(run, control)
        late = tokens[tokens >= TIMES * most]
        left = smooth_curve(tokens, gaps).mean(late)
        place = run.family, run.params_before

        def error(law: Law, run: RunRecord = run, late: np.ndarray = late, left: np.ndarray = left) -> float:
            x: Setting = setting_of(run, law).at(late)
            return float(np.mean(np.abs(law.loss(x) - run.loss_before - left)))

        by_p2 = laws(*place, "p2").get(run.method)
        yield (
            bool(REFITTED.read(run)[0] == 1),
            error(laws(*place, "regrowth")[run.method]),
            error(_without(others(*place), run.method)),
            None if by_p2 is None else error(by_p2),
        )


def _without(runs: Sequence[RunRecord], method: str) -> Law:
    """The law of a method of which no run is fitted."""
    kept = [run for run in runs if run.method != method]
    (pool,) = pools_of(kept, "family", baseline="control", skipped=[])
    fitted = fit_pool(pool.all_runs, pool.drifts)
    return law_for(fitted, replace(pool.groups[0], method=method), baseline="control", draws=2, seed=0)
