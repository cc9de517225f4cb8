"""Batched robust least squares with bounds: many starts, or many bootstrap draws, in one set of array operations.

The objective is sum_i w_i huber(log f(theta, x_i) - log L_i). Each step solves a damped Newton system per candidate:

    (J^T W_in J + lambda J^T W_irls J) step = -J^T (w psi)

where `W_in` counts only the residuals inside the Huber delta (the true curvature) and `W_irls` weighs every residual
by psi(r)/r. The second is a majoriser of the first, so lambda = 1 descends almost always and lambda -> 0 is Newton's
method, which converges fast where plain reweighting crawls. Bounds are kept by projection: a parameter on its bound
whose gradient points outward does not move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regrow.laws.forms import Form
from regrow.laws.memory import keep_freed_memory
from regrow.laws.objective import HUBER_DELTA, huber
from regrow.laws.setting import Setting

#: candidates are handled in blocks of this many numbers of Jacobian, so that they stay in the cache
_BLOCK = 400_000
#: objectives that differ by less than this share are taken for one end
_SAME_END = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What is fitted: `log_loss` is [n] or [B, n], `weights` [n]; `free` [p] says what may move.

    `lower` and `upper`, [p], bound the scaled parameters.
    """

    form: Form
    x: Setting
    log_loss: np.ndarray
    weights: np.ndarray
    free: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    delta: float = HUBER_DELTA

    def targets(self, block: slice) -> np.ndarray:
        """Targets of a block of candidates."""
        return self.log_loss if self.log_loss.ndim == 1 else self.log_loss[block]


@dataclass(frozen=True, kw_only=True, eq=False)
class Solutions:
    """Where each candidate ended: parameters [B, p], objective [B] (inf where it failed), whether it settled [B]."""

    theta: np.ndarray
    objective: np.ndarray
    converged: np.ndarray

    @property
    def best(self) -> int:
        return int(np.argmin(self.objective))

    def distinct(self, most: int) -> np.ndarray:
        """The best ends [k, p], at most `most`, of which the objectives differ."""
        kept: list[int] = []
        for i in np.argsort(self.objective)[: np.isfinite(self.objective).sum()]:
            if not kept or self.objective[i] > self.objective[kept[-1]] * (1 + _SAME_END) + 1e-20:
                kept.append(int(i))
        return self.theta[kept[:most]]


def solve(problem: Problem, starts: np.ndarray, *, iterations: int = 60, tolerance: float = 1e-10) -> Solutions:
    """Minimise from every start [B, p]; candidate b uses row b of the targets where these are 2-D."""
    keep_freed_memory()
    parts = [_solve_block(problem, starts[block], block, iterations, tolerance) for block in blocks(problem, starts)]
    return Solutions(
        theta=np.concatenate([p.theta for p in parts]),
        objective=np.concatenate([p.objective for p in parts]),
        converged=np.concatenate([p.converged for p in parts]),
    )


