"""Many readings of one run as a bounded number of means. Pure kernels, numpy only.

Neighbours in the logarithm of the tokens share most of their noise (`regrow.laws.regrowth.noise`), so a thousand
readings of a run say little more than the means of a few dozen groups of neighbours. A run of more than `MOST` readings
is cut into `MOST` bins of equal width in ln tokens, and each bin that holds readings counts as one reading: their mean.
The law's curve and the noise are averaged over the same readings, so that nothing is approximated: the fit is exact for
the means. A run of up to `MOST` readings has each in a bin of its own.

Shapes: `N` readings in all, sorted by run and tokens; `R` runs of up to `m` bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

#: bins that one run has at most
MOST = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """Which readings go together.

    Attributes:
        first: [B] the first reading of each bin that holds one; bins are runs of neighbours.
        count: [B] how many readings it holds.
        row, column: [B] its run, and its place among the run's bins.
        shape: (R, m).
    """

    first: np.ndarray
    count: np.ndarray
    row: np.ndarray
    column: np.ndarray
    shape: tuple[int, int]

    @cached_property
    def seen(self) -> np.ndarray:
        """[R, m] whether there is a bin."""
        return self.padded(np.ones(len(self.first), dtype=bool), False)

    @property
    def last(self) -> np.ndarray:
        """[B] the last reading of each bin."""
        return self.first + self.count - 1

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums [B, ...] of values [N, ...] over the readings of each bin."""
        return np.add.reduceat(values, self.first, axis=0)

    def means(self, values: np.ndarray, blank: float = 0.0) -> np.ndarray:
        """Means [R, m, ...] of values [N, ...]; `blank` where there is no bin."""
        found = self.sums(values)
        return self.padded(found / self.count.reshape(-1, *(1,) * (found.ndim - 1)), blank)

    def padded(self, values: np.ndarray, blank: float = 0.0) -> np.ndarray:
        """Values [B, ...] of the bins as [R, m, ...]."""
        out = np.full((*self.shape, *values.shape[1:]), blank, dtype=values.dtype)
        out[self.row, self.column] = values
        return out


def gather(run: np.ndarray, log_tokens: np.ndarray) -> Bins:
    """The bins of readings, at most `MOST` of a run.

    Args:
        run: [N] index of each reading's run, from 0 without a gap, in rising order.
        log_tokens: [N] logarithm of the effective tokens, rising within a run.
    """
    starts = np.flatnonzero(np.diff(run, prepend=-1))
    counts = np.diff(starts, append=len(run))
    place = np.arange(len(run)) - np.repeat(starts, counts)
    low, high = log_tokens[starts], log_tokens[starts + counts - 1]
    width = np.where(high > low, high - low, 1.0) / MOST
    cut = np.minimum(((log_tokens - low[run]) / width[run]).astype(int), MOST - 1)
    index = np.where(counts[run] > MOST, cut, place)
    begins = (np.diff(index, prepend=-1) != 0) | (place == 0)
    first = np.flatnonzero(begins)
    row = run[first]
    before = np.searchsorted(row, np.arange(len(starts)))
    return Bins(
        first=first,
        count=np.diff(first, append=len(run)),
        row=row,
        column=np.arange(len(first)) - before[row],
        shape=(len(starts), int(np.bincount(row).max())),
    )


def shared_noise(bins: Bins, log_tokens: np.ndarray, scale: np.ndarray, length: float) -> np.ndarray:
    """Covariance [R, m, m] of the bins' means of an Ornstein-Uhlenbeck noise, in time that grows with N only.

    The noise of readings i and j of a run has the covariance x_i x_j exp(-|t_i - t_j| / length), with t the logarithm
    of the tokens. For i in an earlier bin than j the exponential is a product of three: from i to the end of its bin,
    from there to the start of j's bin, from there to j. So the sum over the pairs is a product of sums over the bins.

    Args:
        scale: x, [N].
        length: in e-folds of tokens.
    """
    group = np.repeat(np.arange(len(bins.first)), bins.count)
    start, end = log_tokens[bins.first], log_tokens[bins.last]
    from_start, to_end = (log_tokens - start[group]) / length, (end[group] - log_tokens) / length
    falling = scale * np.exp(-from_start)
    left = bins.padded(bins.sums(scale * np.exp(-to_end)) / bins.count)
    right = bins.padded(bins.sums(falling) / bins.count)
    apart = bins.padded(start)[:, None, :] - bins.padded(end)[:, :, None]
    between = np.exp(-np.maximum(apart, 0.0) / length) * left[:, :, None] * right[:, None, :]
    between = np.triu(between, 1)
    # pairs of one bin: each reading with all before it
    rising = scale * np.exp(from_start)
    before = np.cumsum(rising) - rising
    before -= before[bins.first][group]
    within = bins.sums(scale**2 + np.where(bins.count[group] > 1, 2 * falling * before, 0.0)) / bins.count**2
    diagonal = np.arange(bins.shape[1])
    between += np.swapaxes(between, 1, 2)
    between[:, diagonal, diagonal] = bins.padded(within)
    return between
