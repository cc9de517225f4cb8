"""Runs as a table: one row per checkpoint, and back.

The columns are the contract: `run, family, method, params_before, params_after, tokens, loss, loss_before`, and the
optional `loss_pruned, pruning_rate, seed, objective, schedule`, and a checkpoint's other losses, `loss_averaged` and
`loss_cooled`, where some run has them, and benchmark scores (`regrow.runs.score_columns`); any other column is kept in
a run's details and not used. A run with scores may lack losses: the cells, or the whole columns, are then empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.disk import write_text
from regrow.errors import InputError, reason_of
from regrow.reading import MALFORMED, check_file, repeated
from regrow.runs.record import LARGEST_LOSS, CurvePoint, RunRecord, check_name
from regrow.runs.score_columns import (
    SCORE,
    check_score_columns,
    is_score_column,
    score_cells,
    score_columns,
    scores_before,
    scores_of_row,
    widened,
)
from regrow.runs.turns import stage_runs

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("run", "family", "method", "params_before", "params_after", "tokens", "loss", "loss_before")
OPTIONAL = ("pruning_rate", "seed", "objective", "schedule", "loss_pruned")
#: What else may be known of a checkpoint; a column is there if one run has it, and empty where it is not known.
OTHER_LOSSES = ("loss_averaged", "loss_cooled")
#: Columns that are text whatever they look like, and what an empty cell of the others may hold.
_TEXT = ("run", "family", "method", "objective", "schedule")
_EMPTY = ("", "NA", "N/A", "n/a", "nan", "NaN", "null", "None")
#: What laws read of how a run was pruned and trained, kept in a record's details when read back.
RECIPE = ("scorer", "learning_rate", "batch_tokens", "warmup_tokens")
#: What spreadsheets take for a formula.
_FORMULA = re.compile(r"[=+\-@\t\r]")
#: Bytes of the largest table.
_LARGEST_TABLE = 4 << 30
_NUMBERS = ("params_before", "params_after", "tokens")
#: What a run with scores may lack.
_LOSSES = ("loss", "loss_before")
_PER_RUN = ("family", "method", "params_before", "params_after", "loss_before")


def _recipe(run: RunRecord) -> dict[str, object]:
    """How a run was pruned and trained, as far as its spec or its details say; None for what they don't."""
    found: dict[str, object] = {}
    for column in RECIPE:
        asked = run.spec.get("prune" if column == "scorer" else "train")
        value = asked.get(column) if isinstance(asked, Mapping) else None
        found[column] = run.details.get(column) if value is None else value
    return found


