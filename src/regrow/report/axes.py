"""Axes of a chart: from data to pixels, and where the ticks go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Maps data in [low, high] to pixels in [start, end]; logarithmic if `log` (both ends positive then)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the axis, about this many."""
        return log_ticks(self.low, self.high, about) if self.log else linear_ticks(self.low, self.high, about)


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten inside [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    # rounded, so that a tick at 0.3 is not 0.30000000000000004
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Powers of ten inside [low, high], or 1-2-5 steps, or 1-3, whichever comes nearest to `about` ticks."""
    sets = []
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [s * 10.0**p for p in powers for s in steps]
        sets.append([v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)])
    best = min(sets, key=lambda ticks: (len(ticks) < 2, abs(len(ticks) - about)))
    if len(best) > 2 * about:
        best = best[:: math.ceil(len(best) / about)]
    return best or [low]


def same_decimals(ticks: Sequence[float]) -> list[str]:
    """Ticks as text, all with as many decimals as the longest needs: 3.9, 4.0, 4.1."""
    decimals = max((len(f"{tick:.6g}".partition(".")[2]) for tick in ticks if "e" not in f"{tick:.6g}"), default=0)
    return [f"{tick:.{decimals}f}" if abs(tick) >= 1e-4 or not tick else f"{tick:g}" for tick in ticks]


def padded(values: np.ndarray, share: float = 0.06) -> tuple[float, float]:
    """Smallest and largest finite value with a margin; (0, 1) if there is none."""
    seen = values[np.isfinite(values)]
    if not seen.size:
        return 0.0, 1.0
    low, high = float(seen.min()), float(seen.max())
    margin = (high - low) * share or max(abs(high) * 0.05, 1e-6)
    return low - margin, high + margin
