"""One law's point estimate: many starts, the choice between nested laws, and how well the end is determined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from regrow.laws.forms import Form
from regrow.laws.identify import Design, Simpler, design
from regrow.laws.nested import refuted
from regrow.laws.objective import HUBER_DELTA
from regrow.laws.observations import Observations
from regrow.laws.solver import Problem, Solutions, solve, solve_linear_block
from regrow.laws.spread import Spread, spreads
from regrow.laws.uncertainty import evenly_picked

#: starts screened, and how many of them are followed to the end
STARTS, FOLLOWED = 96, 12
#: the same beside the ends of a fit of nearly the same data, and how many different ends that fit hands on
_MORE_STARTS, _MORE_FOLLOWED, _ENDS = 24, 3, 4
#: readings of one run, and of all, on which starts are screened at most; those that are followed are fitted to all
_SCREENED_OF_RUN, _SCREENED = 6, 10_000
#: two starts agree if their objectives differ by less than this share
_AGREE = 1e-3
#: condition number of the column-scaled Jacobian above which a direction counts as flat
_FLAT = 3e3


@dataclass(frozen=True, kw_only=True, eq=False)
class PointFit:
    """The point estimate [p] in scaled units, and how it was reached.

    `ends` [k, p] are where the best starts of every nested law came to, in natural units.
    """

    seen: Observations
    problem: Problem
    theta: np.ndarray
    spread: Spread
    objective: float
    converged: bool
    followed: int
    agreed: int
    condition: float
    at_bound: tuple[str, ...]
    flat: bool
    unsupported: Mapping[str, str]
    notes: tuple[str, ...]
    ends: np.ndarray


def fit_point(
    form: Form,
    seen: Observations,
    *,
    seed: int = 0,
    hold: Mapping[str, float] | None = None,
    delta: float = HUBER_DELTA,
    near: PointFit | None = None,
) -> PointFit:
    """Minimise from many starts, choosing between nested laws; no intervals.

    Args:
        near: a fit of nearly the same data, as of one run more. Its ends are starts, beside fewer others.
    """
    ref = seen.x.reference()
    starts = None if near is None else form.from_natural(near.ends, ref)
    plan = design(form, seen, ref, hold)
    notes = list(plan.notes)
    best, problem, used, ends = _nested_search(form, seen, plan, seed=seed, delta=delta, starts=starts)
    if used is not None:
        notes.append(used.note)
    theta = best.theta[best.best]
    condition = _condition(problem, theta)
    at_bound = _at_bound(problem, theta)
    flat = plan.flat
    if condition > _FLAT:
        flat = True
        notes.append(f"a direction is flat (condition number {condition:.2g}): single parameters are not to be trusted")
    notes.extend(_bound_note(form, name, value) for name, value in at_bound.items())
    objective = float(best.objective[best.best])
    return PointFit(
        seen=seen,
        problem=problem,
        theta=theta,
        spread=spreads(problem, theta, seen),
        objective=objective,
        converged=bool(np.isfinite(objective)),
        followed=len(best.objective),
        agreed=int(np.sum(best.objective <= objective * (1 + _AGREE) + 1e-15)),
        condition=condition,
        at_bound=tuple(at_bound),
        flat=flat,
        unsupported=plan.unsupported,
        notes=tuple(notes),
        ends=form.to_natural(np.concatenate(ends), ref),
    )


def _nested_search(
    form: Form, seen: Observations, plan: Design, *, seed: int, delta: float, starts: np.ndarray | None
) -> tuple[Solutions, Problem, Simpler | None, list[np.ndarray]]:
    """Search the simplest law and then fuller ones, and keep a fuller one where the data refute the simpler.

    Returns what was found of the law that is kept, its problem, what it leaves out, and the distinct ends of all.
    """
    best, ends = None, list[np.ndarray]()
    for simpler in (*plan.simpler, None):
        fuller_problem = make_problem(form, seen, plan if simpler is None else plan.without(form, simpler.zero), delta)
        if best is None:
            best, problem, used = _search(fuller_problem, seen.run, seed, starts), fuller_problem, simpler
            ends.append(best.distinct(_ENDS))
            continue
        if len(seen) <= fuller_problem.free.sum():
            break
        # start where the simpler law ended too, so that the fuller one is hardly ever worse
        fuller = _search(fuller_problem, seen.run, seed, starts, also=best.theta[[best.best]])
        ends.append(fuller.distinct(_ENDS))
        # an exponent that runs to its bound means that one size is out of line, not that the term is there
        wild = any(
            not form.parameters[form.index(n)].linear for n in _at_bound(fuller_problem, fuller.theta[fuller.best])
        )
        if not wild and refuted(best, fuller, problem, fuller_problem, seen):
            best, problem, used = fuller, fuller_problem, simpler
    assert best is not None
    return best, problem, used, ends


def make_problem(form: Form, seen: Observations, plan: Design, delta: float) -> Problem:
    """Bounds around held values, data scaled by their geometric means."""
    lower = np.array([p.lower for p in form.parameters])
    upper = np.array([p.upper for p in form.parameters])
    return Problem(
        form=form,
        x=seen.x.relative_to(seen.x.reference()),
        log_loss=np.log(seen.loss),
        weights=seen.weights(),
        free=plan.free,
        lower=np.where(plan.free, lower, plan.held),
        upper=np.where(plan.free, upper, plan.held),
        delta=delta,
    )


def _search(
    problem: Problem, run: np.ndarray, seed: int, near: np.ndarray | None = None, *, also: np.ndarray | None = None
) -> Solutions:
    """Screen many starts briefly, follow the best to the end; of starts beside those `near` the end, fewer do.

    Args:
        run: [n] index of each checkpoint's run.
        near: [k, p] starts that are followed whatever their objective.
        also: [1, p] a start to screen beside the others: where the simpler law ended.
    """
    count, followed = (STARTS, FOLLOWED) if near is None else (_MORE_STARTS, _MORE_FOLLOWED)
    screened = _thinned(problem, run)
    starts = solve_linear_block(screened, _spread_out(problem, count, seed))
    if also is not None:
        inside = np.array([0.5 * sum(p.start) for p in problem.form.parameters])
        starts = np.concatenate([starts, np.where(problem.free & (also == problem.lower), inside * 1e-2, also)])
    short = solve(screened, starts, iterations=12)
    best = short.theta[np.argsort(short.objective)[:followed]]
    if near is not None:
        best = np.concatenate([near[np.isfinite(near).all(axis=1)], best])
    return solve(problem, best, iterations=400, tolerance=1e-11)


def _spread_out(problem: Problem, count: int, seed: int) -> np.ndarray:
    """Starts [count, p] of the exponents by a Latin hypercube: each has its own stratum of every exponent."""
    rng = np.random.default_rng(seed)
    parameters = problem.form.parameters
    strata = rng.permuted(np.tile(np.arange(count), (len(parameters), 1)), axis=1).T
    unit = (strata + rng.random(strata.shape)) / count
    low, high = (np.array([p.start[i] for p in parameters]) for i in (0, 1))
    return np.where(problem.free, low + unit * (high - low), problem.lower)


def _thinned(problem: Problem, run: np.ndarray) -> Problem:
    """The problem on a part of each run's checkpoints, at random where that are very many still: enough to tell good
    starts from bad."""
    kept = evenly_picked(run, _SCREENED_OF_RUN)
    if len(kept) > _SCREENED:
        kept = np.sort(np.random.default_rng(0).choice(kept, _SCREENED, replace=False))
    weights = 1 / np.bincount(run[kept])[run[kept]]
    return replace(problem, x=problem.x.keep(kept), log_loss=problem.log_loss[kept], weights=weights)


def _condition(problem: Problem, theta: np.ndarray) -> float:
    """Condition number of the Jacobian of log loss with unit columns, over parameters off their bounds."""
    value, jacobian = problem.form.value_and_jacobian(theta[None, :], problem.x)
    assert jacobian is not None
    moving = problem.free & (theta > problem.lower) & (theta < problem.upper)
    rows = (jacobian[0] / value[0] * np.sqrt(problem.weights))[moving]
    norms = np.linalg.norm(rows, axis=1)
    if not np.isfinite(rows).all():
        return 1e16
    # an exponent whose coefficient is 0 has no column: the coefficient's bound is what is reported
    rows, norms = rows[norms > 0], norms[norms > 0]
    if not len(rows):
        return 1.0
    singular = np.linalg.svd(rows / norms[:, None], compute_uv=False)
    return float(singular[0] / max(singular[-1], singular[0] * 1e-16))


def _at_bound(problem: Problem, theta: np.ndarray) -> dict[str, float]:
    out = {}
    for i, parameter in enumerate(problem.form.parameters):
        if problem.free[i] and (theta[i] <= problem.lower[i] + 1e-9 or theta[i] >= problem.upper[i] * (1 - 1e-9)):
            out[parameter.name] = float(theta[i])
    return out


def _bound_note(form: Form, name: str, value: float) -> str:
    parameter = form.parameters[form.index(name)]
    if parameter.at_lower and value <= parameter.lower + 1e-9:
        return parameter.at_lower
    return f"{name} is on its bound ({value:.3g})"
