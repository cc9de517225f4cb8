"""Benchmark scores as what a law is fitted to: the error 1 - score takes the place of the loss.

The parent's error takes the place of the loss before pruning. Where the parent's score is not known, the place is taken
by a share of the least error that was fitted, and the end of the curves is free around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from regrow.errors import InputError, one_of
from regrow.laws.regrowth.runs import RunCurve
from regrow.runs.record import CurvePoint, RunRecord
from regrow.runs.scores import Score, largest_stderr

#: asks for all benchmarks; and the name of the law of their mean
ALL, MEAN = "all", "mean"
#: names of columns that published tables have beside the benchmarks that they average
_AVERAGES = ("average", "avg", "mean")
#: the least error that is fitted: a perfect score has no logarithm
LEAST_ERROR = 1e-3
#: of the least error that was fitted, what stands for the parent's where that is not known
_PARENT_SHARE = 0.55
#: a score this many standard errors below guessing is no noise; and so many points where the noise is not known
_BELOW_CHANCE, _BELOW_CHANCE_UNKNOWN = 4.0, 0.1


def names_of(records: Sequence[RunRecord], wanted: str | Sequence[str]) -> tuple[str, ...]:
    """The benchmarks to fit: those named, or with `all` those that the pruned runs have, but for averages of others.

    Raises `InputError` for an unknown name (with the nearest), one named twice, or runs without scores.
    """
    asked = [wanted] if isinstance(wanted, str) else list(wanted)
    asked = [part.strip().removeprefix("score:") for part in asked]
    there = sorted({name for r in records if not r.is_control for p in r.curve for name in p.scores})
    if not there:
        raise InputError(
            "no run has benchmark scores", where="scores", hint="`regrow train --tasks` records them, and so do tables "
            "with a column score:NAME",
        )  # fmt: skip
    if asked == [ALL] and ALL not in there:
        several = [name for name in there if name.lower() not in _AVERAGES]
        return tuple(several or there)
    for name in asked:
        one_of(name, there, what="benchmark", where="--score")
    twice = next((name for name in asked if asked.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{twice!r} is named twice", where="--score", hint="name each benchmark once")
    if len(asked) > 1 and MEAN in asked:
        raise InputError(
            f"a benchmark called {MEAN!r} among several", where="--score", hint="the mean of several is fitted anyway"
        )
    return tuple(asked)


def check_score_options(form: str, *, baseline: str, loss: str, hold: object = None) -> None:
    """Raise `InputError` for an option that laws of scores can't have."""
    wrong = None
    if form not in ("auto", "regrowth"):
        wrong = f"the form {form}"
    elif baseline != "initial":
        wrong = f"the baseline {baseline}"
    elif loss != "raw":
        wrong = f"{loss} losses"
    elif hold:
        wrong = "parameters to hold"
    if wrong is not None:
        raise InputError(
            f"{wrong} with scores", where="--score", hint="laws of scores have the form regrowth: leave it out"
        )


def of_score(records: Sequence[RunRecord], name: str) -> list[RunRecord]:
    """The pruned runs with the error of one benchmark as their loss, and without the checkpoints that lack it.

    Raises `InputError` for scores that contradict each other or guessing, and where no run has the benchmark.
    """
    out = []
    for record in records:
        points = [point for point in record.curve if name in point.scores]
        if record.is_control or not points:
            continue
        _check(record, name, points)
        curve = tuple(
            CurvePoint(tokens=p.tokens, loss=error(p.scores[name].value), scores={name: p.scores[name]}) for p in points
        )
        out.append(replace(record, curve=curve, loss_before=_before(record, name, points), loss_pruned=None))
    if not out:
        raise InputError(f"no pruned run has the score {name}", where="scores", hint="read it with `regrow eval`")
    return out


def error(score: float) -> float:
    """1 - score, at least `LEAST_ERROR`."""
    return max(1 - score, LEAST_ERROR)


def _before(record: RunRecord, name: str, points: Sequence[CurvePoint]) -> float:
    """The parent's error, or what stands for it."""
    parent = record.scores_before.get(name)
    if parent is not None:
        return error(parent.value)
    return in_parents_place(min(error(point.scores[name].value) for point in points))


def in_parents_place(least: float) -> float:
    """What stands for a parent's error that is not known, by the least error that was fitted."""
    return max(_PARENT_SHARE * least, LEAST_ERROR)


def _check(record: RunRecord, name: str, points: Sequence[CurvePoint]) -> None:
    """Raise `InputError` for numbers of questions that differ, a parent that guesses, or a score far below guessing."""
    parent = record.scores_before.get(name)
    scores = [point.scores[name] for point in points] + ([parent] if parent is not None else [])
    where = f"run {record.run}, score {name}"
    counts = sorted({score.questions for score in scores if score.questions is not None})
    if len(counts) > 1:
        raise InputError(
            f"readings of {' and '.join(map(str, counts[:3]))} questions",
            where=where,
            hint="readings of one benchmark compare only if they ask the same questions",
        )
    chance = chance_of(record, name)
    if chance is None:
        return
    if parent is not None and parent.value <= chance:
        raise InputError(
            f"the unpruned model's score of {parent.value:g} is not above the {chance:g} of guessing",
            where=where,
            hint="this benchmark says nothing of the model: leave it out",
        )
    for point in points:
        score = point.scores[name]
        noise = stderr_of(score)
        slack = _BELOW_CHANCE_UNKNOWN if noise is None else _BELOW_CHANCE * noise
        if score.value < chance - slack:
            raise InputError(
                f"a score of {score.value:g} at {point.tokens:,} tokens is further below the {chance:g} of guessing "
                "than noise explains",
                where=where,
                hint="check the metric; leave the score of guessing out where an answer may be no choice at all",
            )


def chance_of(record: RunRecord, name: str) -> float | None:
    """The score of guessing, a fraction; None where no reading of the run tells it."""
    scores = [point.scores[name] for point in record.curve if name in point.scores]
    scores += [record.scores_before[name]] if name in record.scores_before else []
    return next((score.chance for score in scores if score.chance is not None), None)


def stderr_of(score: Score) -> float | None:
    """The standard error of a score: as given, or the largest that its number of questions allows; None for neither."""
    if score.stderr is not None:
        return score.stderr
    # a score of 0 or 1 is not without noise: half a question more or less
    return largest_stderr(_inside(score), score.questions)


def _inside(score: Score) -> float:
    room = 0.5 / (score.questions or 1)
    return min(max(score.value, room), 1 - room)


def stderrs(record: RunRecord, name: str, tokens: np.ndarray) -> np.ndarray:
    """The known standard errors of a run's readings at these tokens, [n]; 0 where nothing is known."""
    known = {float(p.tokens): stderr_of(p.scores[name]) or 0.0 for p in record.curve if name in p.scores}
    return np.array([known[float(token)] for token in tokens])


def score_notes(runs: Sequence[RunCurve]) -> list[str]:
    """What is to be said of a group's runs, in plain words."""
    notes = []
    unread = [run.run for run in runs if not run.measured]
    if unread:
        notes.append(f"the score right after pruning is not known of {_some(unread)}: give a reading at 0 tokens")
    orphans = [run.run for run in runs if not run.parent_known]
    if orphans:
        notes.append(
            f"the parent's score is not known of {_some(orphans)}, so where their scores end is free; give score_before"
        )
    if any(run.stderr is None or not run.stderr.any() for run in runs):
        notes.append("the number of questions is not known, so the noise of a score is estimated from few readings")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
