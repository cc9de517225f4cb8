"""`fit` for every form: each method alone, or runs that share a law; and the choice between the two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from regrow.errors import InputError
from regrow.laws import fitting
from regrow.laws.choose import POOLED, Choice, check_pool, choose_form
from regrow.laws.collection import Laws
from regrow.laws.controls import recipes_of
from regrow.laws.forms import find_form
from regrow.laws.law import Law
from regrow.laws.observations import as_records, of_loss
from regrow.laws.pooled.fit import fit_records
from regrow.laws.pooled.pool import score_pools
from regrow.laws.pooled.score_laws import laws_of_score_pool
from regrow.laws.pooled.scored import check_score_options, names_of
from regrow.laws.regrowth.recipe import log_longer, log_over
from regrow.runs.record import RunRecord

#: recipes by which the tokens of a recovery differ less than this factor count as one
_SAME_RECIPE = 1.1


def fit(
    runs: Sequence[RunRecord] | Any,
    form: str = "auto",
    *,
    pool: str | None = None,
    baseline: str = "initial",
    loss: str = "raw",
    score: str | Sequence[str] | None = None,
    draws: int = 200,
    seed: int = 0,
    hold: Mapping[str, float] | None = None,
) -> Laws:
    """Fit one law per family and method.

    Args:
        runs: run records, or a table with the contract's columns; controls have the method `none`.
        form: name of a form in `regrow.laws.forms.FORMS`, or `auto`: `regrowth` or `p2`, whichever predicts better what
            is held out (`regrow.laws.choose`).
        pool: which runs share a law of the form `regrowth`: `method` (each family and method alone), `family` (a
            family's methods; the default) or `all`. Every other form has a law of each method.
        baseline: `initial` or `control`: what the gap is measured from. A law of the form `regrowth` counts gaps above
            the controls that there are in any case; from `initial` it predicts their drift as well, from `control` it
            is told the control's loss. Forms that do not read the loss before pruning do not depend on it.
        loss: which of the losses of a checkpoint: `raw`, `averaged` (of averaged weights) or `cooled` (of a run that
            ends annealed there); checkpoints without it are left out.
        score: a benchmark, several, or `all`: laws of scores in the place of losses. What is fitted is the error
            1 - score, by the form `regrowth`; the benchmarks of a run share its pace, and several have a law of their
            mean as well.
        draws: bootstrap refits, or draws from the posterior.
        seed: of starts and draws; the same seed gives the same law.
        hold: parameters to hold, e.g. `{"gamma": 0.0}`; exponents at any value, coefficients at 0.

    Returns:
        The laws; `.chosen` says which form was taken where none was asked for, `.skipped` lists the groups that were
        too small, where others could be fitted, `.other_baseline` the laws from the other baseline where the unpruned
        controls moved.

    Raises:
        InputError: a bad table, an unknown form, pool, baseline or loss, a run that has no such loss, a missing
            control, or no group that can be fitted.
    """
    if draws < 1:
        raise InputError(f"{draws} draws", where="fit", hint="give at least 1")
    records = as_records(runs)
    if score is not None:
        check_score_options(form, baseline=baseline, loss=loss, hold=hold)
        return _fit_scores(records, score, pool or "family", draws=draws, seed=seed)
    taken = None
    if form == "auto":
        taken = choose_form(records, pool=pool, baseline=baseline, loss=loss, seed=seed, hold=hold)
        form, pool = taken.form, pool if taken.form == POOLED else None
    find_form(form)
    check_pool(form, pool)
    if form == POOLED:
        laws = _fit_pooled(records, pool, baseline=baseline, loss=loss, draws=draws, seed=seed, hold=hold)
    else:
        laws = fitting.fit(records, form, baseline=baseline, loss=loss, draws=draws, seed=seed, hold=hold)
        laws = Laws(_of_recipes(_unread(laws, records), records), laws.skipped, laws.other_baseline)
    return laws if taken is None else Laws(_with_error(laws, taken), laws.skipped, laws.other_baseline, taken.why)


def _fit_pooled(
    records: Sequence[RunRecord],
    pool: str | None,
    *,
    baseline: str,
    loss: str,
    draws: int,
    seed: int,
    hold: Mapping[str, float] | None,
) -> Laws:
    """The laws of the form whose groups share their parameters."""
    if hold:
        raise InputError(
            f"{', '.join(hold)} held in the form {POOLED}",
            where="fit",
            hint="its parameters differ between runs: leave it out",
        )
    used = of_loss(records, loss, controls=baseline == "control")
    skipped: list[str] = []
    found = fit_records(used, pool or "family", baseline=baseline, draws=draws, seed=seed, skipped=skipped)
    return Laws([replace(law, loss_kind=loss) for law in found], skipped)


def _fit_scores(records: Sequence[RunRecord], score: str | Sequence[str], pool: str, *, draws: int, seed: int) -> Laws:
    """The laws of these benchmarks."""
    skipped: list[str] = []
    laws: list[Law] = []
    for one in score_pools(records, names_of(records, score), pool, skipped=skipped):
        try:
            laws.extend(laws_of_score_pool(one, pool, draws=draws, seed=seed))
        except InputError as refused:
            skipped.append(str(refused))
    if not laws:
        raise InputError(f"no group can be fitted: {' | '.join(skipped)}", where="fit")
    return Laws(laws, skipped)


def _with_error(laws: Sequence[Law], taken: Choice) -> list[Law]:
    """The laws, each with its error on the largest size, held out, as `held_out_error`: a share of the loss."""
    if taken.held_out != "size":
        return list(laws)
    return [
        replace(law, diagnostics={**law.diagnostics, "held_out_error": taken.errors[law.family, law.method]})
        if (law.family, law.method) in taken.errors
        else law
        for law in laws
    ]


def _of_recipes(laws: Sequence[Any], records: Sequence[RunRecord]) -> list[Any]:
    """The laws, each with a note where its runs differ in learning rate or batch and its form doesn't read that."""
    if not laws or "learning_rate" in (column.name for column in laws[0].formula.optional):
        return list(laws)
    out = []
    for law in laws:
        recipes = recipes_of(r for r in records if (r.family, r.method) == (law.family, law.method))
        apart = [log_longer(log_over(r, rate), log_over(b, batch)) for r, b in recipes for rate, batch in recipes[:1]]
        times = math.exp(max(apart) - min(apart)) if apart else 1.0
        if times > _SAME_RECIPE:
            note = (
                f"the runs' recipes differ (learning rate or batch): for one, a recovery takes about {times:.2g} times "
                f"the tokens that it takes for another, and the form {law.form} does not read it; {POOLED} does"
            )
            law = replace(law, warnings=(*law.warnings, note))
        out.append(law)
    return out


def _unread(laws: Sequence[Any], records: Sequence[RunRecord]) -> list[Any]:
    """The laws, each with a note where its runs were given a loss right after pruning that its form doesn't read."""
    given = {(r.family, r.method) for r in records if r.loss_pruned is not None}
    return [
        replace(
            law, warnings=(*law.warnings, f"loss_pruned is given, and not read by the form {law.form}: {POOLED} is")
        )
        if (law.family, law.method) in given and "loss_pruned" not in law.formula.uses
        else law
        for law in laws
    ]
