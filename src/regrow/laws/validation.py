"""Proof by held-out runs: fit on a part, predict the rest, and set the error beside what a sceptic would try first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.errors import InputError, RegrowError, one_of
from regrow.laws import baselines
from regrow.laws.choose import POOLED, check_pool
from regrow.laws.fitting import fit_group, known
from regrow.laws.forms import FORMS, Form, find_form
from regrow.laws.group_fits import GroupFits
from regrow.laws.law import LOSS, Law
from regrow.laws.objective import average_slope_difference
from regrow.laws.observations import Observations, as_records, observe, of_loss
from regrow.laws.point import PointFit
from regrow.laws.pooled.fit import pools_of
from regrow.laws.pooled.held_out import Held
from regrow.laws.pooled.held_out import hold_out as hold_out_of
from regrow.laws.pooled.loss_route import errors_by_loss
from regrow.laws.pooled.pool import score_pools
from regrow.laws.pooled.score_held_out import hold_out_scores
from regrow.laws.pooled.scored import check_score_options, names_of
from regrow.laws.splits import masks
from regrow.runs.record import RunRecord

if TYPE_CHECKING:
    import pandas as pd

HOLD_OUTS = ("tokens", "size", "rate", "run", "method", "family")
#: what only a law that methods or families share can be asked
_SHARED = ("method", "family")


@dataclass(frozen=True, kw_only=True)
class HoldOutResult:
    """How one form predicted what it had not seen; errors are fractions of the loss.

    Attributes:
        hold_out: `tokens` (last 20% of each run), `size` (largest), `rate` (each size's highest), `run` (each in turn).
        mape, max_ape: mean and worst absolute error of the held-out losses.
        mae: mean absolute error: nats/token, or of a score, a fraction (0.012 is 1.2 points).
        gap_mape: mean absolute error of the gap above the baseline loss, None where no gap is positive.
        asd: average slope difference, nats per e-fold of tokens.
        coverage: share of held-out checkpoints inside the interval for a new run at `level`.
        width: mean width of those intervals, as a share of the loss.
        span: mean width of those intervals, nats/token, or of a score, a fraction.
        r2: of the held-out losses; None where they are all equal.
        outside: how far the held-out points stand outside what was fitted, as a factor per input.
        target: `loss`, or `score:NAME`: then losses are the errors 1 - score.
        baselines: mape (of scores: mae) of `last` (the last loss seen; across runs, the nearest run's gap), `power` (a
            power law of the run alone, only for tokens) and `chinchilla`; None where one does not apply. Of scores
            also `from_loss`: the loss by its own law, then the score by the family's link from loss to score.
        status: worst status among the laws fitted.
    """

    family: str
    method: str
    form: str
    hold_out: str
    mape: float
    max_ape: float
    gap_mape: float | None
    asd: float | None
    coverage: float
    width: float
    level: float
    r2: float | None
    n_points: int
    n_runs: int
    outside: Mapping[str, float]
    baselines: Mapping[str, float | None]
    status: str
    mae: float
    span: float
    target: str = LOSS
    warnings: tuple[str, ...] = field(default=())


class HoldOutResults(list[HoldOutResult]):
    """Hold-out results; `skipped` says which could not be done and why."""

    def __init__(self, results: Iterable[HoldOutResult] = (), skipped: Sequence[str] = ()) -> None:
        super().__init__(results)
        self.skipped = tuple(skipped)

    def to_frame(self) -> pd.DataFrame:
        """One row per result, the baselines as columns."""
        import pandas as pd

        rows = []
        for r in self:
            plain = {k: v for k, v in vars(r).items() if k not in ("outside", "baselines", "warnings")}
            outside = {f"outside_{k}": v for k, v in r.outside.items()}
            rows.append(plain | outside | {f"baseline_{k}": v for k, v in r.baselines.items()})
        return pd.DataFrame(rows)


def validate(
    runs: Sequence[RunRecord] | Any,
    hold_out: str = "tokens",
    forms: Sequence[str] | str | None = None,
    baseline: str = "initial",
    *,
    loss: str = "raw",
    score: str | Sequence[str] | None = None,
    pool: str | None = None,
    level: float = 0.9,
    draws: int = 200,
    seed: int = 0,
) -> HoldOutResults:
    """Hold out, fit, predict, for every group and form.

    Args:
        hold_out: `tokens`, `size`, `rate`, `run`, or `method` and `family`, each in turn, for the form `regrowth`.
        forms: one name, several, or None for all.
        pool: which runs share a law of the form `regrowth`, as in `regrow.laws.fit`; `all` where a family is held out.
        loss: `raw`, `averaged` or `cooled`, as in `regrow.laws.fit`.
        score: a benchmark, several, or `all`, as in `regrow.laws.fit`: each is validated, and the mean of several.
        level: probability of the intervals whose coverage is counted.

    Returns:
        One result per group and form; `.skipped` lists what a group was too small for.

    Raises:
        InputError: an unknown hold-out, form or loss, bad runs, or nothing that can be validated.
    """
    one_of(hold_out, HOLD_OUTS, what="hold-out")
    if score is not None:
        given = [forms] if isinstance(forms, str) else list(forms or ())
        for form in given or ["auto"]:
            check_score_options(form, baseline=baseline, loss=loss)
        return _scored(as_records(runs), hold_out, score, pool, level, draws, seed)
    names = list(FORMS) if forms is None else [forms] if isinstance(forms, str) else list(forms)
    formulas = [find_form(name) for name in names if name != POOLED]
    for formula in formulas if forms is not None else ():
        check_pool(formula.name, pool)
    records = of_loss(as_records(runs), loss, controls=baseline == "control")
    results, skipped = [], list[str]()
    if POOLED in names:
        results += _pooled(records, hold_out, pool, baseline, level, draws, seed, skipped)
    if hold_out in _SHARED:
        skipped += [f"{f.name}, hold-out {hold_out}: it has a law of each family and method" for f in formulas]
        formulas = []
    results += _alone(records, formulas, hold_out, baseline, level, draws, seed, skipped)
    if not results:
        raise InputError(f"nothing could be validated: {' | '.join(dict.fromkeys(skipped))}", where="validate")
    return HoldOutResults(results, skipped)


def _alone(
    records: Sequence[RunRecord],
    formulas: Sequence[Form],
    hold_out: str,
    baseline: str,
    level: float,
    draws: int,
    seed: int,
    skipped: list[str],
) -> list[HoldOutResult]:
    """The results of the forms that have a law of each family and method."""
    columns = [column for formula in formulas for column in formula.columns]
    measured = observe(records, baseline=baseline, columns=columns, skipped=skipped)
    initial = measured
    if baseline != "initial":
        groups = [(group.family, group.method) for group in measured]
        initial = [g for g in observe(records, columns=columns, skipped=[]) if (g.family, g.method) in groups]
    fits = {form.name: GroupFits(form, _groups(form, initial, measured), seed) for form in formulas}
    results = []
    for number, plain in enumerate(initial):
        rival: list[float | None] = []
        for formula in formulas:
            seen = _groups(formula, initial, measured)[number]
            try:
                folds = split(known(formula, seen), hold_out)
                lent = fits[formula.name].of_other_methods(number)
                near = fits[formula.name].of(number) if hold_out == "run" else None
                parts = [_predict(formula, a, b, lent, level, draws, seed, near) for a, b in folds]
                rival = rival or [_chinchilla(plain, hold_out, seed)]
                rivals = {**baselines.errors(folds, hold_out), "chinchilla": rival[0]}
                results.append(_summary(formula.name, hold_out, folds, parts, rivals, level))
            except RegrowError as refused:
                skipped.append(f"{formula.name}, hold-out {hold_out}: {refused}")
    return results


def _groups(form: Form, initial: list[Observations], measured: list[Observations]) -> list[Observations]:
    """The groups as a form sees them: without the loss before pruning, it does not depend on the baseline."""
    return measured if "loss_before" in form.uses else initial


def _pooled(
    records: Sequence[RunRecord],
    hold_out: str,
    pool: str | None,
    baseline: str,
    level: float,
    draws: int,
    seed: int,
    skipped: list[str],
) -> list[HoldOutResult]:
    """The results of the form whose groups share a law."""
    name = pool or ("all" if hold_out == "family" else "family")
    refused: list[str] = []
    results = []
    for one in pools_of(records, name, baseline=baseline, skipped=refused):
        split_one = partial(masks, hold_out=hold_out)
        found, why = hold_out_of(one, hold_out, name, split_one, baseline=baseline, level=level, draws=draws, seed=seed)
        refused += why
        for number in sorted(found):
            folds = [(part.fitted, part.held) for part in found[number]]
            parts = [_part_of(part) for part in found[number]]
            rivals = {"last": None, "power": None} if hold_out in _SHARED else baselines.errors(folds, hold_out)
            results.append(_summary(POOLED, hold_out, folds, parts, {**rivals, "chinchilla": None}, level))
    skipped += [f"{POOLED}, hold-out {hold_out}: {text}" for text in refused]
    return results


def _scored(
    records: Sequence[RunRecord],
    hold_out: str,
    score: str | Sequence[str],
    pool: str | None,
    level: float,
    draws: int,
    seed: int,
) -> HoldOutResults:
    """The results of laws of benchmark scores."""
    name = pool or ("all" if hold_out == "family" else "family")
    skipped: list[str] = []
    results = []
    for one in score_pools(records, names_of(records, score), name, skipped=skipped):
        split_one = partial(masks, hold_out=hold_out)
        found, why = hold_out_scores(one, hold_out, name, split_one, level=level, draws=draws, seed=seed)
        skipped += why
        by_loss = errors_by_loss(records, found, hold_out, name, draws=draws, seed=seed)
        for parts in found:
            folds = [(part.fitted, part.held) for part in parts]
            rivals: dict[str, float | None] = {"last": None, "power": None}
            if hold_out not in _SHARED:
                rivals = baselines.errors(folds, hold_out, relative=False)
            held = parts[0].held
            rivals["from_loss"] = by_loss.get((held.family, held.method, held.benchmark))
            results.append(_summary(POOLED, hold_out, folds, [_part_of(part) for part in parts], rivals, level))
    if not results:
        raise InputError(f"nothing could be validated: {' | '.join(dict.fromkeys(skipped))}", where="validate")
    return HoldOutResults(results, list(dict.fromkeys(skipped)))


def _part_of(held: Held) -> _Part:
    return _Part(law=held.law, predicted=held.predicted, low=held.low, high=held.high)


def split(seen: Observations, hold_out: str) -> list[tuple[Observations, Observations]]:
    """Pairs of fitted and held-out observations.

    Raises `InputError` where there is one size, one run, one rate of each size, or too few checkpoints to hold any out.
    """
    return [(seen.keep(~held), seen.keep(held)) for held in masks(seen, hold_out)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    law: Law
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _predict(
    form: Form,
    fitted: Observations,
    held: Observations,
    others: Sequence[PointFit],
    level: float,
    draws: int,
    seed: int,
    near: PointFit | None = None,
) -> _Part:
    law = fit_group(form, fitted, others, draws=draws, seed=seed, near=near)
    if form.diverges_at_zero:  # never asked for: what a form cannot say is not an error of it
        held = held.keep(held.x.tokens > 0)
    low, high = law.interval(held.x, level=level)
    return _Part(law=law, predicted=law.loss(held.x), low=low, high=high)


def _chinchilla(seen: Observations, hold_out: str, seed: int) -> float | None:
    """Mean error of the form chinchilla, which knows nothing of pruning; None where it can't be fitted."""
    form = find_form("chinchilla")
    try:
        near = GroupFits(form, [seen], seed).of(0) if hold_out == "run" else None
        errors = []
        for fitted, held in split(seen, hold_out):
            part = _predict(form, fitted, held, (), 0.9, 1, seed, near)
            errors.append(np.abs(part.predicted / held.loss[held.x.tokens > 0] - 1))
        return float(np.mean(np.concatenate(errors)))
    except RegrowError:
        return None


def _summary(
    form: str,
    hold_out: str,
    folds: list[tuple[Observations, Observations]],
    parts: list[_Part],
    rivals: dict[str, float | None],
    level: float,
) -> HoldOutResult:
    diverges = find_form(form).diverges_at_zero
    held = [h.keep(h.x.tokens > 0) if diverges else h for _, h in folds]
    run = np.concatenate([h.run + 10_000 * i for i, h in enumerate(held)])
    loss = np.concatenate([h.loss for h in held])
    tokens, before = (np.concatenate([h.x[name] for h in held]) for name in ("tokens", "loss_before"))
    predicted, low, high = (np.concatenate([getattr(p, k) for p in parts]) for k in ("predicted", "low", "high"))
    error = np.abs(predicted / loss - 1)
    gap = loss - before
    positive = gap > 1e-9
    spread = float(np.sum((loss - loss.mean()) ** 2))
    outside: dict[str, float] = {}
    for part, h in zip(parts, held, strict=True):
        for name, factor in part.law.extrapolates(h.x).items():
            outside[name] = max(outside.get(name, 1.0), float(factor))
    order = ("ok", "bound", "flat", "failed")
    return HoldOutResult(
        family=folds[0][0].family,
        method=folds[0][0].method,
        form=form,
        hold_out=hold_out,
        target=parts[0].law.target,
        mae=float(np.mean(np.abs(predicted - loss))),
        mape=float(error.mean()),
        max_ape=float(error.max()),
        gap_mape=float(np.mean(np.abs(predicted - loss)[positive] / gap[positive])) if positive.any() else None,
        asd=average_slope_difference(run, tokens, loss, predicted),
        coverage=float(np.mean((loss >= low) & (loss <= high))),
        width=float(np.mean((high - low) / loss)),
        span=float(np.mean(high - low)),
        level=level,
        r2=1 - float(np.sum((loss - predicted) ** 2)) / spread if spread > 1e-12 * float(np.sum(loss**2)) else None,
        n_points=len(loss),
        n_runs=len(np.unique(run)),
        outside=outside,
        baselines=rivals,
        status=max((p.law.status for p in parts), key=order.index),
        warnings=tuple(dict.fromkeys(text for p in parts for text in p.law.warnings)),
    )


def validate_law(law: Law, runs: Sequence[RunRecord] | Any, hold_out: str = "tokens", **options: Any) -> HoldOutResult:
    """Hold out a part of these runs of the law's own family and method, refit its form, predict the rest.

    Args:
        options: those of `validate`.

    Raises `InputError` as `validate` does, and where none of the runs is of the law's family and method.
    """
    mine = [r for r in as_records(runs) if r.family == law.family and (r.is_control or r.method == law.method)]
    if not mine:
        raise InputError(f"no run of {law.family} {law.method}", where="validate", hint="give the law's own runs")
    return validate(mine, hold_out, law.form, law.baseline, **{"loss": law.loss_kind, **options})[0]


def rank_forms(results: Sequence[HoldOutResult]) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """Per family and method, the forms from best to worst by held-out mape, averaged over the hold-outs given.

    A form counts only if it was validated in every hold-out of its group, so that none wins by sitting out a hard one.
    """
    groups: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for r in results:
        groups.setdefault((r.family, r.method), {}).setdefault(r.form, {})[r.hold_out] = r.mape
    out = {}
    for group, forms in groups.items():
        asked = {h for errors in forms.values() for h in errors}
        means = [(form, float(np.mean(list(e.values())))) for form, e in forms.items() if set(e) == asked]
        out[group] = sorted(means, key=lambda pair: pair[1])
    return out
