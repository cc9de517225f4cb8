"""Scores of lm-eval's results files as readings of a run: which tokens a checkpoint's step stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from regrow.errors import InputError
from regrow.runs.importers.counts import Counts
from regrow.runs.importers.history import count
from regrow.runs.importers.lm_eval import Results, read_files
from regrow.runs.importers.spec import ImportSpec
from regrow.runs.record import CurvePoint
from regrow.runs.scores import Score

#: a checkpoint this close to a reading of the log, as a share of its tokens, is the same
_SAME = 1e-3


def results_in(paths: Sequence[Path]) -> list[Results]:
    """All results files of these paths, each of one checkpoint.

    Raises `InputError` for a file that does not say which checkpoint it is of.
    """
    found = [results for path in paths for results in read_files(path)]
    lost = next((results for results in found if results.step is None), None)
    if lost is not None:
        raise InputError(
            "the results do not say which checkpoint they are of",
            where=str(lost.path),
            hint="put the file into a folder called checkpoint-500, 500 being the step; 0 for the pruned model",
        )
    return found


def attach_results(
    curve: Sequence[CurvePoint], found: Sequence[Results], counts: Counts | None, spec: ImportSpec
) -> tuple[tuple[CurvePoint, ...], list[str]]:
    """The curve with the scores of results files, in the order of the tokens, and what to say of them.

    Args:
        counts: tokens and steps of the run's log; None where there is none.

    Raises `InputError` for a step whose tokens nobody tells, and for two files of one task and checkpoint.
    """
    points = {point.tokens: point for point in curve}
    given: dict[tuple[int, str], Path] = {}
    for results in found:
        at = _same_reading(_tokens(results, counts, spec), points)
        scores: dict[str, Score] = {name: task.score for name, task in results.tasks.items()}
        for name in scores:
            if (at, name) in given:
                raise InputError(
                    f"two results of {name} at step {results.step}",
                    where=str(results.path),
                    hint=f"the other is {given[at, name]}: remove one",
                )
            given[at, name] = results.path
        point = points.get(at, CurvePoint(tokens=at, scores=scores))
        points[at] = replace(point, scores={**point.scores, **scores})
    benchmarks = sorted({name for _, name in given})
    note = (
        f"{count(len(given), 'score')} of {', '.join(benchmarks)} from {count(len(found), 'results file')} of lm-eval"
    )
    return tuple(points[at] for at in sorted(points)), [note] if given else []


def parents_scores(path: str | None) -> dict[str, Score]:
    """The unpruned model's scores from its results, a file or a folder; none without a path."""
    if path is None:
        return {}
    return {name: task.score for results in read_files(Path(path)) for name, task in results.tasks.items()}


def how_measured(found: Sequence[Results]) -> dict[str, Mapping[str, Any]]:
    """How each benchmark was measured, for a run's details; of several files the last."""
    return {name: task.how() for results in found for name, task in results.tasks.items()}


def _tokens(results: Results, counts: Counts | None, spec: ImportSpec) -> int:
    """The tokens of a checkpoint: its step times the tokens of one, or what the log counts there."""
    step = results.step or 0
    if step == 0:
        return 0
    if spec.tokens_per_step is not None:
        return step * spec.tokens_per_step
    if counts is not None and counts.steps is not None:
        known = np.isfinite(counts.steps) & np.isfinite(counts.tokens)
        order = np.argsort(counts.steps[known], kind="stable")
        steps, tokens = counts.steps[known][order], counts.tokens[known][order]
        if steps.size and step <= steps[-1]:
            return round(float(np.interp(step, np.append(0, steps), np.append(0, tokens))))
    raise InputError(
        f"nothing tells how many tokens step {step} is", where=str(results.path), hint="give --tokens-per-step"
    )


def _same_reading(tokens: int, points: Mapping[int, CurvePoint]) -> int:
    """The reading of the log that a checkpoint belongs to; its own tokens where there is none."""
    nearest = min(points, key=lambda at: abs(at - tokens), default=tokens)
    return nearest if abs(nearest - tokens) <= _SAME * tokens else tokens
