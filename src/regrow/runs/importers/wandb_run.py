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
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.leveldb import RunFiles, fields

_FILES = RunFiles(tool="W&B", magic=b":W&B\xe1\xbe", suffix=".wandb")


def recognise(path: Path, head: bytes) -> bool:
    return _FILES.recognise(path, head)


def read(path: Path) -> History:
    """Read a run file, or the folder (`wandb/offline-run-...`) that holds one."""
    file, found = _FILES.open(path)
    rows = [row for record in found for row in _rows(record)]
    if not rows:
        raise InputError("no history in this run", where=str(path), hint="was anything logged?")
    return History.from_rows(rows, where=str(file), log_calls=frozenset({"_step"}))


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
