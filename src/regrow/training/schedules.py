"""Learning rates over a run, as plain functions of the step. Light.

`constant` keeps every checkpoint a fair point; `wsd` (warm-up, stable, decay) is the same run with its last part
annealed, so the loss of a `wsd` run is what a cool-down branched off a constant run reads.
"""

from __future__ import annotations

import math

SCHEDULES = ("constant", "cosine", "wsd")


def warm_up(step: int, warm_up_steps: int) -> float:
    """The share of the rate at optimizer step `step` (from 0): a straight line from 0, then 1."""
    return min(1.0, step / warm_up_steps) if warm_up_steps else 1.0


def decay(done: int, steps: int) -> float:
    """The share of the rate left after `done` of `steps` steps of a decay: 1 - sqrt(done / steps).

    Of the shapes compared in Haegele et al. 2024 (arXiv 2405.18392, section 3) this one ended lowest.
    """
    return 1.0 - math.sqrt(min(1.0, done / steps))


def rate_factor(schedule: str, step: int, *, steps: int, warm_up_steps: int = 0, decay_steps: int = 0) -> float:
    """The share of the learning rate at optimizer step `step`, counted from 0, of a run of `steps`.

    `cosine` falls to zero at the run's end (Loshchilov & Hutter 2017, arXiv 1608.03983); `wsd` is constant up to its
    last `decay_steps` (Hu et al. 2024, arXiv 2404.06395).
    """
    share = warm_up(step, warm_up_steps)
    if schedule == "cosine" and step >= warm_up_steps:
        progress = (step - warm_up_steps) / max(1, steps - warm_up_steps)
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
    if schedule == "wsd" and step > steps - decay_steps:
        return share * decay(step - (steps - decay_steps), decay_steps)
    return share
