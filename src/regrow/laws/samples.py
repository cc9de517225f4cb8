"""Many samples of many points: in blocks, so that memory is bounded, and their quantiles. numpy only."""

from __future__ import annotations

import numpy as np

#: numbers that are computed at once, of all points and samples together
_AT_ONCE = 500_000


def blocks(points: int, each: int) -> list[slice]:
    """Blocks of points, of each of which so many numbers are computed; together a bounded number."""
    step = max(1, _AT_ONCE // max(each, 1))
    return [slice(at, at + step) for at in range(0, points, step)]


def quantiles(values: np.ndarray, *shares: float) -> list[np.ndarray]:
    """Quantiles over the first axis, linear between order statistics: `np.quantile` imports the whole of numpy.ma."""
    last = len(values) - 1
    places = [(int(share * last), min(int(share * last) + 1, last), share * last) for share in shares]
    ordered = np.partition(values, sorted({place for below, above, _ in places for place in (below, above)}), axis=0)
    out = []
    for below, above, at in places:
        low, high = ordered[below], ordered[above]
        # two infinite ones have no difference
        step = np.subtract(high, low, out=np.zeros_like(low), where=high > low)
        out.append(low + (at - below) * step)
    return out
