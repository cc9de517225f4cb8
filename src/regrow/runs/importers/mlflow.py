"""MLflow's two stores: the database `mlflow.db` (the default since 3.0), and the folders under `mlruns`.

In the database every value is a row of `metrics` (key, value, timestamp in milliseconds, run_uuid, step, is_nan); a NaN
is stored as 0 with `is_nan` set. In the folders every metric is a file `RUN/metrics/KEY` with a line `TIMESTAMP VALUE
STEP` for each value. The step is what the caller gave: `transformers` gives optimizer steps. Several runs of one store
are told apart by `run_id`. Looked at: mlflow 3.17.2 (2026-10), store/tracking/dbmodels/models.py and file_store.py.
"""

from __future__ import annotations

import math
from itertools import groupby
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.databases import has_columns, rows
from regrow.runs.importers.events import Event, rows_of
from regrow.runs.importers.history import History

_COLUMNS = {"key", "value", "timestamp", "run_uuid", "step", "is_nan"}


def recognise(path: Path, head: bytes) -> bool:
    return bool(_runs(path)) if path.is_dir() else has_columns(path, head, "metrics", _COLUMNS)


def read(path: Path) -> History:
    """Read a database, a run's folder, or a folder of runs."""
    table = _from_folders(path) if path.is_dir() else _from_database(path)
    if not table:
        raise InputError("no metric in this store", where=str(path), hint="was anything logged?")
    return History.from_rows(table, where=str(path))


def _from_database(path: Path) -> list[dict[str, Any]]:
    query = (
        "SELECT m.run_uuid, r.name, m.timestamp, m.step, m.key, m.value, m.is_nan FROM metrics m "
        "JOIN runs r ON r.run_uuid = m.run_uuid WHERE r.lifecycle_stage = 'active' "
        "ORDER BY r.start_time, m.run_uuid, m.timestamp, m.step"
    )
    table = []
    for (run, name), found in groupby(rows(path, query), key=lambda row: row[:2]):
        events = [Event(time, step, key, math.nan if nan else value) for _, _, time, step, key, value, nan in found]
        table += [{"run_name": name, "run_id": run, **row} for row in rows_of(events)]
    return table


def _runs(folder: Path) -> list[Path]:
    """The folders of runs in a store, an experiment, or the one that this is."""
    found = [folder, *folder.glob("*"), *folder.glob("*/*")]
    return sorted(run for run in found if (run / "meta.yaml").is_file() and (run / "metrics").is_dir())


def _from_folders(path: Path) -> list[dict[str, Any]]:
    table = []
    for run in _runs(path):
        events = [
            event for file in sorted((run / "metrics").rglob("*")) if file.is_file() for event in _values(file, run)
        ]
        events.sort(key=lambda event: event.time)
        table += [{"run_id": run.name, **row} for row in rows_of(events)]
    return table


def _values(file: Path, run: Path) -> list[Event]:
    key = file.relative_to(run / "metrics").as_posix()
    events = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            events.append(Event(float(words[0]), int(words[2]) if len(words) > 2 else 0, key, float(words[1])))
        except (ValueError, IndexError):
            raise InputError(f"line {number} is not TIMESTAMP VALUE STEP", where=str(file)) from None
    return events
