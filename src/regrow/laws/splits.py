"""What is held out of one group: the largest size, the highest rates, one run, or the last checkpoints of each."""

from __future__ import annotations

import numpy as np

from regrow.errors import InputError
from regrow.laws.observations import Observations
from regrow.laws.setting import distinct

#: share of the checkpoints of each run that the hold-out `tokens` keeps back
TOKENS_SHARE = 0.2


def masks(seen: Observations, hold_out: str) -> list[np.ndarray]:
    """Masks [n] of what is held out of one group, one for each fold; raises as `split` does."""
    if hold_out == "size":
        sizes = distinct(seen.x.params_before)
        if sizes.size < 2:
            raise InputError("one model size", where=seen.where, hint="holding one out takes 2 or more model sizes")
        return [seen.x.params_before >= sizes[-1]]
    if hold_out == "rate":
        return [_highest_rates(seen)]
    if hold_out == "run":
        if len(seen.runs) < 2:
            raise InputError("one run", where=seen.where, hint="holding one out takes 2 or more runs")
        return [seen.run == r for r in range(len(seen.runs))]
    held = np.zeros(len(seen), dtype=bool)
    for r in range(len(seen.runs)):
        points = np.flatnonzero((seen.run == r) & (seen.x.tokens > 0))
        if len(points) >= 4:
            held[points[-max(1, round(TOKENS_SHARE * len(points))) :]] = True
    if not held.any():
        raise InputError("no run has 4 checkpoints", where=seen.where, hint="holding out the last 20% takes 4 or more")
    return [held]


def _highest_rates(seen: Observations) -> np.ndarray:
    """Mask [n] of the checkpoints from the rate on from which every size has its highest.

    Whole blocks and whole channels give each size rates of its own, so the highest rate of all is one size's alone. A
    size with one rate says nothing of it. One whose rates are all that high keeps the lower ones among the fitted: held
    out whole it would be another question. Raises `InputError` if no size has two rates.
    """
    by_size = [
        (mine, distinct(seen.x.pruning_rate[mine]))
        for mine in (seen.x.params_before == size for size in np.unique(seen.x.params_before))
    ]
    highest = [rates[-1] for _, rates in by_size if rates.size > 1]
    if not highest:
        raise InputError(
            "no size was pruned at two rates", where=seen.where, hint="holding one out takes 2 or more rates of a size"
        )
    held = seen.x.pruning_rate >= min(highest)
    for mine, rates in by_size:
        if held[mine].all():
            held[mine] = (seen.x.pruning_rate[mine] >= rates[-1]) & (rates.size > 1)
    return held
