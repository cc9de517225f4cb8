"""From run records to the arrays that a law is fitted to: one group per family and method.

Everything that cannot be fitted is refused here, with the run and the value named; everything that is left out is
said in `Observations.notes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.errors import InputError, one_of
from regrow.laws.controls import Curve, Recipe, control_curves, read_control, recipe_of
from regrow.laws.setting import BASIC, BASIC_NAMES, Column, Setting
from regrow.reading import repeated
from regrow.runs.objective import Objective
from regrow.runs.record import CurvePoint, RunRecord
from regrow.runs.store import with_losses
from regrow.runs.turns import stage_runs
from regrow.units import format_count, plural

if TYPE_CHECKING:
    import pandas as pd

BASELINES = ("initial", "control")
#: Which of a checkpoint's losses a law is fitted to, and the field of a curve's point that holds it.
LOSSES = {"raw": "loss", "averaged": "loss_averaged", "cooled": "loss_cooled"}
_READ_BY = {"averaged": "--average ema:0.99", "cooled": "--cooldown 20k, or branch it with `regrow cooldown`"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Observations:
    """The checkpoints of one group, each array of shape [n], in the order of runs and tokens.

    Attributes:
        run: index of each checkpoint's run into `runs`.
        x: what the runs are and how far each checkpoint is: the columns of a run record, and those that a form reads.
            `loss_before` is the control's loss at the same tokens where the baseline is `control`.
        loss: held-out loss, nats/token; the error 1 - score where `benchmark` is given.
        notes: what was left out or mended, in plain words.
        benchmark: of which the losses are errors; empty for losses.
    """

    family: str
    method: str
    baseline: str
    runs: tuple[str, ...]
    run: np.ndarray
    x: Setting
    loss: np.ndarray
    notes: tuple[str, ...] = ()
    benchmark: str = ""

    @property
    def where(self) -> str:
        return f"{self.family} {self.method}" + (f", {self.benchmark}" if self.benchmark else "")

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def sizes(self) -> np.ndarray:
        return np.unique(self.x.params_before)

    def keep(self, mask: np.ndarray, note: str | None = None) -> Observations:
        """Only the checkpoints in `mask`; runs that lose all of theirs are gone."""
        left, index = np.unique(self.run[mask], return_inverse=True)
        return replace(
            self,
            runs=tuple(self.runs[i] for i in left),
            run=index,
            x=self.x.keep(mask),
            loss=self.loss[mask],
            notes=(*self.notes, note) if note else self.notes,
        )

    def weights(self) -> np.ndarray:
        """Each run counts once, however many checkpoints it has: 1 / (checkpoints of the run), [n]."""
        return 1 / np.bincount(self.run)[self.run]

    def fingerprint(self, columns: Iterable[str] = ()) -> str:
        """SHA-256 (16 hex digits) of the numbers fitted, whatever the order of the runs.

        Args:
            columns: names of what a form reads; those that not every run has count beside the others.
        """
        x = self.x
        basic = (self.run, x.params_before, x.pruning_rate, x.tokens, self.loss, x.loss_before)
        others = [x[name] for name in columns if name not in BASIC_NAMES]
        rows = sorted(
            f"{self.runs[r]} {n:.0f} {rate:.9g} {d:.0f} {loss:.9g} {before:.9g}" + "".join(f" {v:.9g}" for v in more)
            for r, n, rate, d, loss, before, *more in zip(*basic, *others, strict=True)
        )
        named = (self.family, self.method, *([self.benchmark] if self.benchmark else []))
        return hashlib.sha256("\n".join((*named, *rows)).encode()).hexdigest()[:16]


def as_records(runs: Sequence[RunRecord] | pd.DataFrame | Any, *, where: str = "runs") -> list[RunRecord]:
    """Run records as they are, or read from a table with the contract's columns (`regrow.runs.table`).

    Of a run that prunes and trains in turns only the first stage is read: it is a run like any other. What comes after
    starts from a trained model, of which a law's other runs say nothing.
    """
    if hasattr(runs, "columns"):
        from regrow.runs.table import from_table

        table: Any = runs
        return from_table(table, where=where)
    records = list(runs)
    wrong = [r for r in records if not isinstance(r, RunRecord)]
    if wrong:
        raise InputError(f"{type(wrong[0]).__name__} is not a run", where=where, hint="give run records or a table")
    if not records:
        raise InputError("no runs", where=where, hint="give at least one run with its curve")
    return [stage_runs(record)[0] if record.stages else record for record in records]


def of_loss(records: Sequence[RunRecord], loss: str, *, controls: bool = False) -> list[RunRecord]:
    """The runs with the losses of one kind as their `loss`, and without the checkpoints that have none of it.

    A cool-down that was branched off another of these runs is no run of its own: its loss is the cooled loss of the run
    that it left, and of no other kind.

    Args:
        loss: a key of `LOSSES`.
        controls: whether an unpruned control without such a loss is refused like any run, or left out.

    Raises `InputError` for an unknown kind, a run that has scores only, and a run with a curve that has none of it.
    """
    field = LOSSES[one_of(loss, list(LOSSES), what="loss")]
    records = with_losses(records)
    hashes = {r.hash for r in records if r.spec}
    branches: dict[str, list[CurvePoint]] = {}
    own = []
    for record in records:
        left = record.spec.get("cooldown_from")
        if isinstance(left, Mapping) and left.get("run") in hashes:
            branches.setdefault(str(left["run"]), []).extend(record.curve)
        else:
            own.append(record)
    out = []
    for record in own:
        if loss == "raw":
            out.append(record)
            continue
        more = branches.get(record.hash, []) if branches and loss == "cooled" else []
        # where both know it, the run's own reading stands
        points = {p.tokens: replace(p, loss=v) for p in (*more, *record.curve) if (v := getattr(p, field)) is not None}
        needed = record.curve and record.status != "failed" and (controls or not record.is_control)
        if needed and not points:
            raise InputError(
                f"no {loss} loss in its curve", where=f"run {record.run}", hint=f"train it with {_READ_BY[loss]}"
            )
        out.append(replace(record, curve=tuple(points[t] for t in sorted(points))))
    return out


def observe(
    runs: Sequence[RunRecord] | Any,
    *,
    baseline: str = "initial",
    columns: Sequence[Column] = (),
    skipped: list[str] | None = None,
) -> list[Observations]:
    """Group runs by family and method and check every number.

    Args:
        runs: run records, or a table.
        baseline: `initial` measures the gap from the loss before pruning, `control` from the unpruned control's
            loss at the same tokens.
        columns: what forms read; it is read from the runs beside what every run has (`regrow.laws.setting.BASIC`).
        skipped: where given, a group without a checkpoint or the control it needs is named here and left out, as long
            as another is left.

    Raises:
        InputError: nothing but controls, a non-finite or non-positive loss, two checkpoints at the same tokens, two
            runs of one name, or a control that is missing or too short for the baseline `control`.
    """
    one_of(baseline, BASELINES, what="baseline")
    records = as_records(runs)
    twice = repeated((r.family, r.method, r.run) for r in records)
    if twice is not None:
        raise InputError(f"two runs named {twice[2]!r} in {twice[0]} {twice[1]}", where="runs", hint="name them apart")
    controls = [_checked(r) for r in records if r.is_control]
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        if not record.is_control:
            groups.setdefault((record.family, record.method), []).append(_checked(record))
    if not groups:
        raise InputError("only unpruned controls", where="runs", hint="give at least one run of a pruned model")
    found: list[Observations] = []
    refusals: list[InputError] = []
    for (family, method), own in groups.items():
        try:
            found.append(_group(family, method, own, controls, baseline, columns))
        except InputError as refused:
            refusals.append(refused)
    if refusals and (skipped is None or not found):
        raise refusals[0]
    if skipped is not None:
        skipped += map(str, refusals)
    return found


def _checked(record: RunRecord) -> RunRecord:
    """The record with its curve sorted by tokens. Raises `InputError` for what no fit can use."""
    where = f"run {record.run}"
    for point in record.curve:
        loss = point.known_loss
        if not (np.isfinite(loss) and loss > 0 and np.isfinite(point.tokens)):
            raise InputError(
                f"loss {point.loss} at {point.tokens} tokens", where=where, hint="drop the checkpoint or mend it"
            )
    curve = tuple(sorted(record.curve, key=lambda p: p.tokens))
    for one, two in pairwise(curve):
        if one.tokens == two.tokens:
            raise InputError(
                f"two checkpoints at {one.tokens} tokens", where=where, hint="keep one, or name the runs apart"
            )
    return replace(record, curve=curve)


def _group(
    family: str,
    method: str,
    records: list[RunRecord],
    controls: list[RunRecord],
    baseline: str,
    columns: Sequence[Column],
) -> Observations:
    notes = []
    empty = [r.run for r in records if not r.curve]
    if empty:
        notes.append(f"left out, no checkpoints: {', '.join(empty)}")
    broken = [r.run for r in records if r.status == "failed"]
    if broken:
        notes.append(f"left out, the run failed: {', '.join(broken)}")
    records = [r for r in records if r.curve and r.status != "failed"]
    if not records:
        raise InputError("no run has a checkpoint", where=f"{family} {method}", hint="train or import its runs first")
    objectives = sorted({Objective.parse(r.objective).kind for r in records})
    if len(objectives) > 1:
        notes.append(f"objectives are mixed ({', '.join(objectives)}), which recover apart: name them as two families")
    read = {column.name: column for column in (*BASIC, *columns)}
    out = Observations(
        family=family,
        method=method,
        baseline="initial",
        runs=tuple(r.run for r in records),
        run=np.concatenate([np.full(len(r.curve), i) for i, r in enumerate(records)]),
        x=Setting(**{name: np.concatenate([c.read(r) for r in records]) for name, c in read.items()}),
        loss=np.array([p.known_loss for r in records for p in r.curve]),
        notes=tuple(notes),
    )
    return _against_control(out, records, controls) if baseline == "control" else out


def _against_control(seen: Observations, records: list[RunRecord], controls: list[RunRecord]) -> Observations:
    """Replace the loss before pruning by the control's at the same tokens, linear in log tokens in between."""
    curves: dict[Recipe, dict[int, Curve]] = {}
    before = np.empty(len(seen))
    inside = np.ones(len(seen), dtype=bool)
    for number, record in enumerate(records):
        recipe = recipe_of(record)
        if recipe not in curves:
            curves[recipe] = control_curves(controls, seen.family, recipe)
        if record.params_before not in curves[recipe]:
            raise InputError(
                f"no control with {format_count(record.params_before)} parameters",
                where=seen.where,
                hint="train the unpruned model on the same tokens (method none), or use the baseline initial",
            )
        here = seen.run == number
        before[here], inside[here] = read_control(curves[recipe][record.params_before], seen.x.tokens[here])
    if not inside.any():
        raise InputError(
            "the controls cover none of the tokens of the pruned runs", where=seen.where, hint="train them as long"
        )
    out = replace(seen, x=seen.x.replace(loss_before=np.where(inside, before, 1.0)), baseline="control")
    if inside.all():
        return out
    return out.keep(inside, f"left out {plural(int((~inside).sum()), 'checkpoint')} outside the control's tokens")
