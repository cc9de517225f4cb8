"""How sure a law is: spreads between and within runs, and a bootstrap whose unit is the run.

The checkpoints of one run share its data order and its luck, so they are not independent observations. Residuals of
log loss are split as u_r + e_ri, a run's offset and its checkpoints' noise; the bootstrap moves whole runs.

Two schemes, chosen by the number of runs:
- few runs (the usual study, one run per cell): every cell of the design stays, and each draw gives each run the
  offset of another, with a random sign and scaled up for the parameters that the fit has spent on the offsets;
  resampling the runs themselves would lose whole sizes and rates. The scale itself is drawn from its chi-square, so
  that the draws have the tails that few runs deserve. Where a family has enough sizes, what the runs of one size have
  in common is drawn once per size.
- many runs: runs are drawn with replacement within their size, so that sizes stay represented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from regrow.laws.observations import Observations
from regrow.laws.solver import Problem, solve

#: from this many runs on, runs are resampled
MANY_RUNS = 40
#: below this many degrees of freedom the spread between runs is shared with other methods
FEW_DOF = 3
#: from this many sizes on, offsets that the runs of one size share are told apart and drawn by size
MANY_SIZES = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """Residuals of log loss in two parts.

    Attributes:
        between: standard deviation of a run's offset.
        within: standard deviation of a checkpoint around its run's curve.
        dof: degrees of freedom left for the offsets.
        offset: [runs] mean residual of each run.
        noise: [n] what is left of each residual.
        known: whether there are degrees of freedom to estimate `between` from.
    """

    between: float
    within: float
    dof: float
    offset: np.ndarray
    noise: np.ndarray
    known: bool


def spreads(problem: Problem, theta: np.ndarray, seen: Observations) -> Spread:
    """Variance components of the residuals, corrected for what the fit has absorbed.

    With the linearised hat matrix H, residuals are (I - H)(Z u + e). The expected squares of their run means and of
    the rest are linear in the two variances; two equations give both.
    """
    value, jacobian = problem.form.value_and_jacobian(theta[None, :], problem.x)
    assert jacobian is not None
    residual = problem.log_loss - np.log(value[0])
    count = np.bincount(seen.run)
    runs, n = len(count), len(residual)
    moving = problem.free & (theta > problem.lower) & (theta < problem.upper)
    rows = (jacobian[0] / value[0]).T[:, moving]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
    weight = problem.weights * np.minimum(1, problem.delta / np.maximum(np.abs(residual), 1e-300))
    k = np.linalg.pinv(rows.T @ (weight[:, None] * rows), rcond=1e-12) @ (rows * weight[:, None]).T  # H = rows @ k

    def run_mean(columns: np.ndarray) -> np.ndarray:
        out = np.zeros((runs, *columns.shape[1:]))
        np.add.at(out, seen.run, columns)
        return out / count.reshape(-1, *(1,) * (columns.ndim - 1))

    offset = run_mean(residual)
    noise = residual - offset[seen.run]
    mean_rows = run_mean(rows)
    inner_rows = rows - mean_rows[seen.run]
    spent = k @ np.eye(runs)[seen.run]  # [p, runs]: how the parameters answer to offsets
    left = np.eye(runs) - mean_rows @ spent
    a_between = float(np.sum(left**2))
    average = np.zeros((runs, n))
    average[seen.run, np.arange(n)] = 1 / count[seen.run]
    a_within = float(np.sum((average - mean_rows @ k) ** 2))
    b_between = float(np.sum((inner_rows @ spent) ** 2))
    gram = inner_rows.T @ inner_rows
    b_within = n - runs - 2 * float(np.trace(k @ inner_rows)) + float(np.trace(gram @ (k @ k.T)))
    # Satterthwaite: the chi-square whose mean and variance match the quadratic form in the offsets
    dof = a_between**2 / max(float(np.sum((left.T @ left) ** 2)), 1e-300) if runs > 1 else 0.0
    square_between, square_within = float(np.sum(offset**2)), float(np.sum(noise**2))
    within = max(square_within / b_within, 0.0) if b_within > 0.5 else 0.0
    known = dof > 0.9 and a_between > 0.5
    between = max(square_between - a_within * within, 0.0) / a_between if known else within
    if b_within > 0.5 and known:  # offsets leak a little into the rest: once more
        within = max(square_within - b_between * between, 0.0) / b_within
        between = max(square_between - a_within * within, 0.0) / a_between
    return Spread(
        between=float(np.sqrt(between)),
        within=float(np.sqrt(within)),
        dof=max(dof, 1.0),
        offset=offset,
        noise=noise,
        known=known,
    )


def pool(mine: Spread, others: Sequence[Spread]) -> tuple[Spread, str | None]:
    """A spread between runs from few degrees of freedom, joined with what other methods of the family show.

    Variances are averaged by their degrees of freedom. Returns the spread and what to say, None if it stands alone.
    """
    known = [o for o in others if o.known]
    if (mine.known and mine.dof >= FEW_DOF) or not known:
        return mine, None
    parts = [*known, mine] if mine.known else known
    dof = sum(s.dof for s in parts)
    between = float(np.sqrt(sum(s.dof * s.between**2 for s in parts) / dof))
    text = "too few runs to know their spread alone: the spread between runs is shared with the family's other methods"
    return replace(mine, between=between, dof=dof, known=True), text


def bootstrap(
    problem: Problem, theta: np.ndarray, seen: Observations, spread: Spread, draws: int, seed: int
) -> np.ndarray:
    """Refit `draws` times from the point estimate; returns scaled parameters [draws, p]."""
    rng = np.random.default_rng(seed)
    resampled = _pairs(problem, seen, draws, rng) if len(seen.runs) >= MANY_RUNS else None
    if resampled is None:
        fitted = np.log(problem.form.value(theta[None, :], problem.x)[0])
        resampled = replace(problem, log_loss=fitted + _offsets(seen, spread, draws, rng))
    # a parameter on its bound would stay there: start just inside
    inside = np.where(problem.free, np.maximum(theta, problem.lower + 1e-6), theta)
    found = solve(resampled, np.repeat(inside[None, :], draws, axis=0), iterations=40, tolerance=1e-6)
    usable = np.isfinite(found.objective)
    return np.where(usable[:, None], found.theta, theta)


def _pairs(problem: Problem, seen: Observations, draws: int, rng: np.random.Generator) -> Problem:
    """The same problem with the weights [draws, n] of runs drawn with replacement within strata of size."""
    first = np.unique(seen.run, return_index=True)[1]
    stratum, members = np.unique(seen.params_before[first], return_inverse=True, return_counts=True)[1:]
    # a size with few runs would be all or nothing: all such sizes are one stratum
    stratum = np.where(members[stratum] < 5, -1, stratum)
    weights = np.zeros((draws, len(first)))
    for one in np.unique(stratum):
        here = np.flatnonzero(stratum == one)
        weights[:, here] = rng.multinomial(here.size, np.full(here.size, 1 / here.size), size=draws)
    return replace(problem, weights=problem.weights * weights[:, seen.run])


def _offsets(seen: Observations, spread: Spread, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Simulated residuals [draws, n]: whole runs' offsets, exchanged, and each run's own noise with a random sign."""
    runs = len(seen.runs)
    # the spread is itself estimated: sigma^2 ~ s^2 dof / chi^2(dof)
    widen = np.sqrt(spread.dof / rng.chisquare(spread.dof, size=(draws, 1)))
    scale = np.sqrt(np.mean(spread.offset**2))
    unit = spread.offset / scale if scale > 0 and runs >= 6 else rng.standard_normal(1000)
    signs = rng.choice([-1.0, 1.0], size=(draws, runs))
    shared = _size_share(seen, spread)
    offset = spread.between * np.sqrt(1 - shared) * widen * signs * rng.choice(unit, size=(draws, runs))
    if shared > 0:
        size_of = np.unique(seen.params_before, return_inverse=True)[1][np.unique(seen.run, return_index=True)[1]]
        by_size = rng.standard_normal((draws, size_of.max() + 1))
        offset += spread.between * np.sqrt(shared) * widen * by_size[:, size_of]
    level = np.sqrt(np.mean(spread.noise**2))
    noise = spread.noise * (spread.within / level if level > 0 else 0.0)
    return offset[:, seen.run] + rng.choice([-1.0, 1.0], size=(draws, runs))[:, seen.run] * noise


def _size_share(seen: Observations, spread: Spread) -> float:
    """Share of the variance of the offsets that runs of one size have in common; 0 with too few sizes to tell.

    One-way analysis of variance of the offsets by size (intraclass correlation). The fit has bent towards the sizes'
    means already, with about two parameters: the mean square between sizes is taken over the sizes left.
    """
    first = np.unique(seen.run, return_index=True)[1]
    group, count = np.unique(seen.params_before[first], return_inverse=True, return_counts=True)[1:]
    sizes, runs = len(count), len(group)
    if sizes < MANY_SIZES or runs < 2 * sizes:
        return 0.0
    mean = np.bincount(group, spread.offset) / count
    inner = float(np.sum((spread.offset - mean[group]) ** 2)) / (runs - sizes)
    outer = float(np.sum(count * (mean - spread.offset.mean()) ** 2)) / (sizes - 2)
    common = max(outer - inner, 0.0) * sizes / runs
    return common / (common + inner) if common > 0 else 0.0
