"""From run records to the runs that share a law: which they are, and above what their gaps are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from regrow.errors import InputError, one_of
from regrow.laws.controls import Curve, Recipe, control_curves, recipe_of
from regrow.laws.forms import find_form
from regrow.laws.observations import Observations, observe
from regrow.laws.pooled.scored import chance_of, in_parents_place, of_score, score_notes, stderrs
from regrow.laws.regrowth.drift import Drift, fit_drift, smooth
from regrow.laws.regrowth.runs import RunCurve, usual_of
from regrow.laws.setting import REFITTED
from regrow.runs.record import RunRecord
from regrow.units import format_count

#: which runs share a law
POOLS = ("method", "family", "all")
#: readings after training that one run of a pool has at least
LEAST_READINGS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Groups that share a law, each with its runs; `drifts` are those of its families.

    Attributes:
        groups: one for each family and method, as `regrow.laws.observations.observe` makes them.
        runs: of each group, the runs as the law sees them, in the order of the group's.
        controlled: whether every run has a control: then no end but the gap's own has to be looked for.
    """

    groups: tuple[Observations, ...]
    runs: tuple[tuple[RunCurve, ...], ...]
    drifts: dict[str, Drift]

    @property
    def controlled(self) -> bool:
        return all(run.controlled for runs in self.runs for run in runs)

    @property
    def all_runs(self) -> list[RunCurve]:
        return [run for runs in self.runs for run in runs]


def make_pools(
    groups: Sequence[Observations], records: Sequence[RunRecord], pool: str, *, where: str = "fit"
) -> list[Pool]:
    """The groups that share a law, and their runs.

    Args:
        groups: with the columns `loss_pruned` and `warmup_tokens` beside what every run has.
        records: the runs of the groups and their controls.
        pool: `method` (each group alone), `family` or `all`.

    Raises `InputError` for another pool.
    """
    one_of(pool, POOLS, what="pool", where=where)
    by_name = {(r.family, r.method, r.run): r for r in records}
    gathered: dict[object, list[Observations]] = {}
    for number, group in enumerate(groups):
        key = {"method": number, "family": group.family, "all": "all"}[pool]
        gathered.setdefault(key, []).append(group)
    unpruned = [r for r in records if r.is_control]

    @cache
    def of_recipe(family: str, recipe: Recipe) -> dict[int, Curve]:
        return control_curves(unpruned, family, recipe)

    pools = []
    for members in gathered.values():
        own = [[by_name[group.family, group.method, name] for name in group.runs] for group in members]
        drifts = {}
        for family in dict.fromkeys(group.family for group in members):
            trained = [record for mine in own for record in mine if record.family == family]
            sizes = {record.params_before for record in trained}
            recipes = [recipe_of(record) for record in trained]
            usual = max(dict.fromkeys(recipes), key=recipes.count)
            drifts[family] = fit_drift(
                {size: curve for size, curve in of_recipe(family, usual).items() if size in sizes}
            )
        runs = tuple(
            tuple(_run(group, row, record, of_recipe(record.family, recipe_of(record)))
                  for row, record in enumerate(mine))
            for group, mine in zip(members, own, strict=True)
        )  # fmt: skip
        above = tuple(_above_control(group, mine) for group, mine in zip(members, runs, strict=True))
        pools.append(Pool(groups=above, runs=runs, drifts=drifts))
    return pools


def _above_control(group: Observations, runs: Sequence[RunCurve]) -> Observations:
    """A group with the baseline `control`, above its smoothed control; the gap right after pruning stays what it is."""
    if group.baseline != "control":
        return group
    before, pruned = group.x.loss_before.copy(), group.x.loss_pruned.copy()
    for number, run in enumerate(runs):
        mine = group.run == number
        before[mine & (group.x.tokens > 0)] = run.baseline
        pruned[mine] += before[mine] - run.loss_before
    return replace(group, x=group.x.replace(loss_before=before, loss_pruned=pruned))


def _run(
    group: Observations,
    row: int,
    record: RunRecord,
    controls: dict[int, Curve],
) -> RunCurve:
    """One run of a group: its readings above zero tokens, above its control where there is one."""
    mine = np.flatnonzero((group.run == row) & (group.x.tokens > 0))
    x = group.x.keep(mine)
    before = record.known_loss_before
    baseline, control = np.full(len(mine), before), controls.get(record.params_before)
    controlled = control is not None and bool(np.any(control[0] > 0)) and len(mine) > 0
    if controlled and control is not None:
        read = control[0] > 0
        # past the control's last reading it is taken to stay where it was
        at = np.clip(x.tokens, control[0][read].min(), control[0].max())
        baseline = smooth(control[0][read], control[1][read], at)
    warmup = group.x["warmup_tokens"][mine] if "warmup_tokens" in group.x else np.zeros(0)
    known = warmup[~np.isnan(warmup)]
    recipe = recipe_of(record)
    return RunCurve(
        run=record.run,
        family=record.family,
        method=record.method,
        refitted=bool(np.nan_to_num(REFITTED.read(record)[:1]).any()),
        learning_rate=recipe.learning_rate,
        batch_tokens=recipe.batch_tokens,
        params_before=float(record.params_before),
        pruning_rate=record.pruning_rate,
        loss_before=before,
        loss_pruned=record.start_loss,
        warmup=float(known[0]) if known.size else 0.0,
        tokens=x.tokens,
        loss=group.loss[mine],
        baseline=baseline,
        controlled=controlled,
        benchmark=group.benchmark,
        stderr=stderrs(record, group.benchmark, x.tokens) if group.benchmark else None,
        chance=chance_of(record, group.benchmark),
        parent_known=not group.benchmark or group.benchmark in record.scores_before,
    )


