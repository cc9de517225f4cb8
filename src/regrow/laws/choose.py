"""Which form to fit where none is asked for: the one that predicts better what is held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from regrow.errors import InputError, RegrowError
from regrow.laws.fitting import known, usable
from regrow.laws.forms import find_form
from regrow.laws.observations import observe, of_loss
from regrow.laws.point import fit_point
from regrow.laws.pooled.fit import pools_of
from regrow.laws.pooled.held_out import hold_out as hold_out_of
from regrow.laws.splits import masks
from regrow.runs.record import RunRecord
from regrow.units import plural

#: the form whose runs share a law across methods
POOLED = "regrowth"
#: the other form: of the paper whose claims the law has to stand beside
OTHER = "p2"
_WHAT = {"size": "the largest models", "tokens": "the last fifth of each run's readings"}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The form taken, and why.

    Attributes:
        form: its name.
        why: one line.
        held_out: what was held out, `size` or `tokens`; None where nothing could be.
        errors: mean error of the held-out losses, a share of the loss, by family and method.
    """

    form: str
    why: str
    held_out: str | None = None
    errors: Mapping[tuple[str, str], float] = field(default_factory=dict)


def choose_form(
    records: Sequence[RunRecord],
    *,
    pool: str | None,
    baseline: str,
    loss: str,
    seed: int,
    hold: Mapping[str, float] | None = None,
) -> Choice:
    """The form that predicts better.

    The largest sizes are held out where there are several, else the last readings of every run.
    """
    pruned = [r for r in records if not r.is_control]
    unread = sum(r.start_loss is None for r in pruned)
    if hold:
        return Choice(form=OTHER, why=f"form {OTHER}: it is the one with parameters to hold")
    if pool is None and unread > len(pruned) / 2:
        lack = "lacks" if unread == 1 else "lack"
        lacking = f"{unread} of {plural(len(pruned), 'run')} {lack} the loss right after pruning, which {POOLED} reads"
        return Choice(form=OTHER, why=f"form {OTHER}: {lacking}")
    if pool not in (None, "method"):
        return Choice(form=POOLED, why=f"form {POOLED}: it is the one that pools runs")
    runs = of_loss(records, loss, controls=baseline == "control")
    for hold_out, what in _WHAT.items():
        first = _error_pooled(runs, hold_out, pool or "family", baseline, seed)
        second = _error_each(runs, hold_out, baseline, seed)
        shared = sorted(set(first) & set(second))
        if not shared:
            continue
        ours, theirs = (float(np.mean([errors[group] for group in shared])) for errors in (first, second))
        best, other = (POOLED, OTHER) if ours <= theirs else (OTHER, POOLED)
        low, high = sorted((ours, theirs))
        errs = f"an error of {low:.2%} of the loss ({other}: {high:.2%})"
        return Choice(
            form=best,
            why=f"form {best}: it predicts {what}, held out, with {errs}",
            held_out=hold_out,
            errors=first if best == POOLED else second,
        )
    best = OTHER if unread else POOLED
    return Choice(form=best, why=f"form {best}: too few runs to hold any out")


def check_pool(form: str, pool: str | None) -> None:
    """Raise `InputError` for a pool that a form with a law of each method can't have."""
    if form != POOLED and pool not in (None, "method"):
        raise InputError(
            f"--pool {pool} with the form {form}",
            where="fit",
            hint=f"only {POOLED} pools methods: leave one out",
        )


def _error_pooled(
    records: Sequence[RunRecord], hold_out: str, pool: str, baseline: str, seed: int
) -> dict[tuple[str, str], float]:
    """Mean error of each group held out, by the pooled form; a group that can't be asked is left out."""
    errors = {}
    try:
        for one in pools_of(records, pool, baseline=baseline, skipped=[]):
            found, _ = hold_out_of(
                one, hold_out, pool, partial(masks, hold_out=hold_out), baseline=baseline, level=0.9, draws=2, seed=seed
            )
            for number, parts in found.items():
                off = np.concatenate([np.abs(p.predicted / p.held.loss - 1) for p in parts])
                errors[one.groups[number].family, one.groups[number].method] = float(off.mean())
    except InputError:
        return {}
    return errors


def _error_each(records: Sequence[RunRecord], hold_out: str, baseline: str, seed: int) -> dict[tuple[str, str], float]:
    """The same by the other form, of which every group has its own."""
    form = find_form(OTHER)
    errors = {}
    for group in observe(records, baseline=baseline, skipped=[]):
        try:
            group = usable(form, known(form, group))
            (mask,) = masks(group, hold_out)
            point = fit_point(form, group.keep(~mask), seed=seed)
        except RegrowError:
            continue
        held = group.keep(mask)
        predicted = form.value(point.theta[None, :], held.x.relative_to(point.problem.x.ref))[0]
        errors[group.family, group.method] = float(np.mean(np.abs(predicted / held.loss - 1)))
    return errors
