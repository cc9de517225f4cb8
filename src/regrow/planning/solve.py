"""The fewest tokens that meet a criterion, on the fitted law and on all its draws at once."""

from __future__ import annotations

import numpy as np

from regrow.planning.criteria import Criterion
from regrow.planning.curves import Curves

#: Tokens are looked for between one and ten quadrillion, a thousand times the largest corpus there is.
FEWEST, MOST = 1.0, 1e16
#: 16 points a decade; the search looks at every eighth first.
_GRID = np.logspace(np.log10(FEWEST), np.log10(MOST), 16 * 16 + 1)
_COARSE = 8
#: The cell of the grid with the fitted law's crossing is cut into this many parts, and again, down to rounding.
_PARTS, _CUTS = 128, 7


def optimal_tokens(criterion: Criterion, curves: Curves) -> np.ndarray:
    """D* [1 + draws]: the fewest tokens from which on `criterion` stays met.

    `FEWEST` where it is met already there, infinity where it is not met even at `MOST`. Draws are read off a grid of 16
    points a decade, log-log between them (exact for a power law); the fitted law, first, is refined to rounding.
    Taking the last crossing and not the first matters for forms that start flat: there the first doubling buys little,
    too.
    """
    with np.errstate(all="ignore"):
        threshold = np.asarray(criterion.threshold(curves), dtype=float)
        # a coarse look brackets the last crossing of every row, and the grid is evaluated in between only
        coarse = criterion.measure(curves, _GRID[::_COARSE])
        threshold = np.broadcast_to(threshold, (len(coarse), 1))[:, 0]
        last = _last_unmet(coarse, threshold)
        crossing = (last >= 0) & (last < coarse.shape[1] - 1)
        found = np.where(last < 0, FEWEST, np.inf)
        if crossing.any():
            inside = slice(_COARSE * last[crossing].min(), _COARSE * (last[crossing].max() + 1) + 1)
            grid = _GRID[inside]
            found = np.where(crossing, crossings(grid, criterion.measure(curves, grid), threshold), found)
        if crossing[0]:
            found[0] = _refine(criterion, curves.point(), found[0])
    return found


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


def _last_unmet(measure: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Index of the last column of measure [k, n] above threshold [k]; -1 where there is none."""
    # written as "not met" so that a NaN counts as never met
    unmet = ~(measure <= threshold[:, None])
    return np.where(unmet.any(axis=1), unmet.shape[1] - 1 - unmet[:, ::-1].argmax(axis=1), -1)


def _refine(criterion: Criterion, curve: Curves, guess: float) -> float:
    """The last crossing of one curve, to rounding, in the cell of the grid around `guess`."""
    right = int(np.clip(np.searchsorted(_GRID, guess), 1, len(_GRID) - 1))
    low, high = np.log(_GRID[right - 1]), np.log(_GRID[right])
    threshold = np.asarray(criterion.threshold(curve), dtype=float).reshape(-1)
    for _ in range(_CUTS):
        # the law is evaluated at all cuts in one call: halving would take seven calls for each of these
        cuts = np.linspace(low, high, _PARTS + 1)
        last = _last_unmet(criterion.measure(curve, np.exp(cuts)), threshold)[0]
        at = int(np.clip(last, 0, _PARTS - 1))
        low, high = cuts[at], cuts[at + 1]
    return float(np.exp(high))
