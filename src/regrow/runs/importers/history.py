"""A log as a table: what every reader makes, and all that the rules on losses and tokens look at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.errors import InputError


@dataclass(frozen=True, kw_only=True)
class History:
    """Columns of equal length, a row per log call, in the order of the log. None: not logged in that row.

    Attributes:
        where: the file or folder, for messages.
        columns: values as the log has them, numbers or text.
        sequence_length, tokens_per_step: tokens in one sample and in one optimizer step, where the log states them.
        notes: what the reader has to say, one sentence each.
    """

    where: str
    columns: Mapping[str, Sequence[Any]]
    sequence_length: int | None = None
    tokens_per_step: int | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], **rest: Any) -> History:
        """From one mapping per log call."""
        listed = list(rows)
        names = dict.fromkeys(name for row in listed for name in row)
        return cls(columns={str(name): [row.get(name) for row in listed] for name in names}, **rest)

    def __len__(self) -> int:
        return max((len(column) for column in self.columns.values()), default=0)

    def has(self, name: str) -> bool:
        """Whether the column holds anything."""
        return name in self.columns and any(value is not None for value in self.columns[name])

    def named(self) -> str:
        """The columns that hold something, for a message."""
        return ", ".join(name for name in self.columns if self.has(name)) or "none"

    def numbers(self, name: str) -> np.ndarray:
        """A column as floats; NaN where nothing, or something that is no finite number, was logged.

        Raises `InputError` for text that is no number (`nan` and `inf` are).
        """
        try:
            values = np.array([math.nan if value is None else value for value in self.columns[name]], dtype=float)
        except (TypeError, ValueError):
            bad = next(value for value in self.columns[name] if value is not None and not _is_number(value))
            raise InputError(
                f"{name!r} holds {str(bad)[:40]!r}, not a number", where=self.where, hint="name another column"
            ) from None
        return np.where(np.isfinite(values), values, math.nan)

    def logged(self, name: str) -> np.ndarray:
        """Rows in which the column holds anything, finite or not."""
        return np.array([value is not None for value in self.columns[name]], dtype=bool)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def count(number: int, what: str) -> str:
    """`1 evaluation`, `3 evaluations`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def concatenate(parts: Sequence[History]) -> History:
    """The parts of one run as one log, in the order given."""
    if len(parts) == 1:
        return parts[0]
    names = dict.fromkeys(name for part in parts for name in part.columns)
    stated: dict[str, int | None] = {}
    for what in ("sequence_length", "tokens_per_step"):
        values = sorted({getattr(part, what) for part in parts} - {None})
        if len(values) > 1:
            raise InputError(
                f"parts of one run with {what} {' and '.join(f'{value:,}' for value in values)}",
                where=parts[0].where,
                hint="import them as runs of their own, or give --tokens-column",
            )
        stated[what] = next(iter(values), None)
    return History(
        where=" + ".join(part.where for part in parts),
        columns={
            name: [value for part in parts for value in part.columns.get(name, [None] * len(part))] for name in names
        },
        notes=tuple(note for part in parts for note in part.notes),
        **stated,
    )
