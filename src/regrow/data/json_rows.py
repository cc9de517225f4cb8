"""Rows of a JSON file: one object a line, or an array of objects, told apart by the first character."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

#: characters that are read at a time
_PIECE = 1 << 16


class Row(NamedTuple):
    """One row: what it is called (`line 3`, `item 3`), its number from 1 on, and its value."""

    name: str
    number: int
    value: Any


class BadRow(ValueError):
    """A row that is not JSON; the message says which and why."""


def json_rows(stream: IO[str]) -> Iterator[Row]:
    """Every row of a stream in order, one in memory at a time. Raises `BadRow`."""
    head = stream.read(_PIECE)
    while head and not head.strip():
        head = stream.read(_PIECE)
    if head.lstrip().startswith("["):
        yield from _items(stream, head.lstrip()[1:])
        return
    first = io.StringIO(head + stream.readline())
    for number, line in enumerate((line for part in (first, stream) for line in part), start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:
                raise BadRow(f"line {number} is not JSON ({error})") from None
            yield Row(f"line {number}", number, value)


def _items(stream: IO[str], buffer: str) -> Iterator[Row]:
    """The items of an array whose opening bracket has been read; `buffer` is what was read after it."""
    decoder, number, piece = json.JSONDecoder(), 0, _PIECE
    while True:
        buffer = buffer.lstrip().removeprefix(",").lstrip() if number else buffer.lstrip()
        if buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer)
        except json.JSONDecodeError as error:
            more = stream.read(piece)
            if not more:
                raise BadRow(f"item {number + 1} of the array is not JSON, or the file is cut ({error.msg})") from None
            buffer += more
            piece *= 2  # a large item is not looked through again and again
            continue
        number, piece, buffer = number + 1, _PIECE, buffer[end:]
        yield Row(f"item {number}", number, value)
