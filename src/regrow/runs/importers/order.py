"""A log's rows in the order of the run: counters that go back, and rows logged twice.

The rule for a counter that goes back from a to b: the run was resumed at a checkpoint before b, so what was logged at b
or beyond belongs to weights that were thrown away, and is dropped. Where each part counts from its own start instead
(`continue`), the counts before are added. Of two rows at the same count the later one is kept.
"""

from __future__ import annotations

import numpy as np


def segments(counter: np.ndarray) -> np.ndarray:
    """The number of the part that each row belongs to; a new part begins where the counter goes back.

    Args:
        counter: the step or token count per row; rows without one (NaN) go with the row before.
    """
    part = np.zeros(len(counter), dtype=int)
    known = np.flatnonzero(np.isfinite(counter))
    falls = known[1:][np.diff(counter[known]) < 0]
    for row in falls:
        part[row:] += 1
    return part


def superseded(counter: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Rows at or beyond the count at which a later part begins. NaN counts are superseded with the row before them."""
    filled = counter.copy()
    for row in range(1, len(filled)):
        if not np.isfinite(filled[row]) and part[row] == part[row - 1]:
            filled[row] = filled[row - 1]
    dropped = np.zeros(len(counter), dtype=bool)
    for later in range(1, part.max(initial=0) + 1):
        begins = counter[part == later]
        begins = begins[np.isfinite(begins)]
        dropped |= (part < later) & (filled >= begins[0])
    return dropped


def continued(counts: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Counts with what the parts before had reached added, where a part starts below it."""
    total = counts.copy()
    reached = 0.0
    for number in range(part.max(initial=0) + 1):
        rows = part == number
        known = total[rows][np.isfinite(total[rows])]
        if known.size and known[0] < reached:
            total[rows] += reached
            known = known + reached
        reached = max([reached, *known[-1:]])
    return total


def last_of_each(counts: np.ndarray) -> np.ndarray:
    """Indices that keep, of rows at the same count, the last; in the order of the counts."""
    order = np.lexsort((np.arange(len(counts)), counts))
    last = np.append(np.diff(counts[order]) > 0, True)
    return order[last]
