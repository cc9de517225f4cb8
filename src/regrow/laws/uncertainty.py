"""How sure a law is: a bootstrap whose unit is the run.

Every cell of the design stays, as resampling the runs themselves would lose whole sizes and rates from a usual study,
one run per cell. Each draw starts from the fitted curves. Each run gets the offset of another run with a random sign,
scaled up for the degrees of freedom that the fit has used. Each size gets a random effect, and each run its own noise.
`regrow.laws.spread` estimates the three standard deviations. They are drawn from their chi-square distributions, so
that few runs and few sizes give the draws the heavy tails that they should have.

A run of more than `MOST_READINGS` readings is refitted at that many of them, evenly picked: most of what differs
between draws is common to the readings of a run.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regrow.laws.law import MOST_SIZE_EFFECT
from regrow.laws.observations import Observations
from regrow.laws.solver import Problem, blocks, solve
from regrow.laws.spread import Spread, size_index

#: readings of one run that a draw is refitted to, at most
MOST_READINGS = 40


def bootstrap(
    problem: Problem, theta: np.ndarray, seen: Observations, spread: Spread, draws: int, seed: int
) -> np.ndarray:
    """Refit `draws` times from the point estimate; returns scaled parameters [draws, p]."""
    picked = evenly_picked(seen.run, MOST_READINGS)
    if len(picked) < len(seen):
        kept = seen.run[picked]
        problem = replace(
            problem,
            x=problem.x.keep(picked),
            log_loss=problem.log_loss[picked],
            weights=1 / np.bincount(kept)[kept],
        )
    rng = np.random.default_rng(seed)
    fitted = np.log(problem.form.value(theta[None, :], problem.x)[0])
    simulated = _Residuals(seen, spread, picked, draws, rng)
    # a parameter on its bound would stay there: start just inside
    inside = np.where(problem.free, np.maximum(theta, problem.lower + 1e-6), theta)
    starts = np.repeat(inside[None, :], draws, axis=0)
    out = np.empty_like(starts)
    for block in blocks(problem, starts):
        resampled = replace(problem, log_loss=fitted + simulated.of(block))
        found = solve(resampled, starts[block], iterations=40, tolerance=1e-6)
        out[block] = np.where(np.isfinite(found.objective)[:, None], found.theta, theta)
    return out


def evenly_picked(run: np.ndarray, most: int) -> np.ndarray:
    """Indices, in rising order, of at most `most` readings of each run [n], as evenly spaced in its order as can be.

    The first and the last reading of a run are among them.
    """
    order = np.argsort(run, kind="stable")
    counts = np.bincount(run)[run[order]]
    place = np.arange(len(run)) - np.searchsorted(run[order], run[order])
    # where place/(count - 1) of `most` - 1 steps is passed, one reading is taken
    step = place * (most - 1) // np.maximum(counts - 1, 1)
    before = (place - 1) * (most - 1) // np.maximum(counts - 1, 1)
    return np.sort(order[(counts <= most) | (place == 0) | (step > before)])


class _Residuals:
    """Simulated residuals of each draw: the offsets of whole runs, exchanged; a random effect of each size; the noise
    of each run, with a random sign. What is drawn is kept by run and size; a block of draws is spread over the
    checkpoints when it is asked for, as all draws of all checkpoints would fill the memory.
    """

    def __init__(
        self, seen: Observations, spread: Spread, picked: np.ndarray, draws: int, rng: np.random.Generator
    ) -> None:
        runs = len(seen.runs)
        scale = np.sqrt(np.mean(spread.offset**2))
        unit = spread.offset / scale if scale > 0 and runs >= 6 else rng.standard_normal(1000)
        signs = rng.choice([-1.0, 1.0], size=(draws, runs))
        # the spreads are themselves estimated: sigma^2 ~ s^2 dof / chi^2(dof)
        widened = spread.between * _widened(spread.dof, draws, rng)
        self._offset = widened * signs * rng.choice(unit, size=(draws, runs))
        size = size_index(seen)
        sizes = int(size.max()) + 1
        self._run, self._size, self._gap_share = seen.run[picked], size[picked], spread.gap_share[picked]
        effect = spread.size * _widened(spread.size_dof, draws, rng) * rng.standard_normal((draws, sizes))
        self._effect = np.clip(effect, -MOST_SIZE_EFFECT, MOST_SIZE_EFFECT)
        level = np.sqrt(np.mean(spread.noise**2))
        self._noise = spread.noise[picked] * (spread.within / level if level > 0 else 0.0)
        self._turned = rng.choice([-1.0, 1.0], size=(draws, runs))

    def of(self, block: slice) -> np.ndarray:
        """The residuals of a block of draws, [b, n]."""
        effect = self._effect[block][:, self._size] * self._gap_share
        return self._offset[block][:, self._run] + effect + self._turned[block][:, self._run] * self._noise


def _widened(dof: float, draws: int, rng: np.random.Generator) -> np.ndarray:
    return np.sqrt(dof / rng.chisquare(dof, size=(draws, 1)))
