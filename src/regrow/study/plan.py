"""What a study will do and cost, before it does it: cells, tokens, FLOPs, time, disk. Light."""

from __future__ import annotations

import heapq
import json
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regrow.arch import Architecture
from regrow.errors import RegrowError
from regrow.runs import RunRecord, read_archive, read_run, spec_hash
from regrow.runs.store import STUDY_FILE
from regrow.study.budget import StudyBudget, within
from regrow.study.cell_plan import CellPlan, plan_cell, run_folder
from regrow.study.engine import Engine
from regrow.study.inputs import shape_of
from regrow.study.spec import StudySpec
from regrow.units import format_si


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """All cells of a study with their costs.

    Attributes:
        cells: every cell, in the study's order.
        workers: processes that share the work; None if not known.
        timing: a sentence on where the times come from; None without times.
        budget: a sentence on what the budget left out; None if all cells fit.
        disk_free: bytes free where the study is written.
    """

    cells: tuple[CellPlan, ...]
    workers: int | None = None
    timing: str | None = None
    budget: str | None = None
    disk_free: int | None = None

    @property
    def chosen(self) -> list[CellPlan]:
        return [cell for cell in self.cells if cell.chosen]

    @property
    def to_run(self) -> list[CellPlan]:
        """Chosen cells that are not finished, most work first, so that no worker waits long at the end."""
        return sorted((c for c in self.chosen if not c.finished), key=lambda c: c.work, reverse=True)

    @property
    def tokens_left(self) -> int:
        return sum(cell.tokens_left for cell in self.to_run)

    @property
    def flops_left(self) -> float | None:
        known = [cell.flops * cell.left for cell in self.to_run if cell.flops is not None]
        return sum(known) if len(known) == len(self.to_run) else None

    @property
    def seconds_left(self) -> float | None:
        """Of the whole study on its workers: each takes the next cell as it is free."""
        times = [cell.seconds * cell.left for cell in self.to_run if cell.seconds is not None]
        if len(times) != len(self.to_run):
            return None
        free = [0.0] * (self.workers or 1)
        for time in times:
            heapq.heappush(free, heapq.heappop(free) + time)
        return max(free)

    @property
    def disk(self) -> int | None:
        """Bytes that the chosen cells' run folders hold when all are done."""
        known = [cell.disk for cell in self.chosen if cell.disk is not None]
        return sum(known) if len(known) == len(self.chosen) else None

    def warnings(self) -> list[str]:
        """What to look at before the study runs: rates that end in one shape, and a disk that will be full."""
        notes = [_same_shape(rates, reached, cells) for rates, reached, cells in self._alike()]
        if self.disk_free is not None and (self.disk_left or 0) > self.disk_free:
            notes.append("the disk will be full before all cells are done")
        return notes

    def _alike(self) -> Iterator[tuple[tuple[float, ...], float, list[CellPlan]]]:
        """Rates of one model and method that leave the same shape, the rate it reaches, and the cells to run of the
        rates after the first."""
        groups: dict[Any, dict[float, list[CellPlan]]] = {}
        for row in self.chosen:
            prune = row.cell.prune
            if prune is None or prune.rate is None or row.params_after is None or row.cell.stages:
                continue
            key = (row.cell.model, prune.method, prune.scorer, row.params_after)
            groups.setdefault(key, {}).setdefault(prune.rate, []).append(row)
        for group in groups.values():
            first, *others = group.values()
            again = [row for rows in others for row in rows if not row.finished]
            if again and first[0].rate is not None:
                yield tuple(group), first[0].rate, again

    @property
    def disk_left(self) -> int | None:
        known = [cell.disk for cell in self.to_run if cell.disk is not None]
        return sum(known) if len(known) == len(self.to_run) else None


def _same_shape(rates: Sequence[float], reached: float, again: Sequence[CellPlan]) -> str:
    """A warning about cells that train a shape once more."""
    cell = again[0].cell
    method = "" if cell.prune is None else cell.prune.method
    many = "1 cell trains" if len(again) == 1 else f"{len(again)} cells train"
    named = " and ".join(f"{rate:g}" for rate in rates)
    return (
        f"{cell.model}, {method}: the rates {named} end in the same shape, which reaches {reached:.3g}: "
        f"{many} it again; keep one of these rates"
    )


