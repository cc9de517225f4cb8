"""The trends a law of pruned models must show, and D* over the sizes and rates of a law's runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.laws.law import Law
from regrow.laws.setting import BASIC_NAMES, Setting
from regrow.planning.criteria import Gain
from regrow.planning.curves import Curves
from regrow.planning.solve import optimal_tokens
from regrow.planning.trends import Trend, check_trends
from regrow.report.curves import RunFit, spaced

#: Rates closer than this have one column: different sizes rarely reach exactly the same rate.
_SAME_RATE = 0.02
#: Sizes and rates of the table at most; of more an even choice.
_ROWS, _COLUMNS = 8, 8


@dataclass(frozen=True, kw_only=True)
class Cell:
    """D* by the gain criterion at one size and rate; None where no number of tokens is enough.

    `measured`: whether runs are of this size and rate. `known`: whether D* can be asked at all; a law that reads more
    than size, rate and loss before pruning is only asked where there are runs.
    """

    tokens: float | None
    measured: bool
    known: bool = True


@dataclass(frozen=True, kw_only=True)
class Trends:
    """What `check_trends` says, and D* by `criterion` for each size (rows) and rate (columns) among the runs."""

    criterion: str
    checks: tuple[Trend, ...]
    rates: tuple[float, ...]
    rows: tuple[tuple[float, tuple[Cell, ...]], ...]


def trends_of(law: Law, fits: Sequence[RunFit], *, min_gain: float = Gain.min_gain) -> Trends | None:
    """The law's trends over its fitted range, with D* at the sizes and rates of `fits`. None without any run."""
    if not fits:
        return None
    before = {fit.run.params_before: fit.run.known_loss_before for fit in fits}
    sizes = spaced(sorted(before), _ROWS)
    rates = spaced(_distinct([fit.run.pruning_rate for fit in fits]), _COLUMNS)
    seen: dict[tuple[float, float], list[RunFit]] = {}
    for fit in fits:
        rate = _nearest(rates, fit.run.pruning_rate)
        if abs(fit.run.pruning_rate - rate) <= _SAME_RATE:
            seen.setdefault((fit.run.params_before, rate), []).append(fit)
    rows = tuple(
        (
            float(size),
            tuple(_cell(law, size, rate, before[size], seen.get((size, rate), []), min_gain) for rate in rates),
        )
        for size in sizes
    )
    return Trends(
        criterion=Gain(min_gain=min_gain).describe(),
        checks=tuple(check_trends(law, min_gain=min_gain)),
        rates=tuple(rates),
        rows=rows,
    )


def _cell(law: Law, size: float, rate: float, before: float, fits: Sequence[RunFit], min_gain: float) -> Cell:
    """D* at a size and a rate; the form's other inputs are those of the runs there."""
    others = [name for name in law.formula.uses if name not in BASIC_NAMES]
    if others and not fits:
        return Cell(tokens=None, measured=False, known=False)
    x = Setting(params_before=size, pruning_rate=rate, loss_before=before)
    x = x.replace(**{name: np.mean([fit.x[name][0] for fit in fits]) for name in others})
    tokens = float(optimal_tokens(Gain(min_gain=min_gain), Curves(law, x, draws=False))[0])
    return Cell(tokens=tokens if np.isfinite(tokens) else None, measured=bool(fits))


def _distinct(rates: Sequence[float]) -> list[float]:
    """Rates that differ, each the lowest of its cluster."""
    kept: list[float] = []
    for rate in sorted(rates):
        if not kept or rate - kept[-1] > _SAME_RATE:
            kept.append(rate)
    return kept


def _nearest(rates: Sequence[float], rate: float) -> float:
    return min(rates, key=lambda r: abs(r - rate))
