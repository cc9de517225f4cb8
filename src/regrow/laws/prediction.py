"""What a law predicts of one run: a loss, or a benchmark's score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.units import format_factor

#: what a law is of, unless it is of a benchmark
LOSS = "loss"
SCORE = "score:"


def score_target(benchmark: str) -> str:
    """The target of a law of a benchmark's score."""
    return SCORE + benchmark


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted held-out losses (nats/token) with intervals of probability `level`.

    Numbers are floats, or arrays of one shape where the law was asked about arrays. Of a law of scores `loss` is the
    error 1 - score, `score` the score, and `low` to `high` the score's interval, fractions. `extrapolates` names the
    inputs that stand outside the fitted range and by what factor (above 1, the largest of an array); empty inside.
    """

    loss: Any
    low: Any
    high: Any
    level: float
    extrapolates: dict[str, float]
    target: str = LOSS
    score: Any = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `target` and `score` for a law of scores only."""
        of_scores = () if self.score is not None else ("target", "score")
        return {name: value for name, value in vars(self).items() if name not in of_scores}

    @property
    def value(self) -> Any:
        """What was asked for: the loss, or the score."""
        return self.loss if self.score is None else self.score

    def answers(self) -> list[str]:
        """A line for each value."""
        rows = zip(*(np.ravel(numbers) for numbers in (self.value, self.low, self.high)), strict=True)
        what = "{:.4f} nats/token" if self.score is None else self.target + " {:.4f}"
        return [f"{what.format(value)} ({low:.4f} to {high:.4f} at {self.level:.0%})" for value, low, high in rows]

    def __str__(self) -> str:
        """A line for each value, and one for each input outside the fitted range."""
        far = ((name, format_factor(factor)) for name, factor in self.extrapolates.items())
        return "\n".join([*self.answers(), *(f"  ! {name} is {by} times outside the fitted range" for name, by in far)])


def predicted(loss: np.ndarray, low: np.ndarray, high: np.ndarray, *, target: str = LOSS, **more: Any) -> Prediction:
    """The prediction of a law of `target` from what it fits, losses or errors: floats of single points."""
    score = None if target == LOSS else as_score(loss)
    if score is not None:
        low, high = as_score(high), as_score(low)
    numbers = {"loss": loss, "low": low, "high": high, "score": score}
    given = {name: value for name, value in numbers.items() if value is not None}
    plain: dict[str, Any] = {name: value if np.ndim(value) else float(value) for name, value in given.items()}
    return Prediction(target=target, **plain, **more)


def as_score(error: Any) -> Any:
    """The scores of errors, fractions; what a curve or an interval gives beyond 0 and 1 is cut off."""
    return np.clip(1.0 - error, 0.0, 1.0)
