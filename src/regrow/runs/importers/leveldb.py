"""Records in a LevelDB log, and the fields of a protobuf message: what the run files of W&B and SwanLab are made of.

The log is cut into blocks of 32 KiB; each record has a CRC, a length and a type, and is split over blocks as first,
middle and last (google/leveldb, doc/log_format.md). A record torn by a crash ends the log. A damaged one is left out,
with what it was part of, and the log goes on at the next whole record; the notes say how much was left out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regrow.errors import InputError
from regrow.runs.importers.history import notes_of_damage

_BLOCK = 32768
#: Bytes before the log, of the tool's own.
_HEADER = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The run files of one tool: a log behind seven bytes that begin with `magic`, called `run-ID` and `suffix`."""

    tool: str
    magic: bytes
    suffix: str

    def recognise(self, path: Path, head: bytes) -> bool:
        """Whether `path` is a run file, or a folder that holds some; `head` is the file's first bytes."""
        return bool(self._inside(path)) if path.is_dir() else head.startswith(self.magic)

    def open(self, path: Path) -> tuple[Path, Log]:
        """The run file at `path`, or the one in that folder, and what can be read of it.

        Raises `InputError` for a folder that holds none or several, and for another kind of file.
        """
        files = self._inside(path) if path.is_dir() else [path]
        if len(files) != 1:
            hint = f"name one: run-ID{self.suffix}"
            raise InputError(f"{len(files)} {self.tool} run files here", where=str(path), hint=hint)
        content = files[0].read_bytes()
        if not content.startswith(self.magic):
            raise InputError(f"not a {self.tool} run file", where=str(path), hint="say which it is: --as")
        return files[0], read_log(content, _HEADER)

    def _inside(self, folder: Path) -> list[Path]:
        return sorted(folder.glob(f"run-*{self.suffix}"))


@dataclass(frozen=True, kw_only=True)
class Log:
    """What can be read of a log.

    Attributes:
        records: in their order.
        places, lost: how many damaged places were left out, and their bytes together.
        torn: bytes at the end that hold no whole record.
    """

    records: tuple[bytes, ...]
    places: int
    lost: int
    torn: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, in words; nothing where all was read."""
        return notes_of_damage(self.places, self.lost, len(self.records), self.torn)


def read_log(content: bytes, start: int) -> Log:
    """The records of the log from `start` on."""
    found: list[bytes] = []
    parts: bytes | None = None
    at, places, lost, torn = start, 0, 0, 0
    while at + 7 <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < 7:
            at += left
            continue
        whole = _part(content, at)
        if whole is None:
            following = _next_part(content, at + 1)
            if following is None:
                torn = len(content) - at
                break
            places, lost, at, parts = places + 1, lost + following - at, following, None
            continue
        kind, data = whole
        at += 7 + len(data)
        if kind in (_FULL, _FIRST):
            parts = data
        elif parts is not None:
            parts += data
        if kind in (_FULL, _LAST) and parts is not None:
            found.append(parts)
            parts = None
    return Log(records=tuple(found), places=places, lost=lost, torn=torn)


def _part(content: bytes, at: int) -> tuple[int, bytes] | None:
    """Kind and data of the record, or part of one, that begins at `at`; None where none does that is whole."""
    crc, length, kind = struct.unpack_from("<IHB", content, at)
    if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or length > _BLOCK - at % _BLOCK - 7:
        return None
    data = content[at + 7 : at + 7 + length]
    whole = len(data) == length and zlib.crc32(data, zlib.crc32(bytes([kind]))) == crc
    return (kind, data) if whole else None


def _next_part(content: bytes, at: int) -> int | None:
    """Where the next whole record begins: anywhere in this block, else at the beginning of a later one."""
    block_end = min(at - at % _BLOCK + _BLOCK, len(content))
    later = range(block_end, len(content), _BLOCK)
    return next((i for i in (*range(at, block_end), *later) if i + 7 <= len(content) and _part(content, i)), None)


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
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
