"""How sure a law is: a bootstrap whose unit is the run.

Every cell of the design stays, as resampling the runs themselves would lose whole sizes and rates from a usual study,
one run per cell. Each draw starts from the fitted curves. Each run gets the offset of another run with a random sign,
scaled up for the degrees of freedom that the fit has used. Each size gets a random effect, and each run its own noise.
`regrow.laws.spread` estimates the three standard deviations. They are drawn from their chi-square distributions, so
that few runs and few sizes give the draws the heavy tails that they should have.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regrow.laws.law import MOST_SIZE_EFFECT
from regrow.laws.observations import Observations
from regrow.laws.solver import Problem, solve
from regrow.laws.spread import Spread, size_index


def bootstrap(
    problem: Problem, theta: np.ndarray, seen: Observations, spread: Spread, draws: int, seed: int
) -> np.ndarray:
    """Refit `draws` times from the point estimate; returns scaled parameters [draws, p]."""
    rng = np.random.default_rng(seed)
    fitted = np.log(problem.form.value(theta[None, :], problem.x)[0])
    resampled = replace(problem, log_loss=fitted + _residuals(seen, spread, draws, rng))
    # a parameter on its bound would stay there: start just inside
    inside = np.where(problem.free, np.maximum(theta, problem.lower + 1e-6), theta)
    found = solve(resampled, np.repeat(inside[None, :], draws, axis=0), iterations=40, tolerance=1e-6)
    usable = np.isfinite(found.objective)
    return np.where(usable[:, None], found.theta, theta)


def _residuals(seen: Observations, spread: Spread, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Simulated residuals [draws, n]: the offsets of whole runs, exchanged; a random effect of each size; the noise of
    each run, with a random sign."""
    runs = len(seen.runs)
    scale = np.sqrt(np.mean(spread.offset**2))
    unit = spread.offset / scale if scale > 0 and runs >= 6 else rng.standard_normal(1000)
    signs = rng.choice([-1.0, 1.0], size=(draws, runs))
    # the spreads are themselves estimated: sigma^2 ~ s^2 dof / chi^2(dof)
    offset = spread.between * _widened(spread.dof, draws, rng) * signs * rng.choice(unit, size=(draws, runs))
    sizes = size_index(seen)
    effect = spread.size * _widened(spread.size_dof, draws, rng) * rng.standard_normal((draws, int(sizes.max()) + 1))
    effect = np.clip(effect, -MOST_SIZE_EFFECT, MOST_SIZE_EFFECT)
    level = np.sqrt(np.mean(spread.noise**2))
    noise = spread.noise * (spread.within / level if level > 0 else 0.0)
    turned = rng.choice([-1.0, 1.0], size=(draws, runs))[:, seen.run] * noise
    return offset[:, seen.run] + effect[:, sizes] * spread.gap_share + turned


def _widened(dof: float, draws: int, rng: np.random.Generator) -> np.ndarray:
    return np.sqrt(dof / rng.chisquare(dof, size=(draws, 1)))
