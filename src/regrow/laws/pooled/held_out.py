"""Proof by held-out runs for the form `regrowth`: a pool is split as a whole, as its runs share a law."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regrow.errors import InputError, RegrowError
from regrow.laws.law import Law
from regrow.laws.observations import Observations
from regrow.laws.pooled.fit import PoolFit, fit_pool, law_for
from regrow.laws.pooled.pool import Pool
from regrow.laws.regrowth.draws import NAMES, heavy_normal, parameters_around
from regrow.laws.regrowth.drift import Drift, spread_of
from regrow.laws.regrowth.runs import RunCurve, Usual
from regrow.laws.setting import distinct

#: splits one group into the checkpoints to fit and those to hold out, masks [n]
Split = Callable[[Observations], list[np.ndarray]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """What was held out of one group in one fold, of this number, and what was predicted of it, each [n]."""

    fitted: Observations
    held: Observations
    law: Law
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    fold: int = 0


def hold_out(
    pool: Pool, kind: str, name: str, split: Split, *, baseline: str, level: float, draws: int, seed: int
) -> tuple[dict[int, list[Held]], list[str]]:
    """Hold out, fit the rest of the pool, predict: results by the number of the group, and what could not be done.

    Args:
        kind: `size`, `rate`, `tokens`, `run`, `method` or `family`.
        split: masks of what to hold out of one group, for the kinds that split within groups.
    """
    found: dict[int, list[Held]] = {}
    skipped: list[str] = []
    try:
        folds = list(folds_of(pool, kind, split, skipped))
    except InputError as refused:
        return {}, [str(refused)]
    near = _of_all(pool) if len(folds) > 2 else None
    for masks in folds:
        keep = [np.ones(len(g), dtype=bool) if m is None else ~m for g, m in zip(pool.groups, masks, strict=True)]
        try:
            fitted = fit_kept(pool, keep, near)
        except RegrowError as refused:
            skipped.append(str(refused))
            continue
        for number, mask in enumerate(masks):
            group = pool.groups[number]
            # at 0 tokens there is nothing to predict: the loss there is what the law starts from
            mask = None if mask is None else mask & (group.x.tokens > 0)
            if mask is None or not mask.any():
                continue
            seen, held = group.keep(keep[number]) if keep[number].any() else group, group.keep(mask)
            law = law_for(fitted, seen, baseline=baseline, draws=draws, seed=seed, pool=name)
            part = Held(fitted=seen, held=held, law=law, predicted=np.empty(0), low=np.empty(0), high=np.empty(0))
            own = kind in ("tokens", "run")
            found.setdefault(number, []).append(_predict(part, fitted, pool.runs[number], own, level, draws, seed))
    return found, skipped


def folds_of(pool: Pool, kind: str, split: Split, skipped: list[str]) -> Iterator[list[np.ndarray | None]]:
    """Masks of what to hold out of each group, None for nothing, one list for each fold."""
    groups = pool.groups
    if kind == "method":
        methods = list(dict.fromkeys(group.method for group in groups))
        if len(methods) < 2:
            raise InputError("one method", where=groups[0].where, hint="holding one out takes 2 or more in a pool")
        for method in methods:
            yield [np.ones(len(g), dtype=bool) if g.method == method else None for g in groups]
        return
    if kind == "family":
        families = list(dict.fromkeys(group.family for group in groups))
        if len(families) < 2:
            raise InputError("one family", where=groups[0].where, hint="holding one out takes 2 or more, pooled")
        for family in families:
            yield [np.ones(len(g), dtype=bool) if g.family == family else None for g in groups]
        return
    if kind == "size":
        largest = {}
        for family in dict.fromkeys(group.family for group in groups):
            sizes = distinct(np.concatenate([g.x.params_before for g in groups if g.family == family]))
            if sizes.size > 1:
                largest[family] = sizes[-1]
            else:
                skipped.append(f"{family}: one model size; holding one out takes 2 or more")
        if largest:
            yield [g.x.params_before >= largest[g.family] if g.family in largest else None for g in groups]
        return
    parts: list[list[np.ndarray]] = []
    for group in groups:
        try:
            parts.append(split(group))
        except InputError as refused:
            skipped.append(str(refused))
            parts.append([])
    for fold in range(max(map(len, parts), default=0)):
        yield [masks[fold] if fold < len(masks) else None for masks in parts]


def _of_all(pool: Pool) -> PoolFit | None:
    """The fit of everything, at which the fits without a part of it start; None where it fails."""
    try:
        return fit_kept(pool, [np.ones(len(group), dtype=bool) for group in pool.groups])
    except RegrowError:
        return None


def fit_kept(pool: Pool, keep: Sequence[np.ndarray], near: PoolFit | None = None) -> PoolFit:
    """Fit what masks keep of the groups of a pool; controls of models that are held out whole are held out, too.

    The drift of a family that is held out whole is what the others' say.
    """
    runs: list[RunCurve] = []
    sizes: dict[str, set[int]] = {}
    for group, mine, kept in zip(pool.groups, pool.runs, keep, strict=True):
        for number, run in enumerate(mine):
            left = kept[(group.run == number) & (group.x.tokens > 0)]
            if left.any():
                # a run keeps the loss that it started from, or the first reading that stands for it
                stderr = None if run.stderr is None else run.stderr[left]
                kept_run = {"tokens": run.tokens[left], "loss": run.loss[left], "baseline": run.baseline[left]}
                runs.append(replace(run, **kept_run, stderr=stderr))
                sizes.setdefault(run.family, set()).add(round(run.params_before))
    drifts = {family: _only(pool.drifts[family], kept_sizes) for family, kept_sizes in sizes.items()}
    return fit_pool(runs, drifts, near)


def _only(drift: Drift, sizes: set[int]) -> Drift:
    """The drift law without the models that are held out."""
    shares = tuple((size, share) for size, share in drift.shares if size in sizes)
    if len(shares) == len(drift.shares):
        return drift
    if not shares:
        return Drift()
    amounts = np.array([share for _, share in shares])
    return replace(drift, share=float(amounts.mean()), spread=spread_of(amounts), shares=shares)


def _predict(
    part: Held, fitted: PoolFit, runs: Sequence[RunCurve], own: bool, level: float, draws: int, seed: int
) -> Held:
    """Predict by the group's law or, of runs and cells that the fit has seen, by what it knows of each."""
    held = part.held
    if not own:
        low, high = part.law.interval(held.x, level=level)
        return replace(part, predicted=part.law.loss(held.x), low=low, high=high)
    predicted, low, high = (np.empty(len(held)) for _ in range(3))
    by_name = {run.run: run for run in runs}
    for number, name in enumerate(held.runs):
        mine = held.run == number
        law = law_of_run(fitted, part.law, by_name[name], draws=draws, seed=seed + number)
        x = held.x.keep(mine)
        predicted[mine] = law.loss(x)
        low[mine], high[mine] = law.interval(x, level=level)
    return replace(part, predicted=predicted, low=low, high=high)


