"""One run's logs as a run record: the one path that every format takes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers import lm_eval
from regrow.runs.importers.attach import attach_results, how_measured, parents_scores, results_in
from regrow.runs.importers.counts import Counts, read_counts
from regrow.runs.importers.curve import read_curve
from regrow.runs.importers.history import History, concatenate
from regrow.runs.importers.identity import refuse_several_runs, select, set_column, values
from regrow.runs.importers.lm_eval import Results
from regrow.runs.importers.names import TRAIN as TRAIN_NAMES
from regrow.runs.importers.names import first_of, held_out_column, is_train, train_column
from regrow.runs.importers.registry import Format, find_format
from regrow.runs.importers.spec import ImportSpec
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
    found = {path: find_format(path, spec.format) for path in paths}
    results = results_in([path for path in paths if found[path].name == lm_eval.FORMAT])
    read_from = [path for path in paths if found[path].name != lm_eval.FORMAT]
    if read_from:
        return _read_log(paths, read_from, [found[path] for path in read_from], results, spec)
    curve, notes = attach_results((), results, None, spec)
    details = {"import_notes": [f"read as {lm_eval.FORMAT}", *notes], "tasks": how_measured(results)}
    about = {"imported_from": [str(path) for path in paths], "format": [lm_eval.FORMAT] * len(paths)}
    return _record(spec, curve, {**about, "tokens_per_step": spec.tokens_per_step}, details)


def _read_log(
    paths: Sequence[Path], logs: Sequence[Path], found: Sequence[Format], results: Sequence[Results], spec: ImportSpec
) -> RunRecord:
    """A run from its logs, and from results of lm-eval of its checkpoints.

    Args:
        paths: everything that was named.
        logs, found: the logs among it, and their formats.
    """
    if spec.loss_before is None:
        raise InputError("--loss-before missing", hint="a log does not say it")
    formats = [one.name for one in found]
    parts = [select(one.read(path), spec.where) for path, one in zip(logs, found, strict=True)]
    history = concatenate(parts)
    column = _loss_column(history, spec)
    counts = read_counts(history, history.logged(column), spec)
    _refuse_several_runs(parts, column, counts, spec)
    curve, read = read_curve(history, column, counts, spec)
    curve, scored = attach_results(curve, results, counts, spec)
    notes = [f"read as {' + '.join(dict.fromkeys(formats))}", *history.notes]
    notes += [f"rows where {' and '.join(spec.where)}"] if spec.where else []
    notes += [f"loss from {column!r}", *counts.notes, *read, *scored]
    train = spec.train_loss or (is_train(column) and not history.held_out)
    if train:
        warnings.warn(
            f"{history.where}: {column!r} is a training loss: it lags, it is read on other text than --loss-before, "
            "and laws fitted to it do not compare with held-out ones; the record is marked",
            RunWarning,
            stacklevel=2,
        )
    per_step = spec.tokens_per_step or history.tokens_per_step or counts.per_step
    about = {
        "imported_from": [str(path) for path in paths],
        "format": formats,
        "loss_column": column,
        "loss_is": "train" if train else "held-out",
        "unit": spec.unit or "nats",
        "where": list(spec.where),
        "tokens_per_step": spec.tokens_per_step,
        "sequence_length": spec.sequence_length or history.sequence_length,
        "resets": spec.resets,
    }
    details = {"import_notes": notes, **({"batch_tokens": per_step} if per_step else {})}
    details |= {"tasks": how_measured(results)} if results else {}
    return _record(spec, curve, about, details)


def _record(
    spec: ImportSpec, curve: tuple[CurvePoint, ...], about: dict[str, Any], details: dict[str, Any]
) -> RunRecord:
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
        spec=about,
        status="imported",
        seed=spec.seed,
        objective=spec.objective,
        schedule=spec.schedule,
        details=details,
        scores_before=parents_scores(spec.scores_before),
    )


def _refuse_several_runs(parts: Sequence[History], column: str, counts: Counts, spec: ImportSpec) -> None:
    """Raise `InputError` where one of the parts has rows of several runs. Parts were said to be of one run."""
    begin = 0
    for part in parts:
        if part.has(column):
            refuse_several_runs(part, column, counts.counter[begin : begin + len(part)], spec)
        begin += len(part)


def runs_in(log: str | Path, column: str, spec: ImportSpec) -> list[str]:
    """The values of a column that tells the runs of a table apart, each a run of its own.

    Raises `InputError` where the log or the column is not there.
    """
    history = find_format(Path(log), spec.format).read(Path(log))
    return values(select(history, spec.where), column)


def _loss_column(history: History, spec: ImportSpec) -> str:
    if spec.train_loss:
        return train_column(history)
    if spec.loss_column is None:
        if history.held_out and (named := first_of(TRAIN_NAMES, history)) is not None:
            return named  # `loss` in the rows of a held-out set
        chosen = set_column(history)
        return held_out_column(history, f"--where '{chosen}' takes the held-out rows" if chosen else None)
    if not history.has(spec.loss_column):
        raise InputError(
            f"no column {spec.loss_column!r}",
            where=history.where,
            hint=f"name the held-out loss with --loss-column; there are: {history.named()}",
        )
    return spec.loss_column
