"""What a law says of each run, beside what the run measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.laws.objective import average_slope_difference
from regrow.laws.observations import Observations, observe
from regrow.laws.setting import BASIC, Setting
from regrow.report.scored import records_of
from regrow.runs.record import RunRecord

Number = TypeVar("Number", int, float)

#: Coverage of the bands and intervals on the page.
LEVEL = 0.9
#: Points of a drawn curve; a power law on log axes is smooth.
_CURVE_POINTS = 24
#: The most checkpoints that are drawn and listed, and the most that are compared with the band, of all runs. More could
#: not be distinguished, and the page stays small.
_DRAWN, _COMPARED = 600, 4000
#: The most and the fewest of one run.
_MOST_PER_RUN, _LEAST_PER_RUN = 40, 8
#: Runs of a report that are all drawn. Of more, each law draws its share, and at least so many: an even choice.
_RUNS, _LEAST_RUNS = 200, 4
#: Sizes, rates and runs alike of such a choice at most.
_SIZES, _RATES, _ALIKE = 8, 8, 3


@dataclass(frozen=True, kw_only=True, eq=False)
class RunFit:
    """One run against its law: measured and predicted losses (nats/token) at its checkpoints `x`, each [n].

    `held_out` is true for a run that the law was not fitted on. `kept` [at most n] are the indices of the checkpoints
    to draw: all, of a long run an even choice, and none of a run that is not drawn. `share_inside` is the share of an
    even choice of checkpoints inside the law's interval of coverage `LEVEL` for a new run, and `compared` their number.
    """

    run: RunRecord
    held_out: bool
    x: Setting
    loss: np.ndarray
    predicted: np.ndarray
    kept: np.ndarray
    share_inside: float | None
    compared: int

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of the checkpoints."""
        return self.x.tokens

    @property
    def shown(self) -> bool:
        """Whether the run is drawn."""
        return len(self.kept) > 0

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


def thinned(law: Law, most: int) -> Law:
    """The law with at most `most` of its draws, an even choice: enough to draw bands by."""
    step = -(-len(law.draws) // most)
    if step <= 1:
        return law
    sizes = {size: np.concatenate([rows[:1], rows[1::step]]) for size, rows in law.sizes.items()}
    return replace(law, draws=law.draws[::step], sizes=sizes)


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
    ordered = sorted(seen.values(), key=lambda r: (r.params_before, r.pruning_rate, r.run))
    observed: list[tuple[RunRecord, Observations]] = []
    notes = []
    for run in ordered:
        try:
            own = records_of(law, [run, *controls])
            found = _observed(law, own)
        except InputError as error:
            notes.append(f"left out of the charts: {error}")
            continue
        notes += [f"{run.run}: {note}" for note in found.notes]
        if len(found):
            observed.append((next(one for one in own if one.run == run.run), found))
        else:
            notes.append(f"left out of the charts: run {run.run} has no checkpoint that the law covers")
    everything = len(runs) + len(held_out)
    held = [run.run in kept_out or _outside(law, run) for run, _ in observed]
    shown: set[int] = set()
    for kind, what in ((False, "fitted"), (True, "held out")):
        mine = [i for i, out in enumerate(held) if out == kind]
        share = max(_LEAST_RUNS, _RUNS * len(mine) // everything) if everything > _RUNS else len(mine)
        few = _even_runs([observed[i][0] for i in mine], share)
        shown |= {mine[i] for i in few}
        if len(few) < len(mine):
            notes.append(
                f"{len(few)} of {len(mine)} {what} runs of {law.family}, {law.method} are drawn, evenly over sizes and "
                "rates; the tables and the errors are of all"
            )
    drawn, compared = (_per_run(most, everything) for most in (_DRAWN, _COMPARED))
    return _fits(law, observed, held, shown, drawn=drawn, compared=compared), notes


def _per_run(most: int, runs: int) -> int:
    """How many of so many checkpoints one of the runs has."""
    return int(np.clip(most // max(runs, 1), _LEAST_PER_RUN, _MOST_PER_RUN))


def _observed(law: Law, records: Sequence[RunRecord]) -> Observations:
    """What the law can be asked of a run: checkpoints above zero tokens at which all that it reads is known."""
    observed = observe(records, baseline=law.baseline, columns=law.formula.columns)[0]
    # at zero tokens several forms are infinite; the loss right after pruning stands in the table of runs
    known = ~np.any([np.isnan(observed.x[name]) for name in law.formula.uses], axis=0)
    return observed.keep(known & (observed.x.tokens > 0))


def _fits(
    law: Law,
    observed: Sequence[tuple[RunRecord, Observations]],
    held: Sequence[bool],
    shown: set[int],
    *,
    drawn: int,
    compared: int,
) -> list[RunFit]:
    if not observed:
        return []
    chosen = [_evenly(seen.x.tokens, compared) for _, seen in observed]
    # the law is asked once for all runs: a call takes as long for one point as for many
    predicted = _split(law.loss(_joined([seen.x for _, seen in observed])), [len(seen) for _, seen in observed])
    inside: list[float | None] = [None] * len(observed)
    if len(law.draws):
        x = _joined([seen.x.keep(picked) for (_, seen), picked in zip(observed, chosen, strict=True)])
        losses = np.concatenate([seen.loss[picked] for (_, seen), picked in zip(observed, chosen, strict=True)])
        low, high = law.interval(x, level=LEVEL)
        parts = _split((losses >= low) & (losses <= high), [len(picked) for picked in chosen])
        inside = [float(np.mean(part)) for part in parts]
    return [
        RunFit(
            run=run,
            held_out=held[i],
            x=seen.x,
            loss=seen.loss,
            predicted=predicted[i],
            kept=_evenly(seen.x.tokens, drawn) if i in shown else chosen[i][:0],
            share_inside=inside[i],
            compared=len(chosen[i]),
        )
        for i, (run, seen) in enumerate(observed)
    ]


def _joined(parts: Sequence[Setting]) -> Setting:
    """Settings of the same columns, one behind the other."""
    return Setting(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _split(values: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    return np.split(values, np.cumsum(lengths)[:-1])


def _even_runs(runs: Sequence[RunRecord], most: int) -> list[int]:
    """Indices of at most `most` runs to draw: all, or an even choice of sizes, rates and runs alike.

    The rates are chosen for all sizes together and each size gives its nearest ones, so that a legend stays short.
    """
    if len(runs) <= most:
        return list(range(len(runs)))
    sizes = spaced(sorted({run.params_before for run in runs}), min(_SIZES, most))
    wanted = spaced(sorted({run.pruning_rate for run in runs}), min(_RATES, most // len(sizes)))
    alike = min(_ALIKE, most // (len(sizes) * len(wanted)))
    chosen: list[int] = []
    for size in sizes:
        by_rate: dict[float, list[int]] = {}
        for i, run in enumerate(runs):
            if run.params_before == size:
                by_rate.setdefault(run.pruning_rate, []).append(i)
        rates = {min(by_rate, key=lambda rate: abs(rate - target)) for target in wanted}
        chosen += [i for rate in rates for i in by_rate[rate][:alike]]
    return sorted(chosen)


def spaced(values: Sequence[Number], most: int) -> list[Number]:
    """At most so many of the rising values, evenly by rank: the first and the last among them, or the middle one."""
    if len(values) <= most:
        return list(values)
    places = np.linspace(0, len(values) - 1, most) if most > 1 else np.array([(len(values) - 1) / 2])
    return [values[i] for i in np.unique(places.round().astype(int))]


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
