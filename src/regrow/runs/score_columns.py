"""The columns of a table that hold benchmark scores.

`score:NAME` is a checkpoint's score, a fraction; `score_before:NAME` that of the unpruned model. `score_stderr:NAME`
and `score_questions:NAME` say how precise a score is, `score_chance:NAME` what guessing gives. An empty cell is not
known. A published table often has a row for each score instead, with the columns `score_name` and `score`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.errors import InputError
from regrow.runs.scores import Score, check_fraction

if TYPE_CHECKING:
    import pandas as pd

    from regrow.runs.record import CurvePoint, RunRecord

SCORE, BEFORE = "score:", "score_before:"
STDERR, QUESTIONS, CHANCE = "score_stderr:", "score_questions:", "score_chance:"
_PREFIXES = (SCORE, BEFORE, STDERR, QUESTIONS, CHANCE)
#: one number a benchmark and run
_PER_RUN = (BEFORE, QUESTIONS, CHANCE)
_FRACTIONS = {SCORE: "a score", BEFORE: "a score", STDERR: "a standard error", CHANCE: "the score of guessing"}


#: columns of a table with a row for each score
LONG_NAME, LONG_VALUE = "score_name", "score"


def widened(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """A table with a row for each score as one with a row for each checkpoint; any other table as it is.

    Raises `InputError` for a score without a name, and for two scores of one benchmark at one checkpoint.
    """
    if LONG_NAME not in table.columns or LONG_VALUE not in table.columns:
        return table
    missing = [column for column in ("run", "tokens") if column not in table.columns]
    if missing:
        raise InputError(f"the column {missing[0]} is missing", where=where, hint="a score belongs to a run's tokens")
    named = table[table[LONG_VALUE].notna()]
    if named[LONG_NAME].isna().any():
        raise InputError("a score has no score_name", where=where, hint="name the benchmark in every row")
    keys = ["run", "tokens"]
    twice = named.duplicated([*keys, LONG_NAME])
    if twice.any():
        row = named[twice].iloc[0]
        raise InputError(
            f"two scores of {row[LONG_NAME]} at {row['tokens']:g} tokens", where=f"{where}, run {row['run']}"
        )
    others = table.drop(columns=[LONG_NAME, LONG_VALUE]).groupby(keys, sort=False, as_index=False).first()
    wide = named.pivot(index=keys, columns=LONG_NAME, values=LONG_VALUE)
    return others.merge(wide.add_prefix(SCORE).reset_index(), on=keys, how="left")


def is_score_column(column: object) -> bool:
    """Whether a column holds something of a benchmark."""
    return str(column).startswith(_PREFIXES)


def score_columns(runs: Iterable[RunRecord]) -> list[str]:
    """The columns that these runs need, in the order of the benchmarks' names; none where no run has scores."""
    columns: set[tuple[str, int]] = set()
    for run in runs:
        columns |= {(name, 1) for name in run.scores_before}
        for point in run.curve:
            columns |= {(name, 0) for name in (*point.scores, *run.scores_before)}
            for name, score in point.scores.items():
                known = (score.stderr, score.questions, score.chance)
                columns |= {(name, 2 + i) for i, value in enumerate(known) if value is not None}
    return [_PREFIXES[kind] + name for name, kind in sorted(columns)]


def score_cells(run: RunRecord, point: CurvePoint, columns: Iterable[str]) -> dict[str, float | int | None]:
    """The cells of these columns in a checkpoint's row; None where nothing is known."""
    return {column: _cell(run, point, column) for column in columns}


def _cell(run: RunRecord, point: CurvePoint, column: str) -> float | int | None:
    prefix, name = _split(column)
    score = (run.scores_before if prefix == BEFORE else point.scores).get(name)
    if score is None:
        return None
    field = {STDERR: "stderr", QUESTIONS: "questions", CHANCE: "chance"}.get(prefix, "value")
    return getattr(score, field)  # type: ignore[no-any-return]


def _split(column: str) -> tuple[str, str]:
    prefix = next(prefix for prefix in _PREFIXES if column.startswith(prefix))
    return prefix, column[len(prefix) :].strip()


def check_score_columns(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table with its score columns as numbers, NaN where a cell is empty.

    Raises `InputError` naming the column and row for a value that is no fraction, a column that belongs to no
    `score:NAME`, or a number of questions, score of guessing or parent's score that changes within a run.
    """
    columns = [str(column) for column in table.columns if is_score_column(column)]
    for column in columns:
        prefix, name = _split(column)
        if not name:
            raise InputError(f"the column {column!r} names no benchmark", where=where, hint="write it like score:mmlu")
        if SCORE + name not in columns:
            raise InputError(
                f"the column {column} stands without {SCORE}{name}",
                where=where,
                hint="give the scores of the checkpoints",
            )
        table[column] = _column(table, column, prefix, where)
    for column in columns:
        if _split(column)[0] in _PER_RUN:
            _check_constant(table, column, where)
    return table


def _column(table: pd.DataFrame, column: str, prefix: str, where: str) -> np.ndarray:
    import pandas as pd

    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    given = table[column].notna().to_numpy()
    for row in np.flatnonzero(given):
        found = f"{where}, row {row + 1}"
        value = float(values[row])
        if prefix in _FRACTIONS:
            shown = value if np.isfinite(value) else table[column].iloc[row]
            check_fraction(shown, what=column, where=found)
        elif not (np.isfinite(value) and value >= 1 and value.is_integer()):
            raise InputError(
                f"{column} is {table[column].iloc[row]}", where=found, hint="give the number of questions asked"
            )
    return values


def _check_constant(table: pd.DataFrame, column: str, where: str) -> None:
    for run, cells in table.groupby("run", sort=False)[column]:
        known = cells.dropna().unique()
        if len(known) > 1:
            raise InputError(
                f"{column} changes within the run ({', '.join(f'{value:g}' for value in known[:3])})",
                where=f"{where}, run {run}",
                hint="readings of one benchmark compare only if they ask the same questions"
                if column.startswith(QUESTIONS)
                else "it is one number of the run",
            )


def scores_of_row(row: Mapping[str, Any], where: str) -> dict[str, Score]:
    """A checkpoint's scores from its checked row. Raises `InputError` for numbers that contradict each other."""
    found = {}
    for column in row:
        if not str(column).startswith(SCORE):
            continue
        name = _split(str(column))[1]
        value, questions = _known(row, SCORE + name), _known(row, QUESTIONS + name)
        if value is None:
            continue
        try:
            found[name] = Score(
                value=value,
                stderr=_known(row, STDERR + name),
                questions=None if questions is None else round(questions),
                chance=_known(row, CHANCE + name),
            )
        except InputError as error:
            raise InputError(error.what, where=f"{where}, {SCORE}{name}", hint=error.hint) from None
    return found


def scores_before(rows: pd.DataFrame) -> dict[str, Score]:
    """The unpruned model's scores from the checked rows of a run."""
    found = {}
    for column in rows.columns:
        if str(column).startswith(BEFORE):
            name, known = _split(str(column))[1], rows[column].dropna()
            if len(known):
                questions, chance = (_first(rows, prefix + name) for prefix in (QUESTIONS, CHANCE))
                found[name] = Score(
                    value=float(known.iloc[0]),
                    questions=None if questions is None else round(questions),
                    chance=chance,
                )
    return found


def _first(rows: pd.DataFrame, column: str) -> float | None:
    known = rows[column].dropna().to_list() if column in rows.columns else []
    return float(known[0]) if known else None


def _known(row: Mapping[str, Any], column: str) -> float | None:
    value = row.get(column)
    return None if value is None or np.isnan(value) else float(value)
