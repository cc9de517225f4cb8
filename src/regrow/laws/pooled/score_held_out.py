"""Proof by held-out readings for laws of benchmark scores: every benchmark, and their mean with its own interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from regrow.errors import InputError, RegrowError
from regrow.laws.law import Law
from regrow.laws.observations import Observations
from regrow.laws.pooled.fit import PoolFit
from regrow.laws.pooled.held_out import Held, Split, fit_kept, folds_of, law_around
from regrow.laws.pooled.pool import Pool, anchored
from regrow.laws.pooled.score_laws import by_method, joint_laws, mean_of
from regrow.laws.pooled.scored import MEAN
from regrow.laws.prediction import score_target
from regrow.laws.regrowth.draws import heavy_factors

#: what is asked of a run that the fit has seen
_OWN = ("tokens",)


def hold_out_scores(
    pool: Pool, kind: str, name: str, split: Split, *, level: float, draws: int, seed: int
) -> tuple[list[list[Held]], list[str]]:
    """Hold out, fit the rest of the pool, predict: the folds of each benchmark of each method, then of their mean; and
    what could not be done.

    Args:
        kind: `size`, `rate`, `tokens`, `run`, `method` or `family`.
        split: masks of what to hold out of one group, for the kinds that split within groups.
    """
    found: dict[tuple[str, str, str], list[Held]] = {}
    skipped: list[str] = []
    try:
        folds = list(_folds(pool, kind, split, skipped))
    except InputError as refused:
        return [], [str(refused)]
    for fold, masks in enumerate(folds):
        keep = [np.ones(len(g), dtype=bool) if m is None else ~m for g, m in zip(pool.groups, masks, strict=True)]
        try:
            _refuse_orphans(pool, masks, kind)
            of_fold = anchored(pool, keep)
            fitted = fit_kept(of_fold, keep)
        except RegrowError as refused:
            skipped.append(str(refused))
            continue
        for members in by_method(pool):
            parts = _of_method(of_fold, members, masks, keep, fitted, kind, name, level=level, draws=draws, seed=seed)
            for part in parts:
                key = (part.held.family, part.held.method, part.held.benchmark)
                found.setdefault(key, []).append(replace(part, fold=fold))
    return list(found.values()), skipped


def _folds(pool: Pool, kind: str, split: Split, skipped: list[str]) -> Iterator[list[np.ndarray | None]]:
    """As for losses, but that a run is held out with all its benchmarks."""
    if kind != "run":
        yield from folds_of(pool, kind, split, skipped)
        return
    names = list(dict.fromkeys((g.family, g.method, run) for g in pool.groups for run in g.runs))
    if len(names) < 2:
        raise InputError("one run", where=pool.groups[0].where, hint="holding one out takes 2 or more runs")
    for family, method, run in names:
        yield [
            group.run == group.runs.index(run)
            if (group.family, group.method) == (family, method) and run in group.runs
            else None
            for group in pool.groups
        ]


def _refuse_orphans(pool: Pool, masks: Sequence[np.ndarray | None], kind: str) -> None:
    """Raise `InputError` where a run would be predicted whose parent's score is not known: a new run has nothing else
    to count from."""
    if kind in _OWN:
        return
    for group, runs, mask in zip(pool.groups, pool.runs, masks, strict=True):
        held = [] if mask is None else [runs[i] for i in np.unique(group.run[mask])]
        orphan = next((run.run for run in held if not run.parent_known), None)
        if orphan is not None:
            raise InputError(
                f"the parent's score {group.benchmark} is not known of the run {orphan}",
                where=group.where,
                hint="a run that was not fitted is predicted from it: give score_before",
            )


def _of_method(
    pool: Pool,
    members: Sequence[int],
    masks: Sequence[np.ndarray | None],
    keep: Sequence[np.ndarray],
    fitted: PoolFit,
    kind: str,
    name: str,
    *,
    level: float,
    draws: int,
    seed: int,
) -> list[Held]:
    """One fold of the benchmarks of one method, and of their mean where several were held out."""
    seen = [pool.groups[n].keep(keep[n]) if keep[n].any() else pool.groups[n] for n in members]
    laws = joint_laws(fitted, seen, draws=draws, seed=seed, pool=name)
    parts, drawn, noise = [], [], []
    # draws of all runs together: the benchmarks of a run belong together
    runs = _run_draws(fitted, draws, seed) if kind in _OWN else {}
    for number, before, law in zip(members, seen, laws, strict=True):
        mask = masks[number]
        # at 0 tokens there is nothing to predict: the score there is what the law starts from
        held = None if mask is None else pool.groups[number].keep(mask & (pool.groups[number].x.tokens > 0))
        if held is None or not len(held):
            continue
        curves = _curves(law, held, pool, number, runs)
        rest = fitted.noise.get(held.benchmark)
        spread, freedom = (rest.late, rest.freedom) if rest is not None else (0.0, 1.0)
        parts.append(_held(before, held, law, curves, spread, freedom, level, seed))
        drawn.append(curves)
        noise.append((spread, freedom))
    if len(parts) < 2:
        return parts
    whole = mean_of([part.held for part in parts])
    fitted_whole = mean_of([part.fitted for part in parts])
    if whole is None or fitted_whole is None:
        return parts
    curves = _mean_curves([part.held for part in parts], drawn, whole)
    spread = float(np.sqrt(sum(s**2 for s, _ in noise))) / len(noise)
    law = replace(parts[0].law, target=score_target(MEAN))
    freedom = sum(f for _, f in noise)
    return [*parts, _held(fitted_whole, whole, law, curves, spread, freedom, level, seed)]


def _run_draws(fitted: PoolFit, draws: int, seed: int) -> dict[tuple[str, str, str, str], np.ndarray]:
    """psi [1 + draws, 4] of every run and benchmark that was fitted, in its own tokens, drawn together."""
    model = fitted.hierarchy.model
    rng = np.random.default_rng(seed)
    every = range(len(model.arrays.runs))
    psi = model.natural(model.draw_runs(fitted.hierarchy.posterior, every, heavy_factors(draws, rng), rng))
    return {
        (run.family, run.method, run.run, run.benchmark): model.in_tokens_of(run, psi[:, row])
        for row, run in enumerate(model.arrays.runs)
    }


def _curves(
    law: Law, held: Observations, pool: Pool, number: int, runs: dict[tuple[str, str, str, str], np.ndarray]
) -> np.ndarray:
    """Errors [1 + draws, n] at held-out readings, of the law or, where the fit has seen a run, of that run."""
    out = np.concatenate([law.loss(held.x)[None], law.loss_draws(held.x)])
    by_name = {run.run: run for run in pool.runs[number]}
    for row, name in enumerate(held.runs):
        run = by_name[name]
        psi = runs.get((run.family, run.method, run.run, run.benchmark))
        if psi is not None:
            mine = held.run == row
            own, x = law_around(law, psi, run), held.x.keep(mine)
            out[:, mine] = np.concatenate([own.loss(x)[None], own.loss_draws(x)])
    return out


def _mean_curves(groups: Sequence[Observations], drawn: Sequence[np.ndarray], whole: Observations) -> np.ndarray:
    """The mean over benchmarks of curves [1 + draws, n], at the checkpoints of `whole`."""
    keys = [(whole.runs[run], tokens) for run, tokens in zip(whole.run, whole.x.tokens, strict=True)]
    parts = []
    for group, curves in zip(groups, drawn, strict=True):
        row = {(group.runs[r], t): i for i, (r, t) in enumerate(zip(group.run, group.x.tokens, strict=True))}
        parts.append(curves[:, [row[key] for key in keys]])
    return np.asarray(np.mean(parts, axis=0))


def _held(
    before: Observations,
    held: Observations,
    law: Law,
    curves: np.ndarray,
    spread: float,
    freedom: float,
    level: float,
    seed: int,
) -> Held:
    """What was predicted: the point estimate, and the interval in which a reading is expected."""
    rng = np.random.default_rng(seed)
    noisy = curves[1:] + spread * rng.standard_t(max(freedom, 1.0), (len(curves) - 1, curves.shape[1]))
    low, high = np.quantile(noisy, [(1 - level) / 2, (1 + level) / 2], axis=0)
    point = curves[0]
    return Held(
        fitted=before, held=held, law=law, predicted=point, low=np.minimum(low, point), high=np.maximum(high, point)
    )
