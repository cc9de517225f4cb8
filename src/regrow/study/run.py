"""Run a study: the cells that are missing or were interrupted; finished cells are left alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from regrow.disk import make_folder, write_json
from regrow.locks import LOCK_FILE, hold
from regrow.runs.store import STUDY_FILE, is_done
from regrow.study.cell_plan import run_folder
from regrow.study.cells import Cell
from regrow.study.engine import Engine, Job
from regrow.study.engines import make_engine
from regrow.study.plan import StudyPlan, plan_study, study_id
from regrow.study.shared import SHARED
from regrow.study.spec import StudySpec

#: Seconds within which a file that another machine wrote is seen here.
_LATE = 30.0


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """The cells by name: run now, finished before (here or in the records given), and failed, with their errors."""

    ran: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]


def missing_cells(spec: StudySpec, out: str | Path) -> list[Cell]:
    """Cells without a finished run of the same spec in `out`, most work first, so that no worker waits long."""
    return [planned.cell for planned in plan_study(spec, Path(out)).to_run]


def run_study(
    spec: StudySpec,
    out: str | Path,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    records: Sequence[str | Path] = (),
    on_plan: Callable[[StudyPlan], None] | None = None,
    on_cell: Callable[[Cell, str | None], None] | None = None,
) -> StudyResult:
    """Run every missing cell of `spec` into `out`; cells that fail do not stop the others.

    Args:
        workers: processes of the local engine; one per GPU, else one per CPU (at most four), if None.
        engine: what runs the cells instead of the local engine; it is left open.
        records: archives whose finished runs are not run again; see `plan_study`.
        on_plan: called with the plan before anything runs. If it is given and no finished run shows the speed, the
            hardware is tried for a few seconds.
        on_cell: called with each cell that ends, and its error or None.

    Raises `InputError` if the folder can't be written or another study runs in it, if a cell cannot be as asked, or if
    the study is over its budget.
    """
    out = Path(out)
    make_folder(out)
    lock = hold(
        out / LOCK_FILE,
        what="another study is running in this folder",
        hint="wait for it to end, or choose another --out",
        wait=1.0,  # for a study that has just been killed
    )
    own = None if engine is not None else make_engine("local", workers=workers)
    with lock, nullcontext() if own is None else closing(own):
        runner = engine or own
        assert runner is not None
        estimates = on_plan is not None or (spec.budget is not None and spec.budget.hours is not None)
        plan = plan_study(spec, out, engine=runner if estimates else None, records=records)
        if on_plan is not None:
            on_plan(plan)
        budget = None if spec.budget is None else spec.budget.to_dict()
        listed = [{"name": p.cell.name, "hash": p.cell.hash, **p.cell.spec} for p in plan.chosen]
        content = {"format": 1, "asked": study_id(plan.cells), "budget": budget, "cells": listed}
        write_json(out / STUDY_FILE, content)
        return _run(plan, out, runner, on_cell)


def _run(plan: StudyPlan, out: Path, engine: Engine, on_cell: Callable[[Cell, str | None], None] | None) -> StudyResult:
    cells = [planned.cell for planned in plan.chosen]
    # by what the pruned model depends on: the seeds and objectives of one model and one pruning share it
    uses = Counter((p.cell.model, p.cell.prune) for p in plan.chosen if p.state != "recorded")
    jobs = [
        Job(
            cell=cell,
            out=run_folder(cell, out).absolute(),
            shared=(out / SHARED).absolute(),
            base=Path.cwd(),
            uses=uses[cell.model, cell.prune],
        )
        for cell in (planned.cell for planned in plan.to_run)
    ]
    failed: dict[str, str] = {}
    ran: list[str] = []
    if jobs:
        with closing(engine.run(jobs)) as ended:  # type: ignore[type-var]  # iterators here are generators
            for cell, error in ended:
                folder = run_folder(cell, out)
                if error is None and not _seen_done(folder, cell.hash):
                    error = f"ended without {folder / 'DONE'}: is the study's folder the same on every machine?"
                if error is None:
                    ran.append(cell.name)
                else:
                    failed[cell.name] = error
                if on_cell is not None:
                    on_cell(cell, error)
    started = {job.cell.name for job in jobs}
    skipped = tuple(cell.name for cell in cells if cell.name not in started)
    return StudyResult(ran=tuple(ran), skipped=skipped, failed=failed)


def _seen_done(folder: Path, spec_hash: str) -> bool:
    """Whether a run that another process has finished is visible here; a network file system may show it late."""
    until = time.monotonic() + _LATE
    while not is_done(folder, spec_hash=spec_hash):
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True
