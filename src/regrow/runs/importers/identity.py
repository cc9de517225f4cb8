"""Which rows of a table belong to one run.

A table may hold several runs, one under the other or row by row. Read as one, they would make a curve of different
models that falls like a real one. So a column that names runs, models or sizes may hold one value only, and a count
that falls where another column changes is a new run and not a resume, because a resumed run keeps its name. `select`
takes the rows of one run (`--where`), `values` lists the runs of a table (`--split`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from regrow.errors import InputError, one_of
from regrow.runs.importers.history import History, is_missing
from regrow.runs.importers.order import segments
from regrow.runs.importers.spec import ImportSpec

#: Columns that say which run a row is of, without what stands before a `/` or `.`.
_RUN_NAMES = re.compile(
    r"^((wandb|mlflow|comet|neptune|aim|clearml)?[_ ]?(run|experiment|exp|trial|task|model|variant|series)"
    r"([_ ]?(id|name|uuid|key|hash|size|group|params|parameters))?|run[_ ]?(number|no)|size|group|variant|seed"
    r"|(n|num|model)?[_ ]?(params|parameters)|(non[_ ]embedding|total|active)[_ ](params|parameters))$",
    re.IGNORECASE,
)
#: Columns that name whatever a row is of: a run, unless it is a checkpoint by what it says.
_NAMES = re.compile(r"^((display|full)[_ ]?name|name|id|uuid|hash)$", re.IGNORECASE)
_CHECKPOINT = re.compile(r"step|ckpt|checkpoint|iter|epoch|tokens", re.IGNORECASE)
#: Columns that a resume may change: where and when it ran, and what is set anew.
_MAY_CHANGE = re.compile(
    r"(^|[^a-z])(host|hostname|node|rank|gpus?|devices?|world|date|time|timestamp|elapsed|runtime|lr|learning|rate|"
    r"epoch|step|iter|iteration|batch|throughput|tps|memory|version|commit)([^a-z]|$)",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"(^|[^a-z])epoch$", re.IGNORECASE)
#: Values that name a held-out set, in a column such as `split`.
_HELD_OUT_SETS = {"eval", "evaluation", "val", "valid", "validation", "dev", "test", "held-out", "held_out", "heldout"}


def select(history: History, conditions: Sequence[str]) -> History:
    """The rows for which every condition `COLUMN=VALUE` holds; of one column, any of the values given for it.

    Raises `InputError` for a column that is not there, or a value that no row has (naming those there are).
    """
    if not conditions:
        return history
    wanted: dict[str, list[str]] = {}
    for condition in conditions:
        name, _, value = condition.partition("=")
        wanted.setdefault(_column(history, name.strip()), []).append(value.strip())
    kept = np.ones(len(history), dtype=bool)
    for name, values in wanted.items():
        for value in values:
            if not any(_equal(cell, value) for cell in history.columns[name]):
                listed = ", ".join(_distinct(history.columns[name])[:8])
                raise InputError(f"no row has {name}={value}", where=history.where, hint=f"there are: {listed}")
        kept &= np.array([any(_equal(cell, value) for value in values) for cell in history.columns[name]], dtype=bool)
    if not kept.any():
        raise InputError(f"no row has {' and '.join(conditions)}", where=history.where, hint="give fewer conditions")
    sets = {value.lower() for values in wanted.values() for value in values}
    return history.rows(kept, held_out=history.held_out or sets <= _HELD_OUT_SETS)


def values(history: History, column: str) -> list[str]:
    """The distinct values of a column, in their order. Raises `InputError` for a column that is not there."""
    return _distinct(history.columns[_column(history, column)])


def refuse_several_runs(history: History, loss: str, counter: np.ndarray, spec: ImportSpec) -> None:
    """Raise `InputError` where the rows with a loss are of several runs.

    Args:
        history: one file's log.
        loss: the column with the loss.
        counter: tokens or steps per row of `history`; NaN where unknown.
        spec: a column that `where` names is settled, and an epoch where the counts of parts are to `continue`.
    """
    settled = {condition.partition("=")[0].strip().lower() for condition in spec.where}
    logged = history.logged(loss)
    part = segments(counter)
    for name in history.columns:
        if name.lower() in settled or name == loss or not history.has(name):
            continue
        if spec.resets == "continue" and _EPOCH.search(name):
            continue
        cells = [_text(value) for value in history.columns[name]]
        found = list(dict.fromkeys(cell for cell, keep in zip(cells, logged, strict=True) if keep and cell))
        if len(found) < 2:
            continue
        named = any(_RUN_NAMES.search(part) for part in (name.replace(".", "_"), re.split(r"[/.]", name)[-1]))
        named = named or _names_runs(name, found)
        if named or _tells_apart(name, history.columns[name], cells, part, counter, logged):
            raise _several(history, name, found)


def set_column(history: History) -> str | None:
    """`COLUMN=VALUE` of the rows of a held-out set, where a column such as `split` tells the sets apart."""
    for name, column in history.columns.items():
        found = _distinct(column)
        held_out = [value for value in found if value.lower() in _HELD_OUT_SETS]
        if held_out and len(found) > len(held_out):
            return f"{name}={held_out[0]}"
    return None


def _several(history: History, name: str, found: list[str]) -> InputError:
    if _EPOCH.search(name):
        return InputError(
            f"the count begins again where {name!r} goes on: it counts within an epoch",
            where=history.where,
            hint="--resets continue adds the epochs up",
        )
    listed = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
    return InputError(
        f"{len(found)} runs in one table: {name!r} is {listed}",
        where=history.where,
        hint=f"--where '{name}={found[0]}' takes one; --split '{name}' makes a run of each; a --manifest with a column "
        "`where` gives each its own counts",
    )


def _names_runs(name: str, found: Sequence[str]) -> bool:
    """Whether a column `name` or `id` holds names of runs: no numbers, which count rows, and no checkpoints."""
    return _NAMES.search(name) is not None and not any(_numeric(v) or _CHECKPOINT.search(v) for v in found)


def _tells_apart(
    name: str, column: Sequence[Any], cells: list[str], part: np.ndarray, counter: np.ndarray, logged: np.ndarray
) -> bool:
    """Whether a column that is no known name still proves several runs.

    It does where it has one value in each part and another one wherever the count falls, or where two rows at the same
    count differ in it.
    """
    epoch = _EPOCH.search(name) is not None
    if not epoch and _MAY_CHANGE.search(name):
        return False
    text = any(isinstance(value, str) and not _numeric(value) for value in column)
    whole = all(_numeric(cell) and float(cell).is_integer() for cell in cells if cell)
    if not (text or whole):
        return False
    if part.max(initial=0):
        of_part = [
            {cell for cell, n in zip(cells, part, strict=True) if n == k and cell} for k in range(part.max() + 1)
        ]
        steady = all(len(one) == 1 for one in of_part)
        if steady and all(one != two for one, two in pairwise(of_part)):
            return True
    if not text or epoch:
        return False
    at: dict[float, set[str]] = {}
    for cell, count, keep in zip(cells, counter, logged, strict=True):
        if keep and cell and np.isfinite(count):
            at.setdefault(float(count), set()).add(cell)
    return any(len(one) > 1 for one in at.values())


def _column(history: History, name: str) -> str:
    lower = {column.lower(): column for column in reversed(list(history.columns)) if history.has(column)}
    if name in history.columns:
        return name
    one_of(name.lower(), list(lower), what="column", where=history.where)
    return lower[name.lower()]


def _text(value: Any) -> str:
    """A cell as people write it: 100000000 and 1e8 alike are 100000000."""
    if is_missing(value):
        return ""
    if _numeric(value) and float(value).is_integer() and abs(float(value)) < 1e15:
        return str(int(float(value)))
    return str(value).strip()


def _numeric(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


def _equal(cell: Any, value: str) -> bool:
    return not is_missing(cell) and _text(cell) == _text(value)


def _distinct(column: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(text for text in map(_text, column) if text))
