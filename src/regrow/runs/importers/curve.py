"""A log's held-out losses as a curve: which rows count, and at how many tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regrow.errors import InputError
from regrow.runs.importers.counts import Counts, tokens_at
from regrow.runs.importers.history import History, count
from regrow.runs.importers.order import continued, last_of_each, segments, superseded
from regrow.runs.importers.score_columns import attached, read_scores
from regrow.runs.importers.spec import ImportSpec
from regrow.runs.importers.units import to_nats
from regrow.runs.record import CurvePoint

#: What tools print where a rank or a step has no loss: pipeline ranks but the last, an average over nothing.
_PLACEHOLDERS = (-1.0, 0.0)


def read_curve(
    history: History, column: str, counts: Counts, spec: ImportSpec
) -> tuple[tuple[CurvePoint, ...], list[str]]:
    """The evaluations in the order of their tokens, benchmark scores among them, and notes on how they were read.

    Raises `InputError` where the loss is no loss, its unit is in doubt, or the rows contradict each other.
    """
    where = history.where
    losses, logged = history.numbers(column), history.logged(column)
    counts, kept, notes = _in_order(counts, logged, spec, where)
    rows, left_out = _evaluations(losses, logged & kept, column, where)
    notes += left_out
    _refuse_falls(counts, kept, where)
    tokens, read = tokens_at(rows, counts, kept, where)
    notes += read
    falls = np.flatnonzero(np.diff(tokens) < 0)
    if falls.size:
        row = falls[0]
        raise InputError(
            f"tokens fall from {tokens[row]:.0f} to {tokens[row + 1]:.0f} on the way",
            where=where,
            hint="--resets continue adds up parts that count from their own start; --tokens-column names another count",
        )
    _refuse_stays(tokens, rows, counts, where)
    nats = to_nats(losses[rows], rows, history, column, spec)
    last = last_of_each(np.round(tokens))
    if len(last) < len(rows):
        notes.append(f"left out: {count(len(rows) - len(last), 'evaluation')} at the same tokens as a later one")
    losses_at = {round(tokens[i]): float(nats[i]) for i in last}
    scores, read = read_scores(history, counts, kept)
    points = (CurvePoint(tokens=at, loss=loss, scores=found) for at, loss, found in attached(losses_at, scores))
    return tuple(points), [*notes, *read]


def _in_order(counts: Counts, logged: np.ndarray, spec: ImportSpec, where: str) -> tuple[Counts, np.ndarray, list[str]]:
    """The counts with the parts of a run joined, and the rows that were not trained again."""
    part = segments(counts.counter)
    goes_back = f"the counter goes back {count(int(part.max(initial=0)), 'time')}"
    kept = np.ones(len(part), dtype=bool)
    if spec.resets == "continue":
        restarts = int(segments(counts.tokens).max(initial=0))
        notes = []
        if part.max(initial=0):
            notes.append(f"{goes_back}: what the parts before had reached is added")
        elif restarts:
            notes.append(f"{counts.name!r} begins again {count(restarts, 'time')}: what it had reached is added")
        tokens = continued(counts.tokens, segments(counts.tokens))
        steps = None if counts.steps is None else continued(counts.steps, part)
        return replace(counts, tokens=tokens, steps=steps), kept, notes
    if not part.max(initial=0):
        return counts, kept, []
    kept = ~superseded(counts.counter, part)
    lost = int((logged & ~kept).sum())
    note = f"{goes_back}; left out: {count(lost, 'evaluation')} of what was trained again"
    return (
        counts,
        kept,
        [note + (" (where each part counts from its own start, say --resets continue)" if lost else "")],
    )


def _evaluations(losses: np.ndarray, asked: np.ndarray, column: str, where: str) -> tuple[np.ndarray, list[str]]:
    """Rows with a loss, and what was left out of those asked for."""
    notes = []
    finite = asked & np.isfinite(losses)
    if asked.sum() > finite.sum():
        notes.append(f"left out: {count(int(asked.sum() - finite.sum()), 'evaluation')} not finite")
    placeholder = finite & np.isin(losses, _PLACEHOLDERS)
    rows = np.flatnonzero(finite & ~placeholder)
    shown = " and ".join(f"{value:g}" for value in _PLACEHOLDERS if (losses[placeholder] == value).any())
    if placeholder.any() and not rows.size:
        raise InputError(
            f"{column!r} is {shown} in every row: a placeholder for no loss",
            where=where,
            hint="a rank of a pipeline other than the last has no loss: give the log of the last stage's rank",
        )
    if placeholder.any():
        notes.append(f"left out: {count(int(placeholder.sum()), 'placeholder')} ({shown}) of ranks without a loss")
    if not rows.size:
        raise InputError(f"{column!r} holds no finite number", where=where, hint="name another with --loss-column")
    return rows, notes


def _refuse_falls(counts: Counts, kept: np.ndarray, where: str) -> None:
    """Raise `InputError` where a count falls while the steps go on, in any row, with a loss or without."""
    if counts.steps is None:
        return
    known = np.flatnonzero(kept & np.isfinite(counts.tokens))
    falls = np.flatnonzero(np.diff(counts.tokens[known]) < 0)
    if falls.size:
        before, after = known[falls[0]], known[falls[0] + 1]
        one, two = counts.steps[before], counts.steps[after]
        between = f", between steps {one:g} and {two:g}" if np.isfinite(one) and np.isfinite(two) else ""
        raise InputError(
            f"tokens fall from {counts.tokens[before]:.0f} to {counts.tokens[after]:.0f} on the way{between}: "
            f"{counts.name!r} began again, as at a resume",
            where=where,
            hint="--resets continue adds up what was reached before; --tokens-column names another count",
        )


def _refuse_stays(tokens: np.ndarray, rows: np.ndarray, counts: Counts, where: str) -> None:
    """Raise `InputError` for a count that does not grow with the steps: that of a batch, not of the run."""
    if counts.steps is None:
        return
    steps = counts.steps[rows]
    known = np.flatnonzero(np.isfinite(counts.tokens) & np.isfinite(counts.steps))
    constant = known.size > 1 and np.ptp(counts.tokens[known]) == 0 and np.ptp(counts.steps[known]) > 0
    allowed = 1 if counts.tool is not None and counts.tool.final else 0
    stays = np.flatnonzero((np.diff(tokens) == 0) & (np.diff(steps) > allowed))
    if stays.size or constant:
        one, two = (rows[stays[0]], rows[stays[0] + 1]) if stays.size else (known[0], known[-1])
        raise InputError(
            f"{counts.name!r} stays at {counts.tokens[known[0]] if not stays.size else tokens[stays[0]]:.0f} while the "
            f"step goes from {counts.steps[one]:g} to {counts.steps[two]:g}",
            where=where,
            hint="a count per batch? name the total with --tokens-column",
        )
