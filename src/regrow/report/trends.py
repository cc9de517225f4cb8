"""The trends a law of pruned models must show, and D* over the sizes and rates of a law's runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.laws.law import Law
from regrow.laws.trends import MIN_GAIN, Trend, check_trends, tokens_for_gain
from regrow.planning.criteria import Gain
from regrow.report.curves import RunFit

#: Rates closer than this share a column: sizes rarely allow exactly the same rate.
_SAME_RATE = 0.02


@dataclass(frozen=True, kw_only=True)
class Cell:
    """D* by the gain criterion at one size and rate; None where no number of tokens is enough."""

    tokens: float | None
    measured: bool


@dataclass(frozen=True, kw_only=True)
class Trends:
    """What `check_trends` says, and D* by `criterion` for each size (rows) and rate (columns) among the runs."""

    criterion: str
    checks: tuple[Trend, ...]
    rates: tuple[float, ...]
    rows: tuple[tuple[float, tuple[Cell, ...]], ...]


def trends_of(law: Law, fits: Sequence[RunFit], *, min_gain: float = MIN_GAIN) -> Trends | None:
    """The law's trends over its fitted range, with D* at the sizes and rates of `fits`. None without any run."""
    if not fits:
        return None
    before = {fit.run.params_before: fit.run.loss_before for fit in fits}
    sizes = sorted(before)
    rates = _distinct([fit.run.pruning_rate for fit in fits])
    measured = {(fit.run.params_before, _nearest(rates, fit.run.pruning_rate)) for fit in fits}
    best = tokens_for_gain(
        law,
        params_before=np.array(sizes, dtype=float)[:, None],
        pruning_rate=np.array(rates)[None, :],
        loss_before=np.array([before[size] for size in sizes])[:, None],
        min_gain=min_gain,
    )[0]
    rows = tuple(
        (
            float(size),
            tuple(
                Cell(tokens=float(d) if np.isfinite(d) else None, measured=(size, rate) in measured)
                for rate, d in zip(rates, best[i], strict=True)
            ),
        )
        for i, size in enumerate(sizes)
    )
    return Trends(
        criterion=Gain(min_gain=min_gain).describe(),
        checks=tuple(check_trends(law, min_gain=min_gain)),
        rates=tuple(rates),
        rows=rows,
    )


def _distinct(rates: Sequence[float]) -> list[float]:
    """Rates that differ, each the lowest of its cluster."""
    kept: list[float] = []
    for rate in sorted(rates):
        if not kept or rate - kept[-1] > _SAME_RATE:
            kept.append(rate)
    return kept


def _nearest(rates: Sequence[float], rate: float) -> float:
    return min(rates, key=lambda r: abs(r - rate))
