"""The stopping point as a run shows it: D* read from its own smoothed curve, without a law.

Only a run that went past D* shows it, because the gain of a doubling at D needs a reading at 2 D. Predictions of a law
are compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regrow.laws.smoothing import SmoothCurve, smooth_curve
from regrow.planning.solve import crossings, ends

#: Points of the grid on which the curve is read, and curves drawn for the interval.
_GRID, _DRAWS = 400, 400


@dataclass(frozen=True, kw_only=True)
class MeasuredTokens:
    """D* of one run by the gain criterion, in tokens.

    Attributes:
        tokens: where the gain of a doubling falls under the threshold for good. The first reading's tokens where it was
            under it from there on: D* is then at or below them. None where the run did not get to D*.
        low, high: ends of the interval that the noise of the readings leaves; `high` is None where the run may not have
            passed D*.
        passed: share of the drawn curves that pass D* within the run.
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
    read = np.asarray(tokens, dtype=float)
    grid = np.geomspace(read[read > 0].min(), read.max() / 2, _GRID)
    both = np.concatenate([grid, 2 * grid])
    rows = np.vstack([curve.mean(both), curve.draws(both, _DRAWS, seed=seed)])
    found = crossings(grid, rows[:, :_GRID] - rows[:, _GRID:], np.full(len(rows), min_gain))
    low, high = ends(found[1:], level)
    return MeasuredTokens(
        tokens=float(found[0]) if np.isfinite(found[0]) else None,
        low=low if np.isfinite(low) else float(grid[-1]),
        high=high if np.isfinite(high) else None,
        passed=float(np.isfinite(found[1:]).mean()),
        level=level,
        noise=curve.noise,
        curve=curve,
    )
