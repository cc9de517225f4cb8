"""SwanLab's local run file, `run-ID.swanlab`, as the library writes it (modes `local` and `offline`).

A LevelDB log behind seven bytes, its records protobuf messages: `Record.scalar` = 13, with `key` = 1, `step` = 2, and
`value` = 5, whose `number` = 1 is a double. The step is the caller's; where none is given it counts log calls of that
metric. Looked at: swanlab 0.10.3 (2026-10), swanlab/proto.
"""

from __future__ import annotations

import struct
from pathlib import Path

from regrow.errors import InputError
from regrow.runs.importers.events import Event, rows_of
from regrow.runs.importers.history import History
from regrow.runs.importers.leveldb import RunFiles, fields

_FILES = RunFiles(tool="SwanLab", magic=b":SWL", suffix=".swanlab")
_SYSTEM = "__swanlab__"


def recognise(path: Path, head: bytes) -> bool:
    return _FILES.recognise(path, head)


def read(path: Path) -> History:
    """Read a run file, or the folder (`swanlog/run-...`) that holds one."""
    file, log = _FILES.open(path)
    events = [event for record in log.records for event in _scalars(record)]
    if not events:
        raise InputError("no scalar in this run", where=str(path), hint="was anything logged?")
    return History.from_rows(rows_of(events), where=str(file), notes=log.notes)


def _scalars(record: bytes) -> list[Event]:
    """The scalar of a record, if it holds one that a user has logged."""
    found = []
    for number, scalar in fields(record):
        if number != 13 or not isinstance(scalar, bytes):
            continue
        parts = dict(fields(scalar))
        key, step, value = parts.get(1), parts.get(2, 0), parts.get(5)
        if not isinstance(key, bytes) or not isinstance(step, int) or not isinstance(value, bytes):
            continue
        for field, content in fields(value):
            if field == 1 and isinstance(content, bytes) and len(content) == 8 and not key.startswith(_SYSTEM.encode()):
                number_logged = struct.unpack("<d", content)[0]
                found.append(Event(0.0, step, key.decode(errors="replace"), number_logged))
    return found
