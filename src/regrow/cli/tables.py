"""Tables and blocks of text for a terminal of any width: whole columns are left out, no word is broken."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import typer

#: Between two columns.
_GAP = 2
#: Lines of text are wrapped at this width at most, where a terminal is wider.
_READABLE = 120
_ROOM = 20
_CUT = "…"


@dataclass(frozen=True)
class Table:
    """A table as lines of text, with what did not fit.

    `hidden` are the columns that are not shown, each with its value where that is the same in every row, else None.
    `rows` counts the rows.
    """

    lines: tuple[str, ...]
    hidden: tuple[tuple[str, str | None], ...]
    rows: int

    def note(self) -> str | None:
        """What is not shown, in one line; None where all is. A column of dashes says nothing and is not named."""
        same = [f"{name} {value}" for name, value in self.hidden if value not in (None, "-")]
        rest = [name for name, value in self.hidden if value is None]
        parts = [f"{'also' if self.rows == 1 else 'the same in every row'}: {', '.join(same)}"] if same else []
        if rest:
            parts.append(f"no room for {', '.join(rest)}: a wider terminal, a pipe or --json shows them")
        return f"({'; '.join(parts)})" if parts else None


def terminal_width(*, err: bool = False) -> int | None:
    """Columns of the terminal that stdout (or stderr) goes to; None for a file or a pipe, where no line is ever cut."""
    return shutil.get_terminal_size().columns if (sys.stderr if err else sys.stdout).isatty() else None


def fit_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, *, spare: Sequence[str] = ()
) -> Table:
    """Lay out a table in `width` columns of text; None is any width. The first column is on the left, others right.

    Where the columns do not fit, whole ones are left out: first those with one value in every row, which the note
    says, then those of `spare` in its order, then the last ones. The first column stays; names that take more than
    half the width are cut in their middle, as names differ at their ends.
    """
    from rich.cells import cell_len

    from regrow.errors import printable

    cells = [[" ".join(printable(cell).split()) if "\n" in cell else printable(cell) for cell in row] for row in rows]
    sizes = [max([cell_len(name), *(cell_len(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    values = [cells[0][i] if cells and len({row[i] for row in cells}) == 1 else None for i in range(len(columns))]
    kept = list(range(len(columns)))
    if width is not None:
        alike = {i for i in kept[1:] if values[i] is not None and len(cells) > 1}
        least = min(sizes[0], width // 2)
        _drop(kept, sizes, width, _going(columns, spare, alike), alike, least)
        sizes[0] = min(sizes[0], max(least, _room(kept, sizes, width)))
    hidden = tuple((columns[i], values[i]) for i in range(len(columns)) if i not in kept)
    lines = []
    for row in [list(columns), *cells]:
        name = _cut(row[0], sizes[0])
        others = (" " * (sizes[k] - cell_len(row[k])) + row[k] for k in kept[1:])
        lines.append((" " * _GAP).join([name + " " * (sizes[0] - cell_len(name)), *others]).rstrip())
    return Table(tuple(lines), hidden, len(cells))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, spare: Sequence[str] = ()
) -> None:
    """A table for people, on stdout, as wide as the terminal; what did not fit is named on stderr."""
    if title:
        typer.echo(title)
    table = fit_table(columns, rows, terminal_width(), spare=spare)
    head, *body = table.lines
    typer.echo(typer.style(head, bold=True) if sys.stdout.isatty() else head)
    if body:
        typer.echo("\n".join(body))
    note = table.note()
    if note:
        say(note, err=True)


def print_block(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values on stdout, a line each; on a terminal a long value goes on below its beginning."""
    rows = list(rows)
    size = max(len(name) for name, _ in rows)
    for name, text in rows:
        typer.echo(wrapped(f"  {name:<{size}}  {text}", terminal_width(), indent=size + 4))


def say(text: str, *, err: bool = False) -> None:
    """Text on stdout (or stderr), wrapped between words on a terminal."""
    typer.echo(wrapped(text, terminal_width(err=err)), err=err)


def wrapped(text: str, width: int | None, *, indent: int = 0) -> str:
    """`text` in lines of at most `width`, broken between words only; each further line begins after `indent` spaces."""
    if width is None:
        return text
    width = min(max(width, indent + _ROOM), _READABLE)
    return "\n".join(
        textwrap.fill(
            line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
            drop_whitespace=True, replace_whitespace=False,
        )
        for line in text.split("\n")
    )  # fmt: skip


def _going(columns: Sequence[str], spare: Sequence[str], alike: set[int]) -> list[int]:
    """The columns in the order in which they are left out."""
    named = [columns.index(name) for name in spare if name in columns]
    ordered = [*named, *(i for i in range(len(columns) - 1, 0, -1) if i not in named)]
    return [*(i for i in ordered if i in alike), *(i for i in ordered if i not in alike)]


def _room(kept: Sequence[int], sizes: Sequence[int], width: int) -> int:
    """What is left for the first column."""
    return width - sum(sizes[i] + _GAP for i in kept[1:])


def _drop(kept: list[int], sizes: Sequence[int], width: int, going: Sequence[int], alike: set[int], least: int) -> None:
    """Take columns out of `kept` until the others fit. A column of one value goes before a name is cut at all, another
    one only where the name would be shorter than `least`."""
    for i in going:
        if _room(kept, sizes, width) < (sizes[0] if i in alike else least):
            kept.remove(i)


def _cut(name: str, size: int) -> str:
    """A name in at most `size` columns: its middle is left out where it is longer."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= size:
        return name
    begin = (size - 1) // 2
    end = name
    while cell_len(end) > size - 1 - begin:
        end = end[1:]
    return set_cell_size(name, begin) + _CUT + end
