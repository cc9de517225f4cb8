"""From single values to rows: logs that list a metric's values one under the other, or one event at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from regrow.errors import InputError
from regrow.runs.importers.history import History, is_missing

#: Column names, in lower case, of tables with a row per value: what MLflow, Comet, Neptune, ClearML and tbparse write.
_KEYS = ("key", "metric", "metric_name", "metricname", "metric.name", "metric_key", "tag", "name", "variable")
_VALUES = ("value", "metric_value", "metricvalue")
_STEPS = ("step", "steps", "iteration", "iter", "x")
_TIMES = ("timestamp", "wall_time", "time", "date")
#: Columns that number the values themselves, and the epoch, which a step says better.
_NUMBERS = ("idx", "index", "id", "epoch", "message_id", "unnamed: 0")
#: What Aim calls the columns that tell the metrics of one name apart, such as the subset.
_CONTEXT = "metric.context."


class Event(NamedTuple):
    """One value of one metric. Events are put in the order of their time, and of the log where times are equal."""

    time: float
    step: int | float | None
    name: str
    value: Any


def rows_of(events: Iterable[Event], step: str = "step") -> list[dict[str, Any]]:
    """A row per run of values at the same step.

    Args:
        events: in the order of their time.
        step: what the events' own step is called. A metric of that name becomes `metric NAME`.
    """
    rows: list[dict[str, Any]] = []
    for event in events:
        name = f"metric {event.name}" if event.name == step else event.name
        if not rows or rows[-1][step] != event.step or name in rows[-1]:
            rows.append({step: event.step})
        rows[-1][name] = event.value
    return rows


def widened(history: History) -> History:
    """A table with a row per value of a metric as one with a row per log call; any other table as it is.

    Values of one run at one step make a row. Columns that say which run a row is of are kept.
    """
    lower = {name.lower(): name for name in reversed(list(history.columns)) if history.has(name)}
    key = _first(lower, _KEYS)
    value = _first([name for name in lower if lower[name] != key], _VALUES)
    if key is None or value is None or not _is_text(history, lower[key]):
        return history
    step, time = _first(lower, _STEPS), _first(lower, _TIMES)
    used = {lower[name] for name in (key, value, step, time) if name is not None}
    context = [name for name in history.columns if name.startswith(_CONTEXT) and history.has(name)]
    ignored = {*used, *context, *(name for name in history.columns if name.lower() in _NUMBERS)}
    rest = [name for name in history.columns if name not in ignored]
    of_run: dict[tuple[Any, ...], list[tuple[float, int, Event]]] = {}
    for row in range(len(history)):
        cell = {name: column[row] for name, column in history.columns.items()}
        if is_missing(cell[lower[key]]):
            continue
        at = _number(cell[lower[step]]) if step else None
        moment = _number(cell[lower[time]]) if time else None
        called = "/".join(str(cell[name]) for name in (*context, lower[key]) if not is_missing(cell[name]))
        event = Event(moment if moment is not None else 0.0, at, called, cell[lower[value]])
        run = tuple(cell[name] for name in rest)
        of_run.setdefault(run, []).append((event.time, row, event))
    if len(of_run) > max(64, len(history) // 2):  # a column of its own for every value: not the run's
        return history
    rows: list[dict[str, Any]] = []
    for run, events in of_run.items():
        timed = sorted(events) if time and len({moment for moment, _, _ in events}) > 1 else _by_step(events)
        made = rows_of((event for _, _, event in timed), step=step or "step")
        rows += [{**dict(zip(rest, run, strict=True)), **row} for row in made]
    if not rows:
        raise InputError("no metric in this table", where=history.where, hint="give one row per value")
    note = f"a row per value of {lower[key]!r} was turned into a row per step"
    return History.from_rows(rows, where=history.where, notes=(*history.notes, note), log_calls=history.log_calls)


def _by_step(events: list[tuple[float, int, Event]]) -> list[tuple[float, int, Event]]:
    """Events without times: those of each metric in the order of the log, the metrics side by side by step.

    A metric whose step falls was resumed, and its later part follows all that stands before it.
    """
    part: dict[str, int] = {}
    last: dict[str, float] = {}
    placed = []
    for _, row, event in events:
        at = float(event.step) if event.step is not None else float(row)
        if at < last.get(event.name, at):
            part[event.name] = part.get(event.name, 0) + 1
        last[event.name] = at
        placed.append(((part.get(event.name, 0), at, row), (event.time, row, event)))
    return [placed_event for _, placed_event in sorted(placed, key=lambda pair: pair[0])]


def _first(names: Iterable[str], wanted: tuple[str, ...]) -> str | None:
    held = set(names)
    return next((name for name in wanted if name in held), None)


def _is_text(history: History, name: str) -> bool:
    cells = [value for value in history.columns[name] if not is_missing(value)]
    return bool(cells) and all(isinstance(value, str) and _number(value) is None for value in cells)


def _number(value: Any) -> float | int | None:
    if is_missing(value) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else number
