"""A log as a table. Every reader makes one, and the rules on losses and tokens look at nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
        log_calls: columns that count log calls, so that none is taken for the optimizer step unasked.
        tool: the tool that wrote the log, a key of `tools.COUNTERS`, where its step needs a rule of its own.
        held_out: whether the rows were chosen by the name of a held-out set, so that their loss is a held-out one.
        notes: what the reader has to say, one sentence each.
    """

    where: str
    columns: Mapping[str, Sequence[Any]]
    sequence_length: int | None = None
    tokens_per_step: int | None = None
    log_calls: frozenset[str] = frozenset()
    tool: str | None = None
    held_out: bool = False
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
        return name in self.columns and any(not is_missing(value) for value in self.columns[name])

    def named(self) -> str:
        """The columns that hold something, for a message."""
        return ", ".join(name for name in self.columns if self.has(name)) or "none"

    def numbers(self, name: str) -> np.ndarray:
        """A column as floats; NaN where nothing, or something that is no finite number, was logged.

        Raises `InputError` for text that is no number (`nan` and `inf` are).
        """
        try:
            values = np.array([math.nan if is_missing(value) else value for value in self.columns[name]], dtype=float)
        except (TypeError, ValueError):
            bad = next(value for value in self.columns[name] if not is_missing(value) and not _is_number(value))
            raise InputError(
                f"{name!r} holds {str(bad)[:40]!r}, not a number", where=self.where, hint="name another column"
            ) from None
        return np.where(np.isfinite(values), values, math.nan)

    def logged(self, name: str) -> np.ndarray:
        """Rows in which the column holds anything, finite or not."""
        return np.array([not is_missing(value) for value in self.columns[name]], dtype=bool)

    def rows(self, kept: np.ndarray, **changes: Any) -> History:
        """The rows where `kept` is true, with these attributes changed."""
        columns = {
            name: [value for value, keep in zip(column, kept, strict=True) if keep]
            for name, column in self.columns.items()
        }
        return replace(self, columns=columns, **changes)


#: What tables write where there is no value. `nan` is not among them: it is a value that is not finite.
_MISSING = frozenset({"", "none", "null", "na", "n/a", "-", "--"})


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing, or text that says so."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def count(number: int, what: str) -> str:
    """`1 evaluation`, `3 evaluations`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def notes_of_damage(places: int, lost: int, read: int, torn: int) -> tuple[str, ...]:
    """What was left out of a file of records, in words; nothing where all was read.

    Args:
        places, lost: damaged places that were left out, and their bytes together.
        read: records that were read.
        torn: bytes at the end that hold no whole record.
    """
    notes = []
    if places:
        notes.append(
            f"damaged: {lost:,} bytes in {count(places, 'place')} were left out, with the readings in them; "
            f"{read:,} records were read"
        )
    if torn:
        notes.append(f"the last record is torn or damaged: {torn:,} bytes at the end were left out")
    return tuple(notes)


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
        log_calls=frozenset().union(*(part.log_calls for part in parts)),
        tool=_shared(parts),
        held_out=all(part.held_out for part in parts),
        columns={
            name: [value for part in parts for value in part.columns.get(name, [None] * len(part))] for name in names
        },
        notes=tuple(note for part in parts for note in part.notes),
        **stated,
    )


def _shared(parts: Sequence[History]) -> str | None:
    """The tool that wrote all parts. Raises `InputError` where tools that count in different ways wrote them."""
    tools = sorted({part.tool or "" for part in parts})
    if len(tools) > 1:
        raise InputError(
            f"parts of one run from different tools ({', '.join(tool or 'another' for tool in tools)}), which count "
            "steps in different ways",
            where=parts[0].where,
            hint="give --step-offset, or --tokens-column",
        )
    return tools[0] or None
