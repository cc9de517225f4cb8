"""What a law says of each run, beside what the run measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.laws.objective import average_slope_difference
from regrow.laws.observations import Observations, observe
from regrow.runs.record import RunRecord

#: Coverage of the bands and intervals on the page.
LEVEL = 0.9
#: Points of a drawn curve; a power law on log axes is smooth.
_CURVE_POINTS = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class RunFit:
    """One run against its law: measured and predicted losses (nats/token) at its tokens, each [n].

    `held_out` is true for a run that the law was not fitted on. `share_inside` is the share of its checkpoints inside
    the law's interval of coverage `LEVEL` for a new run.
    """

    run: RunRecord
    held_out: bool
    tokens: np.ndarray
    loss: np.ndarray
    loss_before: np.ndarray
    predicted: np.ndarray
    share_inside: float | None

    @property
    def residual(self) -> np.ndarray:
        """Measured over predicted loss, minus one, [n]."""
        return self.loss / self.predicted - 1.0

    @property
    def mape(self) -> float:
        """Mean absolute error of the predicted loss, as a fraction of the measured."""
        return float(np.mean(np.abs(self.predicted / self.loss - 1.0)))

    @property
    def worst(self) -> float:
        """Largest absolute error of the predicted loss, as a fraction of the measured."""
        return float(np.max(np.abs(self.predicted / self.loss - 1.0)))

    @property
    def asd(self) -> float | None:
        """Average slope difference, nats per e-fold of tokens; None for fewer than two checkpoints."""
        return average_slope_difference(np.zeros(len(self.tokens)), self.tokens, self.loss, self.predicted)


def fits_of(law: Law, runs: Sequence[RunRecord], held_out: Sequence[RunRecord]) -> tuple[list[RunFit], list[str]]:
    """Every run of the law's family and method against the law, sizes and rates ascending; and what was left out, why.

    A run is held out if it is in `held_out`, or if its size or rate lies outside what the law was fitted on. Controls
    among the runs serve a law whose baseline is the control.
    """
    if law.status == "failed":
        return [], []
    controls = [r for r in (*runs, *held_out) if r.is_control and r.family == law.family]
    kept_out = {r.run for r in held_out}
    seen: dict[str, RunRecord] = {}
    for run in (*held_out, *runs):
        if run.family == law.family and run.method == law.method:
            seen.setdefault(run.run, run)
    fits, notes = [], []
    for run in sorted(seen.values(), key=lambda r: (r.params_before, r.pruning_rate, r.run)):
        try:
            observed = observe([run, *controls], baseline=law.baseline)[0]
            notes += [f"{run.run}: {note}" for note in observed.notes]
            fit = _fit(law, run, observed, held_out=run.run in kept_out or _outside(law, run))
        except InputError as error:
            notes.append(f"left out of the charts: {error}")
            continue
        if fit is None:
            notes.append(f"left out of the charts: run {run.run} has no checkpoint that the law covers")
        else:
            fits.append(fit)
    return fits, notes


def _fit(law: Law, run: RunRecord, observed: Observations, *, held_out: bool) -> RunFit | None:
    # at zero tokens several forms are infinite; the loss right after pruning stands in the table of runs
    observed = observed.keep(observed.tokens > 0)
    if not len(observed):
        return None
    inputs: dict[str, Any] = {
        "params_before": observed.params_before,
        "pruning_rate": observed.pruning_rate,
        "tokens": observed.tokens,
        "loss_before": observed.loss_before,
    }
    inside = None
    if len(law.draws):
        low, high = law.interval(**inputs, level=LEVEL)
        inside = float(np.mean((observed.loss >= low) & (observed.loss <= high)))
    return RunFit(
        run=run,
        held_out=held_out,
        tokens=observed.tokens,
        loss=observed.loss,
        loss_before=observed.loss_before,
        predicted=law.loss(**inputs),
        share_inside=inside,
    )


def _outside(law: Law, run: RunRecord) -> bool:
    """Whether a run's size or rate lies beyond every run that the law was fitted on."""
    for name, value in (("params_before", run.params_before), ("pruning_rate", run.pruning_rate)):
        low, high = law.ranges[name]
        if not low * (1 - 1e-6) <= value <= high * (1 + 1e-6):
            return True
    return False


def drawn_curve(law: Law, fit: RunFit) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Tokens [n], predicted loss [n] and its band (None without draws) along a run, for drawing."""
    tokens = np.geomspace(fit.tokens.min(), fit.tokens.max(), _CURVE_POINTS)
    inputs: dict[str, Any] = {
        "params_before": float(fit.run.params_before),
        "pruning_rate": fit.run.pruning_rate,
        "tokens": tokens,
        "loss_before": np.interp(np.log(tokens), np.log(fit.tokens), fit.loss_before),
    }
    low = high = None
    if len(law.draws):
        low, high = law.interval(**inputs, level=LEVEL)
    return tokens, law.loss(**inputs), low, high
