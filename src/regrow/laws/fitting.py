"""Fit laws to runs: one per family and method, robustly, with run-level intervals and an honest status.

`fit` groups the runs, decides what each group can identify, minimises from many starts with the linear block solved
exactly, prefers the simpler of two nested laws unless the data refute it, and bootstraps over runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from regrow.errors import InputError, RegrowError
from regrow.laws import checks
from regrow.laws.collection import Laws
from regrow.laws.forms import Form, find_form
from regrow.laws.law import Law
from regrow.laws.objective import metrics
from regrow.laws.observations import Observations, as_records, observe, of_loss
from regrow.laws.point import STARTS, PointFit, fit_point
from regrow.laws.setting import BASIC_NAMES
from regrow.laws.spread import pool
from regrow.laws.uncertainty import bootstrap
from regrow.runs.record import RunRecord
from regrow.units import plural


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
