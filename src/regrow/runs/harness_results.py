"""Scores out of the results of lm-evaluation-harness: the dictionary it returns, and the `results_*.json` it writes.

Since 0.4 a task's metrics are named `METRIC,FILTER` and `METRIC_stderr,FILTER`; before, `METRIC` and `METRIC_stderr`.
The number of questions stands under `n-samples` since 0.4.3, and beside the metrics as `sample_len` in newer ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from regrow.errors import InputError
from regrow.runs.scores import Score

#: Which metric is a task's score, the first of these that it has; else the first that is a fraction.
METRICS = ("acc_norm", "acc", "exact_match", "pass@1")
#: Which filter is taken where a metric has several.
FILTERS = ("none", "strict-match")


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """The score of one task, or of a group that has a score of its own, and how it was measured.

    Attributes:
        score: the value of `metric`.
        metric: which of the task's metrics it is, with its filter where that is not `none`.
        version: of the task; None where it has none.
        shots: examples shown before each question; None where it is not known.
        metrics: all metrics that are numbers, by `METRIC` or `METRIC,FILTER`.
    """

    score: Score
    metric: str
    version: str | None
    shots: int | None
    metrics: Mapping[str, float]

    def how(self) -> dict[str, Any]:
        """How it was measured, as plain data for a run's `details["tasks"]`."""
        return {"metric": self.metric, "version": self.version, "shots": self.shots}


def split_metric(name: str) -> tuple[str, str | None]:
    """`hellaswag:acc` -> `("hellaswag", "acc")`: a task, and the metric that is its score where one is asked for."""
    task, _, metric = name.partition(":")
    return task, metric or None


def read_results(content: Mapping[str, Any], *, where: str = "lm-eval results") -> dict[str, TaskResult]:
    """Every task and group of a results dictionary that has a score, in its order; see `METRICS` for which metric.

    A task whose metrics are no fractions (a perplexity, say) is left out. Raises `InputError` if this is not what
    lm-eval writes, or if no task has a score.
    """
    results = content.get("results")
    if not isinstance(results, Mapping) or not all(isinstance(each, Mapping) for each in results.values()):
        raise InputError("not results of lm-eval", where=where, hint="give a results_*.json of `lm_eval --output_path`")
    found = {}
    for task in {**results, **(content.get("groups") or {})}:
        result = read_result(content, str(task), where=where)
        if result is not None:
            found[str(task)] = result
    if not found:
        raise InputError(
            "no task here has a score between 0 and 1", where=where, hint=f"found: {', '.join(map(str, results))}"
        )
    return found


def read_result(
    content: Mapping[str, Any], task: str, *, metric: str | None = None, where: str = "lm-eval results"
) -> TaskResult | None:
    """One task's score; None if none of its metrics is a fraction, or for a group without a score of its own.

    Args:
        metric: the metric that is the score, where it is not to be chosen; `METRIC` or `METRIC,FILTER`.

    Raises `InputError` for a metric that the task does not have or that is no fraction.
    """
    row = {**content["results"], **(content.get("groups") or {})}[task]
    metrics = {key: float(value) for key, value in row.items() if _is_metric(key, value)}
    named = {key.removesuffix(",none"): value for key, value in metrics.items()}
    higher = (content.get("higher_is_better") or {}).get(task) or {}
    fractions = [
        key for key, value in metrics.items() if 0 <= value <= 1 and higher.get(key.split(",")[0]) is not False
    ]
    chosen = _choose(fractions, metric)
    if chosen is None:
        if metric is None:
            return None
        raise InputError(
            f"{task} has no score called {metric!r}", where=where, hint=f"choose from: {', '.join(named) or 'none'}"
        )
    base, _, filtered = chosen.partition(",")
    stderr = row.get(f"{base}_stderr,{filtered}" if filtered else f"{base}_stderr")
    known = isinstance(stderr, int | float) and math.isfinite(stderr)
    score = Score(value=metrics[chosen], stderr=float(stderr) if known else None)
    questions = _questions(content, task, row)
    if questions is not None:
        try:
            score = replace(score, questions=questions)
        except InputError:  # the plain mean of unequal subtasks is less precise than so many questions
            if task not in (content.get("group_subtasks") or {}):
                raise
    version, shots = (content.get("versions") or {}).get(task), (content.get("n-shot") or {}).get(task)
    return TaskResult(
        score=score,
        metric=chosen.removesuffix(",none"),
        version=None if version in (None, "N/A", "Yaml") else str(version),
        shots=shots if isinstance(shots, int) else None,
        metrics=named,
    )


def _is_metric(key: str, value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return number and key not in ("sample_len", "alias", "name") and "_stderr" not in key


def _choose(keys: list[str], metric: str | None) -> str | None:
    """The key that is the score: of the metric asked for, or of the first of `METRICS`, by the first of `FILTERS`."""
    for wanted in [metric] if metric is not None else [*METRICS, *(key.split(",")[0] for key in keys)]:
        same = [key for key in keys if wanted in (key, key.split(",")[0])]
        same.sort(key=lambda key: next((i for i, name in enumerate(FILTERS) if key.endswith(f",{name}")), len(FILTERS)))
        if same:
            return same[0]
    return None


def _questions(content: Mapping[str, Any], task: str, row: Mapping[str, Any]) -> int | None:
    count = (content.get("n-samples") or {}).get(task)
    count = count.get("effective") if isinstance(count, Mapping) else row.get("sample_len")
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else None
