"""One run's logs as a run record: the one path that every format takes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regrow.errors import InputError
from regrow.runs.importers.counts import count_column, step_column, tokens_at
from regrow.runs.importers.history import History, concatenate, count
from regrow.runs.importers.names import held_out_column, is_train, train_column
from regrow.runs.importers.order import continued, last_of_each, segments, superseded
from regrow.runs.importers.registry import find_format
from regrow.runs.importers.spec import ImportSpec
from regrow.runs.importers.units import to_nats
from regrow.runs.record import CurvePoint, RunRecord
from regrow.runs.store import RunWarning


def import_log(logs: str | Path | Sequence[str | Path], spec: ImportSpec) -> RunRecord:
    """Read a log, or the parts of one run's log in their order, as a run.

    The record's `details["import_notes"]` says what was recognised, which columns were read, and what was left out.

    Raises `InputError` for a log that is not of its format, has no held-out loss (naming the columns it has), counts
    neither tokens nor steps that can be turned into tokens, or holds values that cannot be nats per token or are in
    doubt. Warns (`RunWarning`) where a training loss stands in for a held-out one.
    """
    paths = [Path(logs)] if isinstance(logs, str | Path) else [Path(log) for log in logs]
    if not paths:
        raise InputError("no log to import")
    parts, formats = [], []
    for path in paths:
        found = find_format(path, spec.format)
        formats.append(found.name)
        parts.append(found.read(path))
    history = concatenate(parts)
    notes = [f"read as {' + '.join(dict.fromkeys(formats))}", *history.notes]
    column = _loss_column(history, spec)
    curve, said = _curve(history, column, spec)
    train = spec.train_loss or is_train(column)
    if train:
        warnings.warn(
            f"{history.where}: {column!r} is a training loss: it lags, it is read on other text than --loss-before, "
            "and laws fitted to it do not compare with held-out ones; the record is marked",
            RunWarning,
            stacklevel=2,
        )
    notes += said
    rate = 1 - spec.params_after / spec.params_before if spec.pruning_rate is None else spec.pruning_rate
    return RunRecord(
        run=spec.run,
        family=spec.family,
        method=spec.method,
        params_before=spec.params_before,
        params_after=spec.params_after,
        pruning_rate=rate,
        loss_before=spec.loss_before,
        curve=curve,
        spec={
            "imported_from": [str(path) for path in paths],
            "format": formats,
            "loss_column": column,
            "loss_is": "train" if train else "held-out",
            "unit": spec.unit or "nats",
            "tokens_per_step": spec.tokens_per_step,
            "sequence_length": spec.sequence_length or history.sequence_length,
            "resets": spec.resets,
        },
        status="imported",
        seed=spec.seed,
        objective=spec.objective,
        schedule=spec.schedule,
        details={"import_notes": notes},
    )


def _loss_column(history: History, spec: ImportSpec) -> str:
    if spec.train_loss:
        return train_column(history)
    if spec.loss_column is None:
        return held_out_column(history)
    if not history.has(spec.loss_column):
        raise InputError(
            f"no column {spec.loss_column!r}",
            where=history.where,
            hint=f"name the held-out loss with --loss-column; there are: {history.named()}",
        )
    return spec.loss_column


def _curve(history: History, column: str, spec: ImportSpec) -> tuple[tuple[CurvePoint, ...], list[str]]:
    """The evaluations in the order of their tokens, and what there is to say of how they were read."""
    where = history.where
    losses = history.numbers(column)
    logged = history.logged(column)
    counted, unit, rule = count_column(history, spec)
    counts = history.numbers(counted) * unit
    step = step_column(history, spec)
    steps = None if step is None else history.numbers(step)
    notes = [f"loss from {column!r}", rule]
    if (counts < 0).any():
        raise InputError(f"{counted!r} is negative ({np.nanmin(counts):g})", where=where, hint="tokens count from 0")

    counter = counts if steps is None else steps
    part = segments(counter)
    kept = np.ones(len(history), dtype=bool)
    if spec.resets == "continue":
        if part.max(initial=0):
            notes.append(
                f"the counter goes back {count(part.max(), 'time')}: what the parts before had reached is added"
            )
        counts = continued(counts, segments(counts))
        steps = None if steps is None else continued(steps, part)
    elif part.max(initial=0):
        kept = ~superseded(counter, part)
        lost = int((logged & ~kept).sum())
        notes.append(
            f"the counter goes back {count(part.max(), 'time')}; left out: {count(lost, 'evaluation')} of what was "
            "trained again" + (" (where each part counts from its own start, say --resets continue)" if lost else "")
        )

    use = logged & kept & np.isfinite(losses)
    unreadable = int((logged & kept).sum() - use.sum())
    if unreadable:
        notes.append(f"left out: {count(unreadable, 'evaluation')} not finite")
    rows = np.flatnonzero(use)
    if rows.size == 0:
        raise InputError(f"{column!r} holds no finite number", where=where, hint="name another with --loss-column")
    visible = np.where(kept, counts, np.nan)
    tokens, between = tokens_at(rows, visible, None if steps is None else np.where(kept, steps, np.nan), where)
    if between:
        notes.append(f"the tokens of {count(between, 'evaluation')} read between the counts before and after")
    falls = np.flatnonzero(np.diff(tokens) < 0)
    if falls.size:
        row = falls[0]
        raise InputError(
            f"tokens fall from {tokens[row]:.0f} to {tokens[row + 1]:.0f} on the way",
            where=where,
            hint="--resets continue adds up parts that count from their own start; --tokens-column names another count",
        )
    if steps is not None:
        stays = np.flatnonzero((np.diff(tokens) == 0) & (np.diff(steps[rows]) > 0))
        if stays.size:
            row = stays[0]
            raise InputError(
                f"{counted!r} stays at {tokens[row]:.0f} while the step goes from {steps[rows][row]:g} to "
                f"{steps[rows][row + 1]:g}",
                where=where,
                hint="a count per batch? name the total with --tokens-column",
            )
    nats = to_nats(losses[rows], rows, history, column, spec)
    last = last_of_each(np.round(tokens))
    if len(last) < len(rows):
        notes.append(f"left out: {count(len(rows) - len(last), 'evaluation')} at the same tokens as a later one")
    return tuple(CurvePoint(tokens=round(tokens[i]), loss=float(nats[i])) for i in last), notes
