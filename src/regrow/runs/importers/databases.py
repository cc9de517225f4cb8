"""What the readers of SQLite files share: which tables a file has, and a read that never writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from regrow.errors import InputError

_MAGIC = b"SQLite format 3\x00"


def has_columns(path: Path, head: bytes, table: str, columns: set[str]) -> bool:
    """Whether a file is a SQLite database with these columns in this table."""
    if path.is_dir() or not head.startswith(_MAGIC):
        return False
    try:
        names = {str(row[1]) for row in rows(path, f"PRAGMA table_info({table})")}
    except InputError:
        return False
    return columns <= names


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query. Raises `InputError` for a file that is no database, or has no such table."""
    reason: sqlite3.Error | None = None
    for mode in ("mode=ro", "immutable=1"):  # a database with a write-ahead log can't be opened in a read-only folder
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)) as connection:
                connection.text_factory = lambda text: text.decode("utf-8", errors="replace")
                return connection.execute(query).fetchall()
        except sqlite3.Error as error:
            reason = reason or error
    raise InputError(f"not a database that can be read ({reason})", where=str(path)) from None
