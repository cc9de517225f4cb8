"""Plain tables, a row per log call: CSV, Parquet, JSON lines. Where names do not say what a column is, users do."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regrow.errors import InputError
from regrow.reading import check_file
from regrow.runs.importers.events import widened
from regrow.runs.importers.history import History
from regrow.runs.importers.text import NUMBER

if TYPE_CHECKING:
    import pandas as pd

_PARQUET = b"PAR1"
_METRICS = "metrics.csv"
_NUMBER = re.compile(NUMBER)


def recognise_parquet(path: Path, head: bytes) -> bool:
    return head[:4] == _PARQUET


def recognise_jsonl(path: Path, head: bytes) -> bool:
    first = head.lstrip().split(b"\n", 1)[0]
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def recognise_csv(path: Path, head: bytes) -> bool:
    """A line of names, and one with as many cells, some of them numbers; or the folder of Lightning's CSVLogger."""
    if path.is_dir():
        return bool(_metrics_files(path))
    lines = first_cells(head)
    if len(lines) < 2 or len(lines[0]) < 2 or len(lines[0]) != len(lines[1]) or not all(lines[0][1:]):
        return False
    return any(_NUMBER.fullmatch(cell.strip()) for cell in lines[1])


def read_csv(path: Path) -> History:
    """A table, or the `metrics.csv` in a folder or in the only `version_N` below it."""
    if path.is_dir():
        files = _metrics_files(path)
        if len(files) != 1:
            found = ", ".join(str(file.relative_to(path)) for file in files) or "none"
            raise InputError(
                f"{len(files)} logs here ({found})",
                where=str(path),
                hint="name one, or all of them with --merge if they are parts of one run",
            )
        path = files[0]
    return widened(from_table(csv_table(path), str(path)))


def _metrics_files(folder: Path) -> list[Path]:
    """What Lightning's CSVLogger has written in a folder."""
    found = [folder / _METRICS, *sorted(folder.glob(f"version_*/{_METRICS}"))]
    return [file for file in found if file.is_file()]


def read_parquet(path: Path) -> History:
    return widened(from_table(parquet_table(path), str(path)))


def read_jsonl(path: Path) -> History:
    return widened(History.from_rows(json_lines(path, what="a table in JSON lines"), where=str(path)))


def first_cells(head: bytes) -> list[list[str]]:
    """The cells of the first two lines, as far as they are CSV."""
    try:
        return list(csv.reader(head.decode("utf-8", errors="replace").splitlines()[:2]))
    except csv.Error:
        return []


def csv_table(path: Path, *, text: bool = False) -> pd.DataFrame:
    """A CSV file; an empty cell is missing, `nan` and `inf` are text that says so. With `text`, every cell is text."""
    import pandas as pd

    check_file(path)
    try:
        kind: type | None = str if text else None
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False, dtype=kind)
    except pd.errors.EmptyDataError:
        raise InputError("the file is empty", where=str(path)) from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError(f"not a CSV table ({_reason(error)})", where=str(path)) from None
    if table.empty:
        raise InputError("the table has no rows", where=str(path), hint="give one row per log call")
    return table


def parquet_table(path: Path) -> pd.DataFrame:
    """A Parquet file."""
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"not a Parquet table ({_reason(error)})", where=str(path)) from None
    if table.empty:
        raise InputError("the table has no rows", where=str(path), hint="give one row per log call")
    return table


def from_table(table: pd.DataFrame, where: str, notes: tuple[str, ...] = ()) -> History:
    """A table as a history. A missing cell is None; Parquet and CSV cannot tell a NaN that was logged from it."""
    table = table.astype(object).where(table.notna(), None)
    return History(where=where, columns={str(name): table[name].tolist() for name in table.columns}, notes=notes)


def json_lines(path: Path, *, what: str) -> list[dict[str, Any]]:
    """The objects of a file with one per line. A torn last line is dropped; another that is none is refused."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None
    except (OSError, ValueError):
        raise InputError(f"not {what}", where=str(path)) from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            if number == len(lines) > 1:
                break
            row = None
        if not isinstance(row, dict):
            raise InputError(f"not {what}: line {number} is no JSON object", where=str(path))
        rows.append(row)
    if not rows:
        raise InputError("the file is empty", where=str(path))
    return rows


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
