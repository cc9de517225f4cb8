"""Many runs at once: a manifest, a CSV with a row per log.

`path` is relative to the manifest; rows of one `run` are the parts of it, in their order. The other columns are the
fields of `ImportSpec`, by their names; an empty cell is the default. `params_before` and its kin take 1.24B. `where`
holds `COLUMN=VALUE`, several of them with `;` between: so the runs of one table have a row each.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from regrow.errors import InputError, one_of, printable
from regrow.runs.importers.read import import_log
from regrow.runs.importers.spec import ImportSpec
from regrow.runs.importers.tables import csv_table
from regrow.runs.record import RunRecord, check_folder_name
from regrow.units import parse_count

_COUNTS = {"params_before", "params_after", "tokens_per_step", "sequence_length", "accumulation_steps"}
_NUMBERS = {"loss_before", "bytes_per_token", "pruning_rate"}
_FIELDS = [field.name for field in dataclasses.fields(ImportSpec)]
_NEEDED = [field.name for field in dataclasses.fields(ImportSpec) if field.default is dataclasses.MISSING]


def import_manifest(manifest: str | Path) -> list[RunRecord]:
    """Import every run that a manifest lists, in its order.

    Raises `InputError` for a column that is unknown (with the nearest one) or missing, a run whose rows disagree, units
    that differ between runs, and whatever `import_log` refuses, naming the row.
    """
    where = str(manifest)
    rows = _rows(Path(manifest))
    units = {row.get("unit", "nats") for _, row in rows}
    if len(units) > 1:
        raise InputError(
            f"mixed units: {', '.join(sorted(units))}", where=where, hint="one manifest has one unit: import them apart"
        )
    by_run: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for number, row in rows:
        by_run.setdefault(row["run"], []).append((number, row))
    records = []
    for run, parts in by_run.items():
        number, first = parts[0]
        for other, row in parts[1:]:
            differ = [name for name in _FIELDS if row.get(name) != first.get(name)]
            if differ:
                raise InputError(
                    f"rows {number} and {other} are parts of run {run!r} and differ in {', '.join(differ)}", where=where
                )
        logs = [Path(manifest).parent / row["path"] for _, row in parts]
        if "scores_before" in first:
            first["scores_before"] = str(Path(manifest).parent / first["scores_before"])
        try:
            records.append(import_log(logs, ImportSpec(**_values(first))))
        except InputError as error:
            raise InputError(str(error), where=f"{where}, row {number} ({run})") from None
    return records


def _rows(manifest: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows with their numbers, counted from 1 below the header, without their empty cells."""
    where = str(manifest)
    if not manifest.is_file():
        raise InputError("no such file", where=where, hint="give a CSV with a row per log")
    table = csv_table(manifest, text=True)
    for name in table.columns:
        one_of(str(name), ["path", *_FIELDS], what="column", where=where)
    missing = [name for name in ("path", *_NEEDED) if name not in table.columns]
    if missing:
        raise InputError(f"missing: {', '.join(missing)}", where=where, hint=f"needed: path, {', '.join(_NEEDED)}")
    rows = []
    for number, row in enumerate(table.astype(object).to_dict("records"), start=1):
        cells = {str(name): str(value) for name, value in row.items() if value == value and value is not None}
        empty = [name for name in ("path", *_NEEDED) if name not in cells]
        if empty:
            raise InputError(f"row {number} leaves {', '.join(empty)} empty", where=where)
        check_folder_name(cells["run"], where=f"{where}, row {number}")
        for name, text in cells.items():
            if printable(text) != text:
                hint = "give text without control characters"
                raise InputError(f"{name} is {text[:60]!r}", where=f"{where}, row {number}", hint=hint)
        rows.append((number, cells))
    return rows


def _values(cells: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in cells.items():
        if name == "path":
            continue
        if name in _COUNTS:
            values[name] = parse_count(text, what=name)
        elif name in _NUMBERS:
            values[name] = _float(name, text)
        elif name in ("seed", "step_offset"):
            values[name] = round(_float(name, text))
        elif name == "where":
            values[name] = tuple(condition.strip() for condition in text.split(";") if condition.strip())
        elif name == "train_loss":
            values[name] = one_of(text.lower(), ("true", "false"), what="value of train_loss") == "true"
        else:
            values[name] = text
    return values


def _float(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} is {text!r}, not a number")
    return value
