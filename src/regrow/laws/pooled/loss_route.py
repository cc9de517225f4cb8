"""The other route to a score: predict the loss by its own law, then read the score off the link from loss to score.

What the direct route held out is held out here as well: the losses of those readings, and the link's pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import numpy as np

from regrow.errors import RegrowError
from regrow.laws.observations import Observations
from regrow.laws.pooled.fit import pools_of
from regrow.laws.pooled.held_out import Held, hold_out
from regrow.laws.pooled.link import Link, Pair, fit_link, pairs_at, pairs_of
from regrow.laws.pooled.scored import MEAN
from regrow.runs.record import RunRecord
from regrow.runs.store import with_losses

#: family, method, run and tokens of a reading
Key = tuple[str, str, str, float]


def errors_by_loss(
    records: Sequence[RunRecord],
    direct: Sequence[Sequence[Held]],
    kind: str,
    pool: str,
    *,
    draws: int,
    seed: int,
) -> dict[tuple[str, str, str], float]:
    """Mean absolute error of this route at the readings that the direct route predicted, by family, method and
    benchmark; those without losses, or without enough pairs for a link, are left out.

    Args:
        direct: the folds of every benchmark of every method, as the direct route held them out.
        kind, pool: as in `hold_out`.
    """
    known = with_losses(record for record in records if record.has_losses)
    parts = [part for folds in direct for part in folds]
    held = {key for part in parts for key in _keys(part.held)}
    try:
        losses = _losses(known, held, kind, pool, draws=draws, seed=seed)
    except RegrowError:
        return {}

    @cache
    def link(family: str, benchmark: str, fold: int) -> Link | None:
        unseen = {key for part in parts if part.fold == fold for key in _keys(part.held)}
        return _link(known, family, benchmark, unseen, kind)

    off: dict[tuple[str, str, str], list[float]] = {}
    for part in parts:
        family, method, benchmark = group = (part.held.family, part.held.method, part.held.benchmark)
        alike = [o.held for o in parts if (o.held.family, o.held.method, o.fold) == (family, method, part.fold)]
        names = [one.benchmark for one in alike if one.benchmark != MEAN] if benchmark == MEAN else [benchmark]
        links = [link(family, name, part.fold) for name in names]
        for key, error in zip(_keys(part.held), part.held.loss, strict=True):
            if key in losses and None not in links:
                score = float(np.mean([one.score(losses[key]) for one in links if one is not None]))
                off.setdefault(group, []).append(abs(1 - score - float(error)))
    return {group: float(np.mean(errors)) for group, errors in off.items()}


def _keys(group: Observations) -> list[Key]:
    return [
        (group.family, group.method, group.runs[run], float(tokens))
        for run, tokens in zip(group.run, group.x.tokens, strict=True)
    ]


def _losses(
    records: Sequence[RunRecord], held: set[Key], kind: str, pool: str, *, draws: int, seed: int
) -> dict[Key, float]:
    """Predicted losses at held-out readings, nats/token."""
    first: dict[tuple[str, str, str], float] = {}
    for family, method, run, tokens in held:
        name = (family, method, run)
        first[name] = min(first.get(name, np.inf), tokens)
    out: dict[Key, float] = {}
    for one in pools_of(records, pool, baseline="initial", skipped=[]):
        split = partial(_masks, first=first, kind=kind)
        found, _ = hold_out(one, kind, pool, split, baseline="initial", level=0.9, draws=draws, seed=seed)
        for part in (part for parts in found.values() for part in parts):
            out |= dict(zip(_keys(part.held), map(float, part.predicted), strict=True))
    return out


def _masks(group: Observations, *, first: dict[tuple[str, str, str], float], kind: str) -> list[np.ndarray]:
    """What is held out of a group's losses: from the first held-out score of a run on, or whole runs in turn."""
    begin = np.array([first.get((group.family, group.method, run), np.inf) for run in group.runs])
    if kind == "tokens":
        return [group.x.tokens >= begin[group.run]]
    if kind == "run":
        return [group.run == run for run in range(len(group.runs)) if np.isfinite(begin[run])]
    return [np.isfinite(begin)[group.run]]


def _link(records: Sequence[RunRecord], family: str, benchmark: str, held: set[Key], kind: str) -> Link | None:
    """The link of a family without the readings that were held out; None where too little is left."""
    own = [record for record in records if record.family == family]
    sizes = {record.params_before for record in own if any(key[:3] == _name(record) for key in held)}
    pairs: list[Pair] = []
    for record in own:
        mine = {tokens for *name, tokens in held if tuple(name) == _name(record)}
        # a control of a model that is held out whole is no more known than its runs
        unseen = bool(mine) if kind != "tokens" else False
        unseen |= kind == "size" and record.is_control and record.params_before in sizes
        kept = [p for p in record.curve if not unseen and (not mine or p.tokens < min(mine))]
        pairs += pairs_at(kept, benchmark)
    pairs += pairs_of(own, benchmark, trained=False)
    try:
        return fit_link(own, benchmark, pairs=pairs)
    except RegrowError:
        return None


def _name(record: RunRecord) -> tuple[str, str, str]:
    return (record.family, record.method, record.run)