def plan_study(
    spec: StudySpec, out: Path, *, engine: Engine | None = None, records: Sequence[str | Path] = ()
) -> StudyPlan:
    """Plan a study into the folder `out`.

    Args:
        engine: where there are no finished runs whose speed is known, its hardware is tried for a few seconds; without
            an engine there are then no times.
        records: archives of runs, as `regrow runs export` writes them. A cell whose finished record lies in one of them
            is not run again.

    Raises `InputError` for what cannot be run (see `StudySpec.check`), for records that can't be read, or for a study
    over its budget.
    """
    spec.check()
    recorded = finished_hashes(records)
    shapes = {model: shape_of(model) for model in spec.models}
    cells = [
        replace(plan_cell(cell, out, shapes[cell.model], recorded=cell.hash in recorded), seed_rank=i % len(spec.seeds))
        for i, cell in enumerate(spec.cells())
    ]
    budget_note = timing = None
    # a budget that needs no times refuses before the hardware is tried
    late = spec.budget is not None and spec.budget.hours is not None
    if late:
        cells, timing = _with_times(cells, out, engine, shapes)
    if spec.budget is not None:
        names, budget_note = _chosen_before(spec.budget, cells, out) or within(spec.budget, cells)
        cells = [replace(cell, chosen=cell.cell.name in names) for cell in cells]
    if not late:
        cells, timing = _with_times(cells, out, engine, shapes)
    return StudyPlan(
        cells=tuple(cells),
        workers=None if engine is None else engine.workers,
        timing=timing,
        budget=budget_note,
        disk_free=_free(out),
    )


def finished_hashes(records: Sequence[str | Path]) -> set[str]:
    """Spec hashes of the finished runs in archives. Raises `InputError` for a file that is no archive."""
    return {run.hash for path in records for run in read_archive(path) if run.status == "done"}


def study_id(cells: Sequence[CellPlan]) -> str:
    """A hash of the cells that a study asks for, before the budget."""
    return spec_hash({"cells": [cell.cell.hash for cell in cells]})


def _chosen_before(budget: StudyBudget, cells: Sequence[CellPlan], out: Path) -> tuple[set[str], str | None] | None:
    """The cells that this budget chose when the study first ran. The choice is kept, because estimated times drift."""
    try:
        earlier = json.loads((out / STUDY_FILE).read_text())
        if earlier["budget"] != budget.to_dict() or earlier["asked"] != study_id(cells):
            return None
        names = {str(cell["name"]) for cell in earlier["cells"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    note = f"{len(names)} of {len(cells)} cells fit the budget, as chosen when the study began"
    return names, None if len(names) == len(cells) else note


def _with_times(
    cells: list[CellPlan], out: Path, engine: Engine | None, shapes: Mapping[str, Architecture | None]
) -> tuple[list[CellPlan], str | None]:
    """Cells with their times at the known speeds, and a sentence on where these come from."""
    if all(cell.flops is None for cell in cells):
        return cells, None
    speeds, source = _recorded_speeds(cells, out)
    if not speeds and engine is not None and any(not cell.finished for cell in cells):
        speeds, source = _probed_speeds(cells, engine, shapes)
    if not speeds:
        return cells, None
    usual = statistics.median(speeds.values())
    timed = [
        replace(cell, seconds=None if cell.flops is None else cell.flops / speeds.get(cell.cell.model, usual))
        for cell in cells
    ]
    return timed, source


def _recorded_speeds(cells: Sequence[CellPlan], out: Path) -> tuple[dict[str, float], str]:
    """FLOP/s by model, from the study's finished runs."""
    found: dict[str, list[float]] = {}
    devices = set()
    for cell in cells:
        if cell.state != "done" or cell.flops is None:
            continue
        try:
            run: RunRecord = read_run(run_folder(cell.cell, out))
        except RegrowError:
            continue
        speed = run.details.get("tokens_per_second")
        if speed:
            per_token = run.details.get("flops_per_token") or cell.flops / cell.tokens
            found.setdefault(cell.cell.model, []).append(float(speed) * per_token)
            devices.add(str(run.details.get("device")))
    count = sum(map(len, found.values()))
    source = f"as {count} finished run{'s' if count > 1 else ''} trained ({', '.join(sorted(devices))})"
    return {model: statistics.median(speeds) for model, speeds in found.items()}, source


def _probed_speeds(
    cells: Sequence[CellPlan], engine: Engine, shapes: Mapping[str, Architecture | None]
) -> tuple[dict[str, float], str]:
    """FLOP/s by model, measured now on the smallest and the largest model and interpolated for the others."""
    size = {model: shape.params for model, shape in shapes.items() if shape is not None}
    by_size = sorted(size, key=lambda model: size[model])
    tried = list(dict.fromkeys((by_size[0], by_size[-1])))
    one_of_each = [next(cell.cell for cell in cells if cell.cell.model == model) for model in tried]
    speeds = {m: s for m, s in zip(tried, engine.probe(one_of_each), strict=True) if s is not None}
    if not speeds:
        return {}, ""
    known = dict(speeds)
    for model in by_size:
        nearest = min(speeds, key=lambda m: abs(size[m] - size[model]))
        known.setdefault(model, speeds[nearest])
    shown = ", ".join(f"{model}: {format_si(speed, 'FLOP/s')}" for model, speed in speeds.items())
    return known, f"from a try of a second just now ({shown} a worker)"


def _free(out: Path) -> int | None:
    folder = out.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
