"""The stopping point as a run shows it: D* read from its own smoothed curve, without a law.

Only a run that went past D* shows it, because the gain of a doubling at D needs a reading at 2 D. Predictions of a law
are compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regrow.laws.smoothing import SmoothCurve, smooth_curve

#: Points of the grid on which the curve is read, and curves drawn for the interval.
_GRID, _DRAWS = 400, 400


@dataclass(frozen=True, kw_only=True)
class MeasuredTokens:
    """D* of one run by the gain criterion, in tokens.

    Attributes:
        tokens: where the gain of a doubling falls under the threshold for good; None where the run did not get there.
        low, high: ends of the interval that the noise of the readings leaves. `low` is 0 where the gain may have been
            under the threshold from the first reading on; `high` is None where the run may not have passed it.
        passed: share of the drawn curves that pass it within the run.
        level: probability of the interval.
        noise: standard deviation of a reading, nats/token.
        curve: the smoothed curve.
    """

    tokens: float | None
    low: float
    high: float | None
    passed: float
    level: float
    noise: float
    curve: SmoothCurve


def measured_tokens(
    tokens: np.ndarray, losses: np.ndarray, *, min_gain: float = 0.01, level: float = 0.9, seed: int = 0
) -> MeasuredTokens:
    """Read D* from the readings of one run, [n] each: the fewest tokens from which on a doubling gains less.

    `losses` may be gaps above a control: a constant does not matter, and a drift is then taken out.

    Raises `InputError` for too few readings (`regrow.laws.smoothing.smooth_curve`).
    """
    curve = smooth_curve(tokens, losses)
    first, last = np.exp(curve.x[0]), np.exp(curve.x[-1])
    grid = np.geomspace(first, last / 2, _GRID)
    both = np.concatenate([grid, 2 * grid])
    once, twice = np.split(curve.mean(both), 2)
    found = last_above(grid, (once - twice)[None, :], min_gain)[0]
    drawn = curve.draws(both, _DRAWS, seed=seed)
    every = last_above(grid, drawn[:, :_GRID] - drawn[:, _GRID:], min_gain)
    tail = (1 - level) / 2
    ordered = np.sort(every)
    low, high = (ordered[round(share * (_DRAWS - 1))] for share in (tail, 1 - tail))
    return MeasuredTokens(
        tokens=float(found) if np.isfinite(found) else None,
        low=float(low) if np.isfinite(low) else float(grid[-1]),
        high=float(high) if np.isfinite(high) else None,
        passed=float(np.isfinite(every).mean()),
        level=level,
        noise=curve.noise,
        curve=curve,
    )


def last_above(grid: np.ndarray, gain: np.ndarray, threshold: float) -> np.ndarray:
    """Where each row of `gain` [k, n] falls under the threshold for good, log-linear between the grid's points.

    0 for a row that never reaches it, infinity for one that ends above it.
    """
    above = gain > threshold
    last = np.where(above.any(axis=1), gain.shape[1] - 1 - above[:, ::-1].argmax(axis=1), -1)
    inside = np.clip(last, 0, gain.shape[1] - 2)
    rows = np.arange(len(gain))
    here, there = gain[rows, inside], gain[rows, inside + 1]
    with np.errstate(all="ignore"):
        share = np.clip((here - threshold) / (here - there), 0, 1)
    at = np.exp(np.log(grid[inside]) + share * np.log(grid[inside + 1] / grid[inside]))
    return np.where(last < 0, 0.0, np.where(last == gain.shape[1] - 1, np.inf, at))
