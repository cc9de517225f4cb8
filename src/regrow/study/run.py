"""Run a study: what is missing is run, what broke is run again, what is done is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regrow.errors import RegrowError
from regrow.ladder import find_model
from regrow.runs.store import CURVE_FILE, is_done, make_folder, write_json
from regrow.study.local import cpu_count, run_local
from regrow.study.spec import Cell, StudySpec

RUNS = "runs"
STUDY_FILE = "study.json"


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What became of the cells: run now, done before, and failed with their errors by name."""

    ran: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]


def folder_of(cell: Cell, out: Path) -> Path:
    """Where a cell's run lies in the study's folder."""
    return out / RUNS / cell.name


def missing_cells(spec: StudySpec, out: Path) -> list[Cell]:
    """Cells without a finished run of the same spec in `out`, longest first, so that no worker waits long."""
    missing = [cell for cell in spec.cells() if not is_done(folder_of(cell, out), spec_hash=cell.hash)]
    return sorted(missing, key=_work, reverse=True)


def _work(cell: Cell) -> float:
    from regrow.arch import Architecture

    try:
        size = Architecture.from_pretrained(find_model(cell.model)).params
    except RegrowError:  # the cell itself will say what is wrong with its model
        return 0.0
    return float(cell.train.tokens) * size


def run_study(
    spec: StudySpec,
    out: Path,
    *,
    workers: int | None = None,
    on_cell: Callable[[Cell, str | None], None] | None = None,
) -> StudyResult:
    """Run every missing cell of `spec` into `out`; cells that fail do not stop the others.

    Args:
        workers: processes; one per CPU (at most four, where tiny models gain no more) if None.
        on_cell: told of each cell that ended, with its error or None.

    Raises `InputError` if the folder can't be written or a cell cannot be as asked.
    """
    make_folder(out)
    cells = spec.cells()
    missing = missing_cells(spec, out)
    write_json(out / STUDY_FILE, {"format": 1, "cells": [{"name": c.name, "hash": c.hash, **c.spec} for c in cells]})
    failed: dict[str, str] = {}
    ran: list[str] = []
    if missing:
        jobs = [(cell, folder_of(cell, out)) for cell in missing]
        for cell, error in run_local(jobs, workers=min(workers or min(cpu_count(), 4), len(jobs))):
            if error is None:
                ran.append(cell.name)
            else:
                failed[cell.name] = error
            if on_cell is not None:
                on_cell(cell, error)
    names = {cell.name for cell in missing}
    return StudyResult(ran=tuple(ran), skipped=tuple(c.name for c in cells if c.name not in names), failed=failed)


def tokens_done(spec: StudySpec, out: Path) -> int:
    """Tokens trained so far by the study's cells, as their curves on disk say; cheap enough to poll."""
    done = 0
    for cell in spec.cells():
        path = folder_of(cell, out) / CURVE_FILE
        try:
            last = path.read_text().rstrip("\n").rsplit("\n", 1)[-1]
        except OSError:
            continue
        found = last.partition('"tokens": ')[2].partition(",")[0]
        done += int(found) if found.isdigit() else 0
    return done