def score_pools(records: Sequence[RunRecord], names: Sequence[str], pool: str, *, skipped: list[str]) -> list[Pool]:
    """The pools of these benchmarks of the runs: those of one pool of runs share a fit.

    What has no reading is added to `skipped`. Raises `InputError` for scores that contradict themselves, and where no
    benchmark can be fitted.
    """
    gathered: dict[object, list[Pool]] = {}
    for name in names:
        own = of_score(records, name)
        groups = observe(own, columns=find_form("regrowth").optional, skipped=skipped)
        for one in make_pools([replace(group, benchmark=name) for group in groups], own, pool):
            first = one.groups[0]
            key = {"method": (first.family, first.method), "family": first.family, "all": ""}[pool]
            gathered.setdefault(key, []).append(one)
    return [
        Pool(
            groups=tuple(group for part in parts for group in part.groups),
            runs=tuple(runs for part in parts for runs in part.runs),
            drifts=parts[0].drifts,
        )
        for parts in gathered.values()
    ]


def anchored(pool: Pool, keep: Sequence[np.ndarray]) -> Pool:
    """The pool with what stands for a parent's score that is not known set by the readings that are fitted.

    Args:
        keep: of each group, masks of the readings that are fitted.
    """
    groups, every = [], []
    for group, runs, kept in zip(pool.groups, pool.runs, keep, strict=True):
        before, own = group.x.loss_before.copy(), []
        for number, run in enumerate(runs):
            mine = group.run == number
            read = group.loss[mine & kept & (group.x.tokens > 0)]
            if run.parent_known or not read.size:
                own.append(run)
                continue
            stand_in = in_parents_place(float(read.min()))
            before[mine] = stand_in
            own.append(replace(run, loss_before=stand_in, baseline=np.full(len(run.loss), stand_in)))
        groups.append(replace(group, x=group.x.replace(loss_before=before)))
        every.append(tuple(own))
    return replace(pool, groups=tuple(groups), runs=tuple(every))


def fitted_runs(runs: Sequence[RunCurve]) -> list[RunCurve]:
    """Those with a reading after training. Raises `InputError` where none has enough to show a curve."""
    found = [run for run in runs if len(run.tokens)]
    if max((len(run.tokens) for run in found), default=0) < LEAST_READINGS:
        raise InputError(
            f"a curve needs checkpoints at {LEAST_READINGS} or more token counts after training",
            where="fit",
            hint="train longer, or evaluate more often",
        )
    return found


def notes_of(pool: Pool, group: int) -> list[str]:
    """What is to be said of a group's runs, in plain words."""
    runs, notes = pool.runs[group], []
    if pool.groups[group].benchmark:
        return score_notes(runs)
    unread = [run.run for run in runs if not run.measured]
    if unread:
        notes.append(
            f"the loss right after pruning is not known of {_some(unread)}: what pruning cost is guessed from their "
            "first reading; give loss_pruned, or a reading at 0 tokens"
        )
    below = [(run.run, run.loss_pruned - run.loss_before) for run in runs if run.loss_pruned is not None]
    below = [(name, gap) for name, gap in below if gap <= 0]
    if below:
        notes.append(
            f"the loss right after pruning is below the loss before it in {_some([name for name, _ in below])} "
            f"(by up to {-min(gap for _, gap in below):.3f} nats): there is no gap to close"
        )
    recipes = dict.fromkeys((run.learning_rate, run.batch_tokens) for run in runs)
    if len(recipes) > 1:
        usual = usual_of(runs)
        rate = "" if usual.learning_rate is None else f"a learning rate of {usual.learning_rate:.2g}"
        batch = "" if usual.batch_tokens is None else f"{format_count(usual.batch_tokens)} tokens a batch"
        unsaid = [run.run for run in runs if not (run.learning_rate and run.batch_tokens)]
        counted = f" (of {_some(unsaid)}, which do not say theirs, as they are)" if unsaid else ""
        notes.append(
            f"the runs' recipes differ: tokens count as under {' and '.join(filter(None, (rate, batch)))}{counted}"
        )
    bare = sorted({run.params_before for run in runs if not run.controlled})
    if bare:
        sizes = ", ".join(format_count(size) for size in bare)
        drift = pool.drifts[runs[0].family]
        if drift.models:
            notes.append(
                f"no unpruned control at {sizes}: its drift is taken from the family's others "
                f"({drift.share:+.1%} of the loss, give or take {drift.spread:.1%})"
            )
        else:
            notes.append(
                f"no unpruned control at {sizes}: what the training text alone does to the loss is not known, so the "
                "end of the curves is free; a control (method none) would settle it"
            )
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
