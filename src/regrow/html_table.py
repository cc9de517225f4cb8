"""Tables in HTML, for objects that a notebook shows. Every cell is escaped: names come from files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from regrow.errors import printable

#: Rows that are shown of a long table.
_MOST_ROWS = 200


def html_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", notes: Iterable[str] = ()
) -> str:
    """A table with a title above and notes below; of more than two hundred rows the first."""
    head = "".join(f"<th>{_text(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows[:_MOST_ROWS])
    more = [f"and {len(rows) - _MOST_ROWS} more rows"] if len(rows) > _MOST_ROWS else []
    return "".join(
        [
            f"<p><strong>{_text(title)}</strong></p>" if title else "",
            f"<table>{f'<thead><tr>{head}</tr></thead>' if columns else ''}<tbody>{body}</tbody></table>",
            *(f"<p>{_text(note)}</p>" for note in (*more, *notes)),
        ]
    )


def _text(value: str) -> str:
    from html import escape  # its table of entities is large, and only a notebook needs it

    return escape(printable(value)).replace("\n", "<br>")