def law_of_run(fitted: PoolFit, law: Law, run: RunCurve, *, draws: int, seed: int) -> Law:
    """The law of one run: what the fit knows of it, or of its cell where only sister runs were fitted.

    Args:
        law: the law of its family and method, which gives what is not of the run alone.
    """
    hierarchy = fitted.hierarchy
    known = hierarchy.known(run)
    if known is None:
        return law
    mean, covariance = known
    rng = np.random.default_rng(seed)
    drawn = heavy_normal(mean, covariance, draws, rng)
    psi = hierarchy.model.natural(np.concatenate([mean[None, :], drawn]))
    psi[1:, 0] += hierarchy.spreads.noise[2] * rng.standard_normal(draws)
    return law_around(law, hierarchy.model.in_tokens_of(run, psi), run)


def law_around(law: Law, psi: np.ndarray, run: RunCurve) -> Law:
    """The law of one run with these curves, psi [1 + draws, 4], natural, in the run's own tokens, row 0 the point."""
    base = law.sizes.get(round(run.params_before))
    every = np.concatenate([law.theta[None, :], law.draws]) if base is None else base
    usual = Usual(**{name: every[0, NAMES.index(f"usual_{kind}")] for name, kind in _USUAL})
    covariate = {**usual.covariates([run]), **{k: np.array(v) for k, v in usual.recipe_over(run).items()}}
    rows = parameters_around(every[0], psi, covariate)
    rows[:, NAMES.index("drift")] = every[: len(rows), NAMES.index("drift")]
    if not run.measured:
        # the level counts from the gap that was guessed for the run, so that is where its law starts, too
        rows[:, NAMES.index("gap")] = np.log(run.gap_pruned)
        rows[:, [NAMES.index("gap_rate"), NAMES.index("gap_size")]] = 0.0
    params = dict(zip(law.params, rows[0].tolist(), strict=True))
    return replace(law, params=params, draws=rows[1:], sizes={})


#: fields of `Usual`, and what a law's parameters call them
_USUAL = (("refitted", "refitted"), ("learning_rate", "rate"), ("batch_tokens", "batch"))
