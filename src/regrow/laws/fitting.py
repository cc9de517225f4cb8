"""Fit laws to runs: one per family and method, robustly, with run-level intervals and an honest status.

`fit` groups the runs, decides what each group can identify, minimises from many starts with the linear block solved
exactly, prefers the simpler of two nested laws unless the data refute it, and bootstraps over runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regrow.errors import InputError, RegrowError
from regrow.laws import checks
from regrow.laws.collection import Laws
from regrow.laws.forms import Form, find_form
from regrow.laws.identify import Design, design
from regrow.laws.law import Law
from regrow.laws.nested import refuted
from regrow.laws.objective import HUBER_DELTA, metrics
from regrow.laws.observations import Observations, as_records, observe, of_loss
from regrow.laws.setting import BASIC_NAMES
from regrow.laws.solver import Problem, Solutions, solve, solve_linear_block
from regrow.laws.spread import Spread, pool, spreads
from regrow.laws.uncertainty import bootstrap, evenly_picked
from regrow.runs.record import RunRecord
from regrow.units import plural

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


def fit(
    runs: Sequence[RunRecord] | Any,
    form: str = "p2",
    *,
    baseline: str = "initial",
    loss: str = "raw",
    draws: int = 200,
    seed: int = 0,
    hold: Mapping[str, float] | None = None,
) -> Laws:
    """Fit one law per family and method, each to its own runs: every form but `regrowth` (`regrow.laws.entry.fit`).

    Args:
        runs: run records, or a table with the contract's columns; controls have the method `none`.
        form: name of a form in `regrow.laws.forms.FORMS`.
        baseline: `initial` or `control`: what the gap is measured from. Forms that do not read the loss before
            pruning do not depend on it.
        loss: which of the losses of a checkpoint: `raw`, `averaged` (of averaged weights) or `cooled` (of a run that
            ends annealed there); checkpoints without it are left out.
        draws: bootstrap refits.
        seed: of starts and bootstrap; the same seed gives the same law.
        hold: parameters to hold, e.g. `{"gamma": 0.0}`; exponents at any value, coefficients at 0.

    Returns:
        The laws; `.skipped` lists the groups that were too small, where others could be fitted, `.other_baseline` the
        laws from the other baseline where the unpruned controls moved.

    Raises:
        InputError: a bad table, an unknown form, baseline or loss, a run that has no such loss, a missing control, or
            no group that can be fitted.
    """
    if draws < 1:
        raise InputError(f"{draws} draws", where="fit", hint="give at least 1")
    formula = find_form(form)
    used = baseline if "loss_before" in formula.uses else "initial"
    records = of_loss(as_records(runs), loss, controls=used == "control")
    laws, skipped, drifted = _fit_all(formula, records, used, draws=draws, seed=seed, hold=hold)
    if not laws:
        raise InputError(f"no group can be fitted: {' | '.join(skipped)}", where="fit")
    other: Sequence[Law] = ()
    if drifted:
        mine = [r for r in records if r.is_control or (r.family, r.method) in drifted]
        other_name = "control" if used == "initial" else "initial"
        # a second opinion: where it cannot be had (a control too short, say), the first one stands
        with suppress(RegrowError):
            other = _fit_all(formula, mine, other_name, draws=draws, seed=seed, hold=hold)[0]
    return Laws(
        [replace(law, loss_kind=loss) for law in laws], skipped, [replace(law, loss_kind=loss) for law in other]
    )


def _fit_all(
    formula: Form,
    records: list[RunRecord],
    baseline: str,
    *,
    draws: int,
    seed: int,
    hold: Mapping[str, float] | None,
) -> tuple[list[Law], list[str], set[tuple[str, str]]]:
    """Laws, the groups skipped, and the (family, method) of the groups whose control drifts."""
    fitted, skipped = [], list[str]()
    groups = observe(records, baseline=baseline, columns=formula.columns, skipped=skipped)
    for group in groups:
        try:
            fitted.append(fit_point(formula, usable(formula, group), seed=seed, hold=hold))
        except RegrowError as refused:
            if len(groups) == 1:
                raise
            skipped.append(str(refused))
    laws = [finish(one, [o for o in fitted if o is not one], records, draws=draws, seed=seed) for one in fitted]
    drifted = {(p.seen.family, p.seen.method) for p in fitted if checks.drifts(formula, p.seen, records, p.spread)}
    return laws, skipped, drifted


def fit_group(
    form: Form,
    seen: Observations,
    others: Sequence[PointFit] = (),
    *,
    draws: int = 200,
    seed: int = 0,
    hold: Mapping[str, float] | None = None,
    near: PointFit | None = None,
) -> Law:
    """Fit one family and method; see `fit`. `others` lend their spread between runs where this group has too few;
    `near` is a fit of nearly the same data, as in `fit_point`."""
    return finish(fit_point(form, usable(form, seen), seed=seed, hold=hold, near=near), others, draws=draws, seed=seed)


def finish(
    point: PointFit, others: Sequence[PointFit] = (), records: Sequence[RunRecord] = (), *, draws: int, seed: int
) -> Law:
    """Intervals, metrics and warnings around a point fit. `records` are only asked for controls that drift."""
    problem, theta, seen, form = point.problem, point.theta, point.seen, point.problem.form
    lenders = [o.spread for o in others if o.seen.family == seen.family]
    spread, borrowed = pool(point.spread, lenders)
    scaled = bootstrap(problem, theta, seen, spread, draws, seed)
    natural = form.to_natural(np.concatenate([theta[None, :], scaled]), problem.x.ref)
    predicted = form.value(theta[None, :], problem.x)[0]
    warnings = [*seen.notes, *point.notes, *checks.warn(form, seen, records, predicted, spread)]
    if borrowed:
        warnings.append(borrowed)
    status = "failed" if not point.converged else "flat" if point.flat else "bound" if point.at_bound else "ok"
    return Law(
        family=seen.family,
        method=seen.method,
        form=form.name,
        params=dict(zip(form.names, natural[0].tolist(), strict=True)),
        status=status,
        warnings=tuple(warnings),
        n_runs=len(seen.runs),
        n_points=len(seen),
        metrics=metrics(seen.run, seen.x.tokens, seen.loss, predicted, problem.weights),
        ranges=seen.x.only((*BASIC_NAMES, *form.uses)).ranges(),
        draws=natural[1:],
        run_spread=spread.between,
        point_spread=spread.within,
        size_spread=spread.size,
        baseline=seen.baseline,
        fingerprint=seen.fingerprint(form.uses),
        diagnostics={
            "objective": point.objective,
            "huber_delta": problem.delta,
            "starts": STARTS,
            "starts_followed": point.followed,
            "starts_agreed": point.agreed,
            "condition": point.condition,
            "at_bound": list(point.at_bound),
            "fixed": [name for name, free in zip(form.names, problem.free, strict=True) if not free],
            "run_dof": spread.dof,
            "size_dof": spread.size_dof,
            "unsupported": dict(point.unsupported),
            "seed": seed,
        },
    )


def known(form: Form, seen: Observations) -> Observations:
    """Without the checkpoints at which a column that the form reads is not known, said in the notes.

    Raises `InputError` where none is left.
    """
    for column in form.columns:
        missing = np.isnan(seen.x[column.name])
        if missing.all():
            raise InputError(
                f"no run says its {column.spoken}, which the form {form.name} reads",
                where=seen.where,
                hint=f"add the column {column.name}, or choose another form",
            )
        if missing.any():
            runs = sorted({seen.runs[r] for r in seen.run[missing]})
            seen = seen.keep(~missing, f"left out, the {column.spoken} is not known: {', '.join(runs)}")
    return seen


def usable(form: Form, seen: Observations) -> Observations:
    """Without the checkpoints that the form cannot use, said in the notes. Raises `InputError` where none is left."""
    seen = known(form, seen)
    zero = seen.x.tokens <= 0
    if not (form.diverges_at_zero and zero.any()):
        return seen
    if zero.all():
        raise InputError(
            "every checkpoint is at 0 tokens", where=seen.where, hint="a curve needs checkpoints after training"
        )
    losses = plural(int(zero.sum()), "loss", "losses")
    left = "is" if zero.sum() == 1 else "are"
    return seen.keep(~zero, f"{losses} at 0 tokens {left} left out: {form.name} does not cover them")


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
