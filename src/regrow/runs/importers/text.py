"""What the readers of text logs share: lines without colours, and a log's words as numbers."""

from __future__ import annotations

import re
from pathlib import Path

from regrow.errors import InputError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: A number as logs print it: 2.3367, 4.735407E+00, 1,024, nan.
NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|nan|inf)"


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
