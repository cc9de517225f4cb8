"""What a law predicts of one run: a loss, or a benchmark's score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from regrow.units import format_factor

#: what a law is of, unless it is of a benchmark
LOSS = "loss"
SCORE = "score:"


def score_target(benchmark: str) -> str:
    """The target of a law of a benchmark's score."""
    return SCORE + benchmark


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A predicted held-out loss (nats/token) with an interval of probability `level`.

    Of a law of scores `loss` is the error 1 - score, `score` the score, and `low` to `high` the score's interval,
    fractions. `extrapolates` names the inputs that stand outside the fitted range and by what factor (above 1); empty
    inside.
    """

    loss: float
    low: float
    high: float
    level: float
    extrapolates: dict[str, float]
    target: str = LOSS
    score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `target` and `score` for a law of scores only."""
        of_scores = () if self.score is not None else ("target", "score")
        return {name: value for name, value in vars(self).items() if name not in of_scores}

    def __str__(self) -> str:
        far = {name: format_factor(factor) for name, factor in self.extrapolates.items()}
        beyond = (f"  ! {name} is {times}x outside the fitted range" for name, times in far.items())
        what = f"{self.loss:.4f} nats/token" if self.score is None else f"{self.target} {self.score:.4f}"
        answer = f"{what} ({self.low:.4f} to {self.high:.4f} at {self.level:.0%})"
        return "\n".join([answer, *beyond])


def as_score(error: float) -> float:
    """The score of an error, a fraction; what a curve or an interval gives beyond 0 and 1 is cut off."""
    return min(max(1.0 - error, 0.0), 1.0)
