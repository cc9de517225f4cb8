"""What a law says of each run, beside what the run measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.laws.objective import average_slope_difference
from regrow.laws.observations import Observations, observe, of_loss
from regrow.laws.setting import BASIC, Setting
from regrow.runs.record import RunRecord

#: Coverage of the bands and intervals on the page.
LEVEL = 0.9
#: Points of a drawn curve; a power law on log axes is smooth.
_CURVE_POINTS = 40
#: The most checkpoints that are drawn and listed, of all runs and of one, and the fewest of one run. More could not be
#: distinguished, and each takes about 600 bytes.
_DRAWN, _DRAWN_PER_RUN, _LEAST_PER_RUN = 4000, 40, 8


@dataclass(frozen=True, kw_only=True, eq=False)
class RunFit:
    """One run against its law: measured and predicted losses (nats/token) at its checkpoints `x`, each [n].

    `held_out` is true for a run that the law was not fitted on. `kept` [at most n] are the indices of the checkpoints
    to draw: all, or of a long run an even choice. `share_inside` is the share of those inside the law's interval of
    coverage `LEVEL` for a new run.
    """

    run: RunRecord
    held_out: bool
    x: Setting
    loss: np.ndarray
    predicted: np.ndarray
    kept: np.ndarray
    share_inside: float | None

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of the checkpoints."""
        return self.x.tokens

    @property
    def drawn(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens, measured and predicted losses of the checkpoints to draw."""
        return self.tokens[self.kept], self.loss[self.kept], self.predicted[self.kept]

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
    most = int(np.clip(_DRAWN // max(len(runs) + len(held_out), 1), _LEAST_PER_RUN, _DRAWN_PER_RUN))
    fits, notes = [], []
    for run in sorted(seen.values(), key=lambda r: (r.params_before, r.pruning_rate, r.run)):
        try:
            records = of_loss([run, *controls], law.loss_kind)
            observed = observe(records, baseline=law.baseline, columns=law.formula.columns)[0]
            notes += [f"{run.run}: {note}" for note in observed.notes]
            fit = _fit(law, run, observed, most, held_out=run.run in kept_out or _outside(law, run))
        except InputError as error:
            notes.append(f"left out of the charts: {error}")
            continue
        if fit is None:
            notes.append(f"left out of the charts: run {run.run} has no checkpoint that the law covers")
        else:
            fits.append(fit)
    return fits, notes


def _fit(law: Law, run: RunRecord, observed: Observations, most: int, *, held_out: bool) -> RunFit | None:
    # at zero tokens several forms are infinite; the loss right after pruning stands in the table of runs
    known = ~np.any([np.isnan(observed.x[name]) for name in law.formula.uses], axis=0)
    observed = observed.keep(known & (observed.x.tokens > 0))
    if not len(observed):
        return None
    kept = _evenly(observed.x.tokens, most)
    inside = None
    if len(law.draws):
        low, high = law.interval(observed.x.keep(kept), level=LEVEL)
        inside = float(np.mean((observed.loss[kept] >= low) & (observed.loss[kept] <= high)))
    return RunFit(
        run=run,
        held_out=held_out,
        x=observed.x,
        loss=observed.loss,
        predicted=law.loss(observed.x),
        kept=kept,
        share_inside=inside,
    )


def _evenly(tokens: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most `most` of the rising tokens [n], even on a log scale, the first and the last among them."""
    if len(tokens) <= most:
        return np.arange(len(tokens))
    even = np.geomspace(tokens[0], tokens[-1], most)
    return np.unique(np.searchsorted(tokens, even * (1 - 1e-9)))


def _outside(law: Law, run: RunRecord) -> bool:
    """Whether a run's size or rate, or what else a study sets, lies beyond every run that the law was fitted on."""
    for column in {column.name: column for column in (*BASIC, *law.formula.columns)}.values():
        if column.designed and run.curve:
            low, high = law.ranges[column.name]
            if not low * (1 - 1e-6) <= column.read(run)[0] <= high * (1 + 1e-6):
                return True
    return False


def drawn_curve(law: Law, fit: RunFit) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Tokens [n], predicted loss [n] and its band (None without draws) along a run, for drawing."""
    tokens = np.geomspace(fit.tokens.min(), fit.tokens.max(), _CURVE_POINTS)
    # the other inputs are the run's, and the control's loss changes with the tokens
    rest = {name: np.interp(np.log(tokens), np.log(fit.tokens), values) for name, values in fit.x.items()}
    x = Setting(**rest).at(tokens)
    low = high = None
    if len(law.draws):
        low, high = law.interval(x, level=LEVEL)
    return tokens, law.loss(x), low, high
