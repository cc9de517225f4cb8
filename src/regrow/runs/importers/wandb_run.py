"""W&B's local run file, `run-ID.wandb`, as the library writes it (offline too), read without the library.

The file is a LevelDB log (google/leveldb, doc/log_format.md: blocks of 32 KiB; each record a CRC, a length and a type,
split over blocks as first, middle and last) behind seven bytes of W&B's own, and each record is a protobuf message
(wandb/proto/wandb_internal.proto). Of those only the history is read: `Record.history` = 2, `HistoryRecord.item` = 1,
`HistoryItem.key` = 1, `.nested_key` = 2, `.value_json` = 16, and the typed values 3 to 8 of later versions. The library
ships no Python reader any more (0.31) and brings twenty packages: these lines are less to carry than a dependency.
A record torn by a crash ends the log.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History

_MAGIC = b":W&B\xe1\xbe"
_START = 7
_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def recognise(path: Path, head: bytes) -> bool:
    return bool(_files(path)) if path.is_dir() else head.startswith(_MAGIC)


def read(path: Path) -> History:
    """Read a run file, or the folder (`wandb/offline-run-...`) that holds one."""
    files = _files(path) if path.is_dir() else [path]
    if len(files) != 1:
        raise InputError(f"{len(files)} W&B run files here", where=str(path), hint="name one: run-ID.wandb")
    content = files[0].read_bytes()
    if not content.startswith(_MAGIC):
        raise InputError("not a W&B run file", where=str(path), hint="say which it is: --as")
    rows = [row for record in _records(content) for row in _rows(record)]
    if not rows:
        raise InputError("no history in this run", where=str(path), hint="was anything logged?")
    return History.from_rows(rows, where=str(files[0]), log_calls=frozenset({"_step"}))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("run-*.wandb"))


def _records(content: bytes) -> Iterator[bytes]:
    """The records of the log up to its end or the first that is torn."""
    at, parts = _START, b""
    while at + 7 <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < 7:
            at += left
            continue
        crc, length, kind = struct.unpack_from("<IHB", content, at)
        data = content[at + 7 : at + 7 + length]
        if len(data) < length or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            return
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != crc:
            return
        at += 7 + length
        parts = data if kind in (_FULL, _FIRST) else parts + data
        if kind in (_FULL, _LAST):
            yield parts


def _rows(record: bytes) -> Iterator[dict[str, Any]]:
    """The history row of a record, if it holds one."""
    for number, value in _fields(record):
        if number == 2 and isinstance(value, bytes):
            yield dict(_item(item) for field, item in _fields(value) if field == 1 and isinstance(item, bytes))


def _item(item: bytes) -> tuple[str, Any]:
    key: list[str] = []
    value: Any = None
    for number, field in _fields(item):
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


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field of a protobuf message: an int for a varint, the bytes otherwise."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            return
        yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value, at
