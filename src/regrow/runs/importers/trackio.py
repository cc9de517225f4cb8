"""Trackio's local database, `PROJECT.db`, and the metrics that it exports as Parquet or CSV.

In the database a row of `metrics` is a log call: run_name, run_id, timestamp, step, and the metrics as JSON. The export
has a column for each metric. Where the caller gives no step, as `transformers` does not, `step` counts log calls: it is
0, 1, 2, ... and the optimizer step stands in `train/global_step`. Looked at: trackio 0.43.0 (2026-10), run.py (Run.log)
and sqlite_storage.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from regrow.errors import InputError
from regrow.runs.importers.databases import has_columns, rows
from regrow.runs.importers.history import History
from regrow.runs.importers.tables import csv_table, first_cells, from_table, parquet_table

_OWN = {"id", "run_id", "run_name", "timestamp", "step"}


def recognise(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return False
    if head[:4] == b"PAR1":
        return _parquet_names(path) >= _OWN
    names = next(iter(first_cells(head)), [])
    return set(names) >= _OWN or has_columns(path, head, "metrics", {"run_name", "step", "metrics"})


def read(path: Path) -> History:
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(b"SQLite"):
        history = _from_database(path)
    else:
        table = parquet_table(path) if head[:4] == b"PAR1" else csv_table(path)
        if not {"run_name", "step"} <= set(table.columns):
            raise InputError(
                "not an export of trackio: no run_name and step", where=str(path), hint="--as csv reads it"
            )
        history = from_table(table.drop(columns=[n for n in ("id", "timestamp") if n in table.columns]), str(path))
    return replace(history, log_calls=frozenset({"step"}) if _counts_calls(history) else frozenset())


def _from_database(path: Path) -> History:
    columns = {str(row[1]) for row in rows(path, "PRAGMA table_info(metrics)")}
    run_id = "run_id" if "run_id" in columns else "run_name"  # releases before 0.20 know a run by its name alone
    found = rows(path, f"SELECT {run_id}, run_name, step, metrics FROM metrics ORDER BY run_name, id")
    table: list[dict[str, Any]] = []
    for run, name, step, metrics in found:
        try:
            values = json.loads(metrics)
            plain = {key: value for key, value in values.items() if isinstance(value, int | float | str)}
        except (TypeError, ValueError, AttributeError):
            raise InputError(f"the metrics of run {name} at step {step} are no JSON object", where=str(path)) from None
        table.append({"run_name": name, "run_id": run, "step": step, **plain})
    if not table:
        raise InputError("no metric in this project", where=str(path), hint="was anything logged?")
    return History.from_rows(table, where=str(path))


def _counts_calls(history: History) -> bool:
    """Whether `step` goes up by one with each row of a run: nobody gave it."""
    steps = history.numbers("step")
    runs = np.array([str(run) for run in history.columns["run_name"]])
    ways = [np.diff(steps[runs == run]) for run in dict.fromkeys(runs)]
    return all((way == 1).all() for way in ways)


def _parquet_names(path: Path) -> set[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        return set(pyarrow.parquet.read_schema(path).names)
    except (OSError, pyarrow.ArrowInvalid):
        return set()
