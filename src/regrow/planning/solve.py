"""The fewest tokens from which on a measure stays at or under a threshold: D*, wherever it is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from regrow.planning.criteria import Criterion
from regrow.planning.curves import Curves

#: Tokens are looked for between one and a million trillion, which no corpus comes near. The page has the same limit.
FEWEST, MOST = 1.0, 1e18
#: 16 points a decade; the search looks at every eighth first.
_GRID = np.logspace(np.log10(FEWEST), np.log10(MOST), 18 * 16 + 1)
_COARSE = 8
#: A cell of the grid with a crossing is cut into this many parts, and again, down to rounding.
_PARTS, _CUTS = 128, 7

#: Falls as tokens [n] grow, for every row: [k, n].
Measure = Callable[[np.ndarray], np.ndarray]


def optimal_tokens(criterion: Criterion, curves: Curves) -> np.ndarray:
    """D* [1 + draws]: the fewest tokens from which on `criterion` stays met.

    `FEWEST` where it is met already there, infinity where it is not met even at `MOST`. The fitted law, first, is
    solved to rounding; its draws as `last_crossings` says.
    """
    with np.errstate(all="ignore"):
        threshold = np.asarray(criterion.threshold(curves), dtype=float)
        found = last_crossings(lambda tokens: criterion.measure(curves, tokens), threshold)
        if FEWEST < found[0] < np.inf:
            point = curves.point()
            exact = np.asarray(criterion.threshold(point), dtype=float).reshape(-1)
            found[0] = refined(lambda tokens: criterion.measure(point, tokens), exact, found[0])
    return found


def last_crossings(measure: Measure, threshold: np.ndarray) -> np.ndarray:
    """The fewest tokens [k] from which on each row of `measure` stays at or under `threshold` (a number, or [k, 1]).

    `FEWEST` for a row that is under it throughout, infinity for one that is above it at `MOST`. Read off a grid of 16
    points a decade, log-log between them, which is exact for a power law. The last crossing and not the first matters
    for forms that start flat: there the first doubling buys little, too.
    """
    # a coarse look brackets the last crossing of every row, and the grid is evaluated in between only
    coarse = measure(_GRID[::_COARSE])
    limit = np.broadcast_to(threshold, (len(coarse), 1))[:, 0]
    last = _last_unmet(coarse, limit)
    crossing = (last >= 0) & (last < coarse.shape[1] - 1)
    found = np.where(last < 0, FEWEST, np.inf)
    if crossing.any():
        inside = slice(_COARSE * last[crossing].min(), _COARSE * (last[crossing].max() + 1) + 1)
        grid = _GRID[inside]
        found = np.where(crossing, crossings(grid, measure(grid), limit), found)
    return found


def ends(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Ends of the interval of probability `level` that holds the middle of `draws` [n].

    They are order statistics and not interpolated, as a draw may be infinite; one that is NaN counts as infinite.
    """
    ordered = np.sort(np.where(np.isnan(draws), np.inf, draws))
    tail = (1 - level) / 2
    low, high = (float(ordered[round(share * (len(ordered) - 1))]) for share in (tail, 1 - tail))
    return low, high


def crossings(grid: np.ndarray, measure: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Last crossing of each row of measure [k, n] under threshold [k], by log-log interpolation on grid [n].

    The first grid point for a row that is under it throughout, infinity for one that ends above it.
    """
    last = _last_unmet(measure, threshold)
    inside = np.clip(last, 0, len(grid) - 2)
    rows = np.arange(len(measure))
    tiny = np.finfo(float).tiny
    above = np.log(np.maximum(measure[rows, inside], tiny))
    below = np.log(np.maximum(measure[rows, inside + 1], tiny))
    # rows without a crossing are divided, too, and then not used
    with np.errstate(all="ignore"):
        share = np.clip((above - np.log(np.maximum(threshold, tiny))) / (above - below), 0.0, 1.0)
    at = np.exp(np.log(grid[inside]) + share * (np.log(grid[inside + 1]) - np.log(grid[inside])))
    return np.where(last < 0, grid[0], np.where(last == len(grid) - 1, np.inf, at))


def refined(measure: Measure, threshold: np.ndarray, guess: float) -> float:
    """The last crossing of one row [1, n] under threshold [1], to rounding, in the cell of the grid around `guess`."""
    right = int(np.clip(np.searchsorted(_GRID, guess), 1, len(_GRID) - 1))
    low, high = np.log(_GRID[right - 1]), np.log(_GRID[right])
    for _ in range(_CUTS):
        # the law is evaluated at all cuts in one call: halving would take seven calls for each of these
        cuts = np.linspace(low, high, _PARTS + 1)
        last = _last_unmet(measure(np.exp(cuts)), threshold)[0]
        at = int(np.clip(last, 0, _PARTS - 1))
        low, high = cuts[at], cuts[at + 1]
    return float(np.exp(high))


def _last_unmet(measure: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Index of the last column of measure [k, n] above threshold [k]; -1 where there is none."""
    # written as "not met" so that a NaN counts as never met
    unmet = ~(measure <= threshold[:, None])
    return np.where(unmet.any(axis=1), unmet.shape[1] - 1 - unmet[:, ::-1].argmax(axis=1), -1)
