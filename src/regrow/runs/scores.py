"""Benchmark scores: one reading each, with what is known of its noise. Scores are fractions of 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from regrow.errors import InputError

#: A standard error may exceed the largest that the number of questions allows by this factor: tables are rounded.
_ROUNDING = 1.1


@dataclass(frozen=True, kw_only=True)
class Score:
    """A model's score on one benchmark. What is not known is None.

    Attributes:
        value: fraction of the best possible score: 0.478, not 47.8.
        stderr: standard error of `value` over the choice of questions, a fraction.
        questions: how many questions were asked.
        chance: the score of guessing, a fraction; 0.25 for four choices.

    Raises `InputError` for a value outside 0 to 1, or a standard error that the number of questions contradicts.
    """

    value: float
    stderr: float | None = None
    questions: int | None = None
    chance: float | None = None

    def __post_init__(self) -> None:
        check_fraction(self.value, what="a score", where="score")
        if self.chance is not None:
            check_fraction(self.chance, what="the score of guessing", where="score")
        if self.questions is not None and self.questions < 1:
            raise InputError(f"{self.questions} questions", where="score", hint="leave the number out if it is unknown")
        if self.stderr is not None and not (math.isfinite(self.stderr) and self.stderr >= 0):
            raise InputError(f"the standard error is {self.stderr}", where="score", hint="it is a fraction above 0")
        largest = largest_stderr(self.value, self.questions)
        if self.stderr is not None and largest is not None and self.stderr > _ROUNDING * largest:
            raise InputError(
                f"a standard error of {self.stderr:g} and {self.questions} questions contradict each other at a score "
                f"of {self.value:g}",
                where="score",
                hint=f"so many questions give at most {largest:.2g}; both are fractions and counts of one benchmark",
            )

    def to_dict(self) -> dict[str, int | float]:
        """What is known of it, as plain data."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def check_fraction(value: float, *, what: str, where: str) -> None:
    """Raise `InputError` unless `value` lies in 0 to 1; a value up to 100 is taken for a percentage, and said to be."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{what} is {value}", where=where, hint="give a number from 0 to 1, or leave it out")
    if 1 < value <= 100:
        raise InputError(
            f"{what} is {value:g}, which looks like a percentage",
            where=where,
            hint=f"scores are fractions: divide by 100 ({value / 100:g})",
        )
    if not 0 <= value <= 1:
        raise InputError(f"{what} is {value:g}", where=where, hint="scores are fractions from 0 to 1")


def largest_stderr(value: float, questions: int | None) -> float | None:
    """The largest standard error of a mean of `questions` numbers in [0, 1] whose mean is `value`.

    That is sqrt(value (1 - value) / (questions - 1)), reached when each answer is right or wrong. None for fewer than
    two questions.
    """
    if questions is None or questions < 2:
        return None
    return math.sqrt(value * (1 - value) / (questions - 1))


def read_scores(content: Mapping[str, Any]) -> dict[str, Score]:
    """Scores by the benchmark's name, from `Score`s or from plain data as `Score.to_dict` makes it.

    Raises `InputError` naming the benchmark for a score that can't be, `TypeError` for an unknown key.
    """
    found = {}
    for name, score in content.items():
        try:
            found[str(name)] = score if isinstance(score, Score) else Score(**score)
        except InputError as error:
            raise InputError(error.what, where=f"score {name}", hint=error.hint) from None
    return found


def plain_scores(scores: Mapping[str, Score]) -> dict[str, dict[str, int | float]]:
    """The way back: plain data by the benchmark's name."""
    return {name: score.to_dict() for name, score in scores.items()}
