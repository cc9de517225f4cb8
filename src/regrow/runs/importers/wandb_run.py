"""W&B's local run file, `run-ID.wandb`, as the library writes it (offline too), read without the library.

The file is a LevelDB log behind seven bytes of W&B's own, and each record is a protobuf message
(wandb/proto/wandb_internal.proto). Of those only the history is read: `Record.history` = 2, `HistoryRecord.item` = 1,
`HistoryItem.key` = 1, `.nested_key` = 2, `.value_json` = 16, and the typed values 3 to 8 of later versions. The library
ships no Python reader any more (0.31) and brings twenty packages: these lines are less to carry than a dependency.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.leveldb import Log, RunFiles, fields

_FILES = RunFiles(tool="W&B", magic=b":W&B\xe1\xbe", suffix=".wandb")


def recognise(path: Path, head: bytes) -> bool:
    return _FILES.recognise(path, head)


def read(path: Path) -> History:
    """Read a run file, or the folder (`wandb/offline-run-...`) that holds one."""
    file, log = _FILES.open(path)
    rows = [row for record in log.records for row in _rows(record)]
    if not rows:
        raise InputError("no history in this run", where=str(path), hint="was anything logged?")
    return History.from_rows(rows, where=str(file), log_calls=frozenset({"_step"}), notes=_notes(log, rows))


def _notes(log: Log, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """What was left out of a damaged file, and how many log calls that were, where `_step` counts them one by one."""
    steps = [row["_step"] for row in rows if isinstance(row.get("_step"), int)]
    if not log.places or len(steps) < 2 or median(after - before for before, after in pairwise(steps)) != 1:
        return log.notes
    calls = steps[-1] - steps[0] + 1
    return (*log.notes, f"{calls - len(set(steps)):,} of {calls:,} log calls are missing, by _step")


def _rows(record: bytes) -> Iterator[dict[str, Any]]:
    """The history row of a record, if it holds one."""
    for number, value in fields(record):
        if number == 2 and isinstance(value, bytes):
            yield dict(_item(item) for field, item in fields(value) if field == 1 and isinstance(item, bytes))


def _item(item: bytes) -> tuple[str, Any]:
    key: list[str] = []
    value: Any = None
    for number, field in fields(item):
        if number in (1, 2) and isinstance(field, bytes):
            key.append(field.decode())
        elif number in (8, 16) and isinstance(field, bytes):
            value = json.loads(field)
        elif number == 7 and isinstance(field, bytes):
            value = field.decode()
        elif number == 6 and isinstance(field, bytes):
            value = struct.unpack("<d", field)[0]
        elif number == 5 and isinstance(field, int):
            value = (field >> 1) ^ -(field & 1)  # zigzag
    return ".".join(key), value if isinstance(value, int | float | str) and not isinstance(value, bool) else None
