"""What the readers of text logs share: lines without colours, and a log's words as numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from regrow.errors import InputError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: A number as logs print it: 2.3367, 4.735407E+00, 1,024, nan.
NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|nan|inf)"


#: How much of a text file is searched for the first line that tells the format.
_SEARCHED = 256 * 2**20


def first_telling(path: Path, patterns: Mapping[str, re.Pattern[str]]) -> str | None:
    """The name of the pattern that matches the earliest line of a text file; None where none does.

    Start-up messages of many ranks can stand before that line, so the whole file is searched.
    """
    searched = 0
    with path.open("rb") as stream:
        for raw in stream:
            searched += len(raw)
            if b"\0" in raw or searched > _SEARCHED:
                return None
            for line in clean(raw).split("\r"):
                found = next((name for name, pattern in patterns.items() if pattern.search(line)), None)
                if found is not None:
                    return found
    return None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without terminal colours; a progress bar's carriage return ends a line too."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror or error})", where=str(path)) from None
    return _COLOUR.sub("", text).replace("\r", "\n").split("\n")


def clean(head: bytes) -> str:
    """The first bytes of a file as text, without terminal colours."""
    return _COLOUR.sub("", head.decode("utf-8", errors="replace"))


def to_number(text: str) -> float:
    """A `NUMBER` as a float."""
    return float(text.replace(",", ""))
