"""Benchmark scores that a log holds beside its losses, by the names of their columns.

`eval/arc_easy/acc` and `eval_arc_easy_acc` are scores of `arc_easy`: callbacks that ask benchmarks while they train log
such names through `transformers.Trainer`, W&B or TensorBoard. The name needs a held-out set's prefix, a benchmark and a
metric of lm-eval, so that an accuracy of the next token (`eval_accuracy`, `eval_mean_token_accuracy`) is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regrow.errors import InputError
from regrow.runs.harness_results import METRICS
from regrow.runs.importers.counts import Counts, tokens_at
from regrow.runs.importers.history import History, count
from regrow.runs.importers.names import bare_name
from regrow.runs.scores import Score

_METRICS = (*METRICS, "accuracy", "em")
_PREFIX = r"(?:eval|val|valid|validation|test|downstream|benchmarks?|lm[-_]eval)[/_.]"
_METRIC = "|".join(re.escape(name) for name in sorted(_METRICS, key=len, reverse=True))
_SCORE = re.compile(
    rf"^{_PREFIX}(?P<name>.+?)[/_.](?P<metric>{_METRIC})(?P<error>_stderr)?(?:,(?P<filter>[\w.-]+))?$", re.IGNORECASE
)
#: What tells that an accuracy is of tokens, or of the training text.
_NO_BENCHMARK = re.compile(r"(^|[/_. -])(mean|token|next|train|reward)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class _Column:
    """One column: its benchmark, its metric, and whether it holds standard errors."""

    column: str
    benchmark: str
    metric: str
    is_error: bool


def read_scores(history: History, counts: Counts, kept: np.ndarray) -> tuple[dict[int, dict[str, Score]], list[str]]:
    """Scores by tokens and benchmark, and notes on how they were read.

    A column in percent (above 1, up to 100) is divided by 100, which a note says. What can't be a score, or stands at
    no number of tokens, is left out with a note: the losses of a log are read whatever its scores are.

    Args:
        kept: rows that were not trained again.
    """
    found, notes = _columns(history), []
    out: dict[int, dict[str, Score]] = {}
    for benchmark, columns in found.items():
        chosen = min((c for c in columns if not c.is_error), key=lambda c: _METRICS.index(c.metric), default=None)
        if chosen is None:
            continue
        error = next((c.column for c in columns if c.is_error and c.metric == chosen.metric), None)
        try:
            read, note = _scores(history, counts, kept, chosen.column, error)
        except InputError as refused:
            notes.append(f"left out, the scores {chosen.column!r}: {refused.what}")
            continue
        for tokens, score in read.items():
            out.setdefault(tokens, {})[benchmark] = score
        notes += [f"{count(len(read), 'score')} of {benchmark} from {chosen.column!r}{note}"] if read else []
    return out, notes


def _columns(history: History) -> dict[str, list[_Column]]:
    """The score columns by benchmark."""
    found: dict[str, list[_Column]] = {}
    for column in history.columns:
        match = _SCORE.match(bare_name(column))
        if match is None or not history.has(column) or _NO_BENCHMARK.search(match["name"]):
            continue
        one = _Column(
            column=column, benchmark=match["name"], metric=match["metric"].lower(), is_error=match["error"] is not None
        )
        found.setdefault(one.benchmark, []).append(one)
    return found


def _scores(
    history: History, counts: Counts, kept: np.ndarray, column: str, error: str | None
) -> tuple[dict[int, Score], str]:
    """One benchmark's scores by tokens, and what to add to the note."""
    values = history.numbers(column)
    rows = np.flatnonzero(np.isfinite(values) & kept)
    if not rows.size:
        return {}, ""
    tokens, _ = tokens_at(rows, counts, kept, history.where)
    errors = np.full(len(values), np.nan) if error is None else history.numbers(error)
    scale, note = 1.0, ""
    if 1 < values[rows].max() <= 100:
        scale, note = 100.0, ", in percent: divided by 100"
    out = {}
    for row, at in zip(rows, tokens, strict=True):
        known = np.isfinite(errors[row])
        out[round(at)] = Score(value=float(values[row]) / scale, stderr=float(errors[row]) / scale if known else None)
    return out, note


def attached(
    losses: Mapping[int, float], scores: Mapping[int, Mapping[str, Score]]
) -> list[tuple[int, float | None, Mapping[str, Score]]]:
    """Tokens, loss and scores of every reading, in the order of the tokens; a loss is None where only scores stand."""
    return [(at, losses.get(at), scores.get(at, {})) for at in sorted({*losses, *scores})]