def blocks(problem: Problem, candidates: np.ndarray) -> list[slice]:
    """Blocks of candidates [B, p] that are handled at once, so that memory does not grow with their number."""
    step = max(1, _BLOCK // max(1, candidates.shape[1] * len(problem.x)))
    return [slice(i, i + step) for i in range(0, len(candidates), step)]


@dataclass(eq=False)
class _Curves:
    """The curves of candidates at their parameters.

    Attributes:
        objective: [b], inf where a loss is not positive, or where it or a derivative overflows.
        residual: of log loss, [b, n].
        rows: derivatives of log loss by the parameters that may move, [b, q, n].
    """

    objective: np.ndarray
    residual: np.ndarray
    rows: np.ndarray

    @classmethod
    def at(cls, problem: Problem, theta: np.ndarray, y: np.ndarray) -> _Curves:
        """The curves at parameters [b, p], beside targets [n] or [b, n]."""
        value, jacobian = problem.form.value_and_jacobian(theta, problem.x)
        assert jacobian is not None
        # fixed parameters carry no column: p is small, so this is most of the saving
        rows = jacobian if problem.free.all() else jacobian.take(np.flatnonzero(problem.free), axis=1)
        rows /= value[:, None, :]
        residual = np.log(value)
        residual -= y
        total = huber(residual, problem.delta) @ problem.weights
        # the sum of the derivatives is finite only if each of them is
        known = np.isfinite(total) & np.isfinite(rows.reshape(len(rows), -1).sum(axis=1))
        return cls(np.where(known, total, np.inf), residual, rows)

    def keep(self, mask: np.ndarray) -> _Curves:
        return _Curves(self.objective[mask], self.residual[mask], self.rows[mask])

    def put(self, mask: np.ndarray, other: _Curves) -> None:
        """Take the other's curves where `mask` [b] says so."""
        self.objective[mask], self.residual[mask] = other.objective[mask], other.residual[mask]
        self.rows[mask] = other.rows[mask]


def _solve_block(problem: Problem, starts: np.ndarray, block: slice, iterations: int, tolerance: float) -> Solutions:
    with np.errstate(all="ignore"):  # a wild start may overflow; its objective is inf and it is never the best
        theta, y = np.clip(starts, problem.lower, problem.upper), problem.targets(block)
        curves = _Curves.at(problem, theta, y)
        ends, objective, converged = theta.copy(), curves.objective.copy(), np.zeros(len(theta), dtype=bool)
        # which candidates are still under way
        which, damping, settled = np.arange(len(theta)), np.ones(len(theta)), ~np.isfinite(objective)
        for _ in range(iterations):
            if settled.any():
                going = ~settled
                which, theta, damping, curves = which[going], theta[going], damping[going], curves.keep(going)
                y = y if y.ndim == 1 else y[going]
            if not which.size:
                break
            proposal = _propose(problem, theta, curves, damping)
            reached = _Curves.at(problem, proposal, y)
            gain = curves.objective - reached.objective
            worse = ~(gain > 0)
            # relative gain small, or nothing left to try
            small = ~worse & (gain <= tolerance * curves.objective)
            stuck = worse & (damping > 1e6)
            if worse.any():
                proposal[worse] = theta[worse]
                reached.put(worse, curves)
            theta, curves = proposal, reached
            damping = np.clip(np.where(worse, damping * 5, damping * 0.2), 1e-7, 1e8)
            settled = stuck | (small & (damping < 1e3)) | (curves.objective < 1e-22)
            ends[which], objective[which], converged[which] = theta, curves.objective, settled
    return Solutions(theta=ends, objective=objective, converged=converged)


def _propose(problem: Problem, theta: np.ndarray, curves: _Curves, damping: np.ndarray) -> np.ndarray:
    """One damped step from every candidate [b, p], projected on the bounds."""
    moving, rows, residual = np.flatnonzero(problem.free), curves.rows, curves.residual
    gradient = (rows @ (np.clip(residual, -problem.delta, problem.delta) * problem.weights)[..., None])[..., 0]
    # inside the delta the curvature and its majoriser are the same, outside there is the majoriser alone
    size = np.abs(residual)
    damp = damping[:, None]
    weight = np.where(size <= problem.delta, 1 + damp, damp * problem.delta / size) * problem.weights
    system = (rows * weight[:, None, :]) @ rows.transpose(0, 2, 1)
    diagonal = np.arange(len(moving))
    scale = system[:, diagonal, diagonal] / (1 + damp)
    floor = 1e-14 * scale.max(axis=1, keepdims=True) + 1e-30
    here = theta[:, moving]
    blocked = (here <= problem.lower[moving]) & (gradient > 0) | (here >= problem.upper[moving]) & (gradient < 0)
    system[:, diagonal, diagonal] += 0.01 * damp * scale + floor
    system = np.where(blocked[:, :, None] | blocked[:, None, :], 0.0, system)
    system[:, diagonal, diagonal] += blocked
    # parameters differ in scale: solve for the step in units where the diagonal is one
    root = np.sqrt(np.maximum(system[:, diagonal, diagonal], 1e-300))
    right = np.where(blocked, 0.0, -gradient) / root
    bad = ~np.isfinite(right).all(axis=1) | ~np.isfinite(system).all(axis=(1, 2))
    system = system / root[:, :, None] / root[:, None, :]
    system[bad] = np.eye(len(moving))
    right[bad] = 0.0
    system[:, diagonal, diagonal] += 1e-13
    step = np.linalg.solve(system, right[..., None])[..., 0] / root
    out = theta.copy()
    out[:, moving] = np.clip(here + step, problem.lower[moving], problem.upper[moving])
    return out


def solve_linear_block(problem: Problem, starts: np.ndarray) -> np.ndarray:
    """Set the linear parameters of every start [B, p] to their best non-negative values, exactly.

    Least squares on relative residuals, (f - L)/L, which to first order is the log residual. With q free linear
    parameters the non-negative solution is the best of the 2^q unconstrained ones that are non-negative, so it is
    exact. Targets and weights are [n].
    """
    return np.concatenate([_linear_block(problem, starts[block]) for block in blocks(problem, starts)])


def _linear_block(problem: Problem, starts: np.ndarray) -> np.ndarray:
    form, theta = problem.form, starts.copy()
    linear = np.flatnonzero(problem.free & np.array([p.linear for p in form.parameters]))
    if not linear.size:
        return theta
    with np.errstate(all="ignore"):
        theta[:, linear] = 0.0
        offset, jacobian = form.value_and_jacobian(theta, problem.x)
        assert jacobian is not None
        loss = np.exp(problem.log_loss)
        root = np.sqrt(problem.weights)
        design = jacobian[:, linear, :] / loss * root
        target = (loss - offset) / loss * root
        gram, moment = design @ design.transpose(0, 2, 1), np.einsum("bqn,bn->bq", design, target)
        best, found = np.full(len(theta), np.inf), np.zeros((len(theta), linear.size))
        for bits in range(1 << linear.size):
            chosen = np.flatnonzero([bits >> k & 1 for k in range(linear.size)])
            answer = np.zeros_like(found)
            if chosen.size:
                part = gram[:, chosen[:, None], chosen]
                ridge = 1e-12 * np.einsum("bqq->bq", part).max(axis=1) + 1e-300
                part = part + ridge[:, None, None] * np.eye(chosen.size)
                usable = np.isfinite(part).all(axis=(1, 2)) & np.isfinite(moment).all(axis=1)
                part[~usable] = np.eye(chosen.size)
                solved = np.linalg.solve(part, moment[:, chosen, None])[..., 0]
                answer[:, chosen] = np.where(usable[:, None], solved, 0.0)
            cost = np.einsum("bq,bqr,br->b", answer, gram, answer) - 2 * np.einsum("bq,bq->b", answer, moment)
            better = (answer >= 0).all(axis=1) & (cost < best)
            best, found = np.where(better, cost, best), np.where(better[:, None], answer, found)
        theta[:, linear] = found
    return theta
