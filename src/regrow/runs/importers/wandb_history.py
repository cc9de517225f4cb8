"""A W&B history, exported to CSV or Parquet.

Two shapes: the history table (`run.history()`, `run.scan_history()`, or the Parquet files of a run's history artifact),
with `_step`, `_runtime` and `_timestamp` beside what was logged; and a chart's "Export CSV", whose columns are an x
axis and, for each line, `NAME - METRIC`, `NAME - METRIC__MIN` and `__MAX` (wandb/wandb#5349). `_step` counts log calls,
so it is not taken for optimizer steps unless --step-column says so.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.tables import csv_table, first_cells, from_table, parquet_table

if TYPE_CHECKING:
    import pandas as pd

_OWN = ("_step", "_runtime", "_timestamp")
#: What a chart's x axis can be.
_AXIS = re.compile(r"^[^,]*(step|time|epoch|tokens|samples|iter|batch)[^,]*$", re.IGNORECASE)
#: What counts log calls: in a history, and as the x axis of a chart.
_LOG_CALLS = frozenset({"_step", "Step"})


def recognise_csv(path: Path, head: bytes) -> bool:
    lines = first_cells(head)
    names = [name.strip() for name in lines[0]] if lines else []
    return bool(set(_OWN) & set(names)) or (_is_chart(names) and len(lines) > 1 and len(lines[0]) == len(lines[1]))


def _is_chart(names: list[str]) -> bool:
    """Whether these are the columns of a chart: an x axis, and `RUN - METRIC` for each line."""
    if any(name.endswith("__MIN") for name in names):
        return True
    return len(names) > 1 and _AXIS.search(names[0]) is not None and all(" - " in name for name in names[1:])


def recognise_parquet(path: Path, head: bytes) -> bool:
    import pyarrow
    import pyarrow.parquet

    if head[:4] != b"PAR1":
        return False
    try:
        return bool(set(_OWN) & set(pyarrow.parquet.read_schema(path).names))
    except (OSError, pyarrow.ArrowInvalid):
        return False


def read_csv(path: Path) -> History:
    return _history(csv_table(path), path)


def read_parquet(path: Path) -> History:
    return _history(parquet_table(path), path)


def _history(table: pd.DataFrame, path: Path) -> History:
    names = [str(name) for name in table.columns]
    chart = _is_chart(names)
    if not chart and not set(_OWN) & set(names):
        raise InputError(
            "not a W&B history: neither _step nor NAME - METRIC__MIN",
            where=str(path),
            hint="--as csv reads it",
        )
    if chart:
        table = table[[name for name in names if not name.endswith(("__MIN", "__MAX"))]]
    elif "_step" in names:
        table = table.sort_values("_step", kind="stable")
    history = from_table(table, str(path))
    calls = _LOG_CALLS | {name for name in history.columns if name.endswith(" - _step")}
    return replace(history, log_calls=frozenset(calls & set(history.columns)))
