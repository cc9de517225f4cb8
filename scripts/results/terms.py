"""The search for what enters the law `regrowth`: every term taken away, and others tried, by held-out error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from regrow.laws.pooled.fit import END, pools_of
from regrow.laws.regrowth.curve import gap_and_jacobian
from regrow.laws.regrowth.effects import TERMS, Term
from regrow.laws.regrowth.estimate import Hierarchy, fit_hierarchy
from regrow.laws.regrowth.runs import RunCurve
from regrow.runs import RunRecord

LEVEL, PACE, EXPONENT, LAST = range(4)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The law with other terms, or with runs that are described otherwise."""

    terms: tuple[Term, ...] = TERMS
    changes: tuple[tuple[str, object], ...] = ()


def without(name: str) -> Variant:
    return Variant(terms=tuple(term for term in TERMS if term.name != name))


def more(number: int, covariate: str, deviation: float = 0.3) -> Variant:
    return Variant(terms=(*TERMS, Term(f"tried_{covariate}", number, covariate, 0.0, deviation)))


VARIANTS = {
    "the law": Variant(),
    "without G0 in the level": without("level_gap"),
    "without G0 in the exponent": without("exponent_gap"),
    "without N0 in the exponent": without("exponent_size"),
    "N0 in the pace": more(PACE, "log_size"),
    "G0 in the pace": more(PACE, "log_gap"),
    "without the rate in the end": without("end_lost"),
    "rate in the pace": more(PACE, "lost", 1.0),
    "rate in the exponent": more(EXPONENT, "lost", 1.0),
    "rate in the level": more(LEVEL, "lost"),
    "G0 in the end": more(LAST, "log_gap", 0.01),
    "no effect of the method": Variant(changes=(("method", "any"),)),
    "warm-up tokens counted whole": Variant(changes=(("warmup", 0.0),)),
}
#: what is held out, each a choice of runs among all of them
Fold = tuple[str, list[RunCurve], list[RunCurve]]


def terms_table(records: Sequence[RunRecord]) -> Iterator[list[str]]:
    """Mean error of each variant, gaps above the control, over the groups that are held out."""
    made = list(folds(records))
    kinds = list(dict.fromkeys(kind for kind, _, _ in made))
    yield ["variant", *kinds, "mean"]
    with ProcessPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        waiting = {name: pool.submit(errors, variant, made) for name, variant in VARIANTS.items()}
        for name, future in waiting.items():
            found = future.result()
            means = [float(np.mean([e for k, e in found if k == kind])) for kind in kinds]
            yield [name, *(f"{mean:.4f}" for mean in means), f"{np.mean(means):.4f}"]


def folds(records: Sequence[RunRecord]) -> Iterator[Fold]:
    """The kinds of hold-out of `regrow validate`, above the control."""
    of_family: dict[str, list[RunCurve]] = {}
    for pool in pools_of(records, "family", baseline="control", skipped=[]):
        of_family[pool.groups[0].family] = pool.all_runs
    every = [run for runs in of_family.values() for run in runs]
    for runs in of_family.values():
        largest = max(run.params_before for run in runs)
        yield from _fold("size", runs, lambda r, s=largest: r.params_before == s)
        for method in dict.fromkeys(run.method for run in runs):
            yield from _fold("method", runs, lambda r, m=method: r.method == m)
        yield from _fold("rate", runs, lambda r: r.method != "2:4" and r.pruning_rate > RATE)
    for family in of_family:
        yield from _fold("family", every, lambda r, f=family: r.family == f)


#: between the two higher of the three rates of the ladder studies
RATE = 0.3


def _fold(kind: str, runs: Sequence[RunCurve], held: Callable[[RunCurve], bool]) -> Iterator[Fold]:
    yield kind, [run for run in runs if not held(run)], [run for run in runs if held(run)]


def errors(variant: Variant, made: Sequence[Fold]) -> list[tuple[str, float]]:
    """Kind of hold-out and mean error of the loss of each group in it."""
    found = []
    for kind, fitted, held in made:
        hierarchy = fit_hierarchy([_changed(run, variant) for run in fitted], end=END, terms=variant.terms)
        groups: dict[tuple[str, str], list[float]] = {}
        for run in held:
            off = error_of(hierarchy, _changed(run, variant))
            groups.setdefault((run.family, run.method), []).append(off)
        found += [(kind, float(np.mean(group))) for group in groups.values()]
    return found


def _changed(run: RunCurve, variant: Variant) -> RunCurve:
    return replace(run, **dict(variant.changes))  # type: ignore[arg-type]


def error_of(hierarchy: Hierarchy, run: RunCurve) -> float:
    """Mean error of a run's losses, a share of the loss, by the common curve with the effects that it shares."""
    model = hierarchy.model
    rows = model.rows_of([run])[0]
    known = model.arrays.labels
    labels = {level: known[level].index(run.label(level)) for level in known if run.label(level) in known[level]}
    psi = model.natural(model.weights_for(rows, labels) @ hierarchy.posterior.mean)
    tokens = model.arrays.usual.tokens_of(run)
    gap, _ = gap_and_jacobian(psi[None], np.array([run.gap_pruned]), np.array([run.loss_before]), tokens[None])
    return float(np.mean(np.abs((run.baseline + gap[0]) / run.loss - 1)))