def to_table(runs: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per checkpoint with the contract's columns, in the order of the runs and their tokens.

    Of a run that prunes and trains in turns the first stage is a run like any other; a later one is of a method of its
    own, such as `depth, stage 2`, as it starts from a trained model. The columns of `RECIPE` are there where a run says
    them.
    """
    import pandas as pd

    runs = [
        stage if number == 1 else replace(stage, method=f"{stage.method}, stage {number}")
        for run in runs
        for number, stage in enumerate(stage_runs(run), 1)
    ]
    others = [c for c in OTHER_LOSSES if any(getattr(p, c) is not None for run in runs for p in run.curve)]
    scores = score_columns(runs)
    recipes = [_recipe(run) for run in runs]
    said = [column for column in RECIPE if any(recipe[column] is not None for recipe in recipes)]
    pruned = ["loss_pruned"] if any(run.loss_pruned is not None for run in runs) else []
    rows = [
        {
            "run": run.run,
            "family": run.family,
            "method": run.method,
            "params_before": run.params_before,
            "params_after": run.params_after,
            "pruning_rate": run.pruning_rate,
            "tokens": point.tokens,
            "loss": point.loss,
            "loss_before": run.loss_before,
            "seed": run.seed,
            "objective": run.objective,
            "schedule": run.schedule,
            **{column: getattr(run, column) for column in pruned},
            **{column: getattr(point, column) for column in others},
            **score_cells(run, point, scores),
            **{column: recipe[column] for column in said},
        }
        for run, recipe in zip(runs, recipes, strict=True)
        for point in run.curve
    ]
    columns = [*REQUIRED[:5], "pruning_rate", *REQUIRED[5:], *OPTIONAL[1:4], *pruned, *others, *scores, *said]
    return pd.DataFrame(rows, columns=columns)


def from_table(table: pd.DataFrame, *, where: str = "table") -> list[RunRecord]:
    """Check a table and read its runs, each sorted by tokens.

    A table with a row per score (`score_name`, `score`) is read as well (`regrow.runs.score_columns.widened`).

    Raises `InputError` naming the column, run and row for: no rows, a missing column, a value that is not a finite
    number, a loss that cannot be nats/token, a score that is no fraction, two checkpoints of one run at the same
    tokens, or a run whose family, method, sizes or loss before pruning change on the way.
    """
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise InputError(f"the column {repeated[0]} stands twice", where=where, hint="keep one of them")
    table = widened(table, where)
    scored = any(str(column).startswith(SCORE) for column in table.columns)
    missing = [column for column in REQUIRED if column not in table.columns and not (scored and column in _LOSSES)]
    if missing:
        raise InputError(
            f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} missing",
            where=where,
            hint=f"needed: {', '.join(REQUIRED)}",
        )
    if table.empty:
        raise InputError("the table has no rows", where=where, hint="give one row per checkpoint")
    table = table.assign(**{column: np.nan for column in _LOSSES if column not in table.columns})
    for column in (*_NUMBERS, *(c for c in ("pruning_rate",) if c in table.columns)):
        table[column] = _numbers(table, column, where)
    for column in ("run", "family", "method"):
        bad = table[column].isna().to_numpy()
        if bad.any():
            raise InputError(f"{column} is empty in row {_row(bad)}", where=where, hint="every row names its run")
        table[column] = [_unquoted(str(value)) for value in table[column]]
        for row, value in zip(*_first_rows(table[column]), strict=True):
            check_name(value, what=column, where=f"{where}, row {row}")
    others = [c for c in (*OTHER_LOSSES, "loss_pruned") if c in table.columns]
    for column in (*_LOSSES, *others):
        table[column] = _numbers(table, column, where, missing=column in others or scored)
    for column in ("loss", "loss_before", *others):
        bad = (table[column].to_numpy() <= 0) | (table[column].to_numpy() > LARGEST_LOSS)
        if bad.any():
            value = table[column].to_numpy()[bad][0]
            raise InputError(
                f"{column} is {value:g} in row {_row(bad)}",
                where=where,
                hint="losses are in nats per token: take the logarithm of a perplexity, multiply bits by 0.6931",
            )
    table = check_score_columns(table, where)
    if scored:
        _check_read(table, where)
    _check_constant(table, where)
    return [_run(str(name), rows, where) for name, rows in table.groupby("run", sort=False)]


def _check_read(table: pd.DataFrame, where: str) -> None:
    """Raise `InputError` for a checkpoint of which neither a loss nor a score was read, and for a run that has losses
    and no loss before pruning."""
    scores = [column for column in table.columns if str(column).startswith(SCORE)]
    bad = (table["loss"].isna() & ~table[scores].notna().any(axis=1)).to_numpy()
    if bad.any():
        raise InputError(
            f"loss is nan in row {_row(bad)}, which has no score either",
            where=where,
            hint="every checkpoint needs a loss or a score: drop the row or mend it",
        )
    known = table[["loss", "loss_before"]].notna().groupby(table["run"], sort=False).any()
    bare = known.index[known["loss"] & ~known["loss_before"]]
    if len(bare):
        raise InputError(
            "losses are given and loss_before is empty", where=f"{where}, run {bare[0]}", hint="give it in nats/token"
        )


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all. A text that a spreadsheet would take for a formula gets a `'` before
    it, which `read_table` takes away. Raises `OSError` where it can't be written."""
    safe = table.copy()
    for column in safe.columns:
        if safe[column].dtype == object or str(safe[column].dtype).startswith(("str", "string")):
            safe[column] = [_quoted(value) for value in safe[column]]
    write_text(path, str(safe.to_csv(index=False)))


def _quoted(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _unquoted(name: str) -> str:
    return name[1:] if name.startswith("'") and _FORMULA.match(name[1:]) else name


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or Parquet file as it stands: names are text (`01`, `1e3` and `NA` too), and no column is renamed.

    Raises `InputError` for what is no table, is empty, or has a column twice.
    """
    import pandas as pd

    if path.suffix == ".json" and path.is_file():
        hint = "give runs: a study folder, a run folder, an archive (.jsonl), a CSV or Parquet table"
        raise InputError("a JSON file (a law?), not a table of runs", where=str(path), hint=hint)
    check_file(path, limit=_LARGEST_TABLE)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        names = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0].tolist()
        twice = repeated(names)
        if twice is not None:
            raise InputError(f"the column {twice!r} stands twice", where=str(path), hint="keep one of them")
        empty = {name: [""] if name in _TEXT else [*_EMPTY] for name in names}
        return pd.read_csv(path, dtype={n: str for n in _TEXT if n in names}, keep_default_na=False, na_values=empty)
    except pd.errors.EmptyDataError:
        raise InputError("the table is empty", where=str(path), hint="give one row per checkpoint") from None
    except (OSError, *MALFORMED, NotImplementedError) as error:
        raise InputError(f"not a CSV or Parquet table ({reason_of(error)})", where=str(path)) from None


def _numbers(table: pd.DataFrame, column: str, where: str, *, missing: bool = False) -> np.ndarray:
    """A column as finite numbers; `missing` lets empty cells be NaN."""
    import pandas as pd

    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    bad = ~np.isfinite(values)
    if missing:
        bad &= table[column].notna().to_numpy()
    if bad.any():
        raise InputError(
            f"{column} is {table[column].to_numpy()[bad][0]} in row {_row(bad)}",
            where=where,
            hint="every checkpoint needs a finite number: drop the row or mend it",
        )
    return values


def _first_rows(column: pd.Series) -> tuple[list[int], list[Any]]:
    """The rows, counted from 1, in which each value of a column stands first, and these values."""
    first = ~column.duplicated().to_numpy()
    return (np.flatnonzero(first) + 1).tolist(), column[first].tolist()


def _row(bad: np.ndarray) -> int:
    """The first offending row, counted from 1 below the header."""
    return int(np.flatnonzero(bad)[0]) + 1


def _check_constant(table: pd.DataFrame, where: str) -> None:
    """Raise `InputError` naming a run whose family, method, sizes, rate or starting losses change on the way."""
    import pandas as pd

    run = pd.factorize(table["run"])[0]
    for column in (*_PER_RUN, "pruning_rate", "loss_pruned"):
        if column not in table.columns:
            continue
        code = pd.factorize(table[column])[0]
        known = code >= 0
        first = np.full(run.max() + 1, -1)
        # of the rows of a run the first one is written last
        first[run[known][::-1]] = code[known][::-1]
        changed = known & (code != first[run])
        if changed.any():
            rows = table[run == run[np.flatnonzero(changed)[0]]]
            found = ", ".join(map(str, rows[column].unique()[:3]))
            raise InputError(f"{column} changes within the run ({found})", where=f"{where}, run {rows['run'].iloc[0]}")


def _run(name: str, rows: pd.DataFrame, where: str) -> RunRecord:
    rows = rows.sort_values("tokens", kind="stable")
    tokens = rows["tokens"].to_numpy()
    repeated = tokens[1:][np.diff(tokens) == 0]
    if repeated.size:
        raise InputError(
            f"two checkpoints at {repeated[0]:.0f} tokens",
            where=f"{where}, run {name}",
            hint="keep one of them, or name the runs apart if they differ by seed",
        )
    first = rows.iloc[0]
    rate = 1 - first["params_after"] / first["params_before"]
    if "pruning_rate" in rows.columns:
        rate = float(first["pruning_rate"])
    scored = [c for c in rows.columns if is_score_column(c)]
    extra = [c for c in rows.columns if c not in (*REQUIRED, *OPTIONAL, *OTHER_LOSSES, *scored)]
    named = f"{where}, run {name}"
    return RunRecord(
        run=name,
        family=first["family"],
        method=first["method"],
        params_before=round(first["params_before"]),
        params_after=round(first["params_after"]),
        pruning_rate=rate,
        loss_before=_one(rows, "loss_before"),
        loss_pruned=_one(rows, "loss_pruned"),
        curve=tuple(
            CurvePoint(
                tokens=round(t),
                loss=loss,
                loss_averaged=averaged,
                loss_cooled=cooled,
                scores=scores_of_row(row, f"{named}, {t:.0f} tokens"),
            )
            for t, loss, averaged, cooled, row in zip(
                tokens,
                *(_known(rows, column) for column in ("loss", *OTHER_LOSSES)),
                rows[scored].to_dict("records") if scored else [{}] * len(rows),
                strict=True,
            )
        ),
        status="imported",
        seed=_seed(first, named),
        objective=_optional(first, "objective", str),
        schedule=_optional(first, "schedule", str),
        details={column: first[column] for column in extra},
        scores_before=scores_before(rows),
    )


def _known(rows: pd.DataFrame, column: str) -> list[float | None]:
    """A column's numbers, None where one is missing."""
    if column not in rows.columns:
        return [None] * len(rows)
    return [float(v) if np.isfinite(v) else None for v in rows[column].to_numpy(dtype=float)]


def _one(rows: pd.DataFrame, column: str) -> float | None:
    """The one value of a run's column, wherever it stands; None without one."""
    return next((value for value in _known(rows, column) if value is not None), None)


def _seed(row: pd.Series, where: str) -> int | None:
    try:
        return _optional(row, "seed", int)
    except (ValueError, OverflowError):
        raise InputError(
            f"the seed {row['seed']} is not a whole number", where=where, hint="number the seeds, or drop the column"
        ) from None


def _optional(row: pd.Series, column: str, kind: type) -> Any:
    import pandas as pd

    value = row.get(column)
    return None if value is None or pd.isna(value) else kind(value)
