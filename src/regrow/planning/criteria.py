"""When to stop: criteria for the optimal number of post-training tokens.

Each criterion is a measure that falls as tokens grow, and a threshold: the optimal tokens D* are the fewest from which
on the measure stays at or under the threshold. A law alone has no optimum; the criterion is the user's, and is always
printed with the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from regrow.errors import InputError, one_of
from regrow.planning.curves import Curves
from regrow.planning.score_criteria import ScoreGain, ScoreRecovery, ScoreTarget
from regrow.units import format_count


def _positive(value: float, what: str, unit: str) -> None:
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{what} {value:g}", where="criterion", hint=f"give a positive number of {unit}")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Stop where doubling the tokens lowers the loss by less than `min_gain` nats per token.

    For the form `p2` the answer is closed: D* = (A * D_C * (1 - 2^-beta) / min_gain)^(1/beta) with
    A = rho^-gamma * N0^-delta.
    """

    name: ClassVar[str] = "gain"
    min_gain: float = 0.01

    def __post_init__(self) -> None:
        _positive(self.min_gain, "a minimum gain of", "nats per token")

    def measure(self, curves: Curves, tokens: np.ndarray) -> np.ndarray:
        """Nats that the next doubling buys, [1 + draws, n]."""
        once, twice = np.split(curves.loss(np.concatenate([tokens, 2 * tokens])), 2, axis=1)
        return once - twice

    def threshold(self, curves: Curves) -> float:
        return self.min_gain

    def describe(self, curves: Curves | None = None) -> str:
        return f"doubling the tokens buys less than {self.min_gain:g} nats"


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Stop where -dL/dD falls under `max_slope` nats per million tokens."""

    name: ClassVar[str] = "slope"
    max_slope: float

    def __post_init__(self) -> None:
        _positive(self.max_slope, "a slope of", "nats per million tokens")

    def measure(self, curves: Curves, tokens: np.ndarray) -> np.ndarray:
        # central difference in log D; its error, relative and of order step^2, is far below any fit's
        step = 1e-3
        around = np.concatenate([tokens * np.exp(-step), tokens * np.exp(step)])
        before, after = np.split(curves.loss(around), 2, axis=1)
        return (before - after) / (2 * step * tokens) * 1e6

    def threshold(self, curves: Curves) -> float:
        return self.max_slope

    def describe(self, curves: Curves | None = None) -> str:
        return f"a million more tokens buy less than {self.max_slope:g} nats"


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Stop where a `share` of the recoverable gap is closed: from the loss right after pruning to the law's floor.

    `loss_pruned` is the measured loss right after pruning, nats/token. Without it the gap starts at the law's own loss
    at the fewest tokens it was fitted on, and the description says so.
    """

    name: ClassVar[str] = "recovery"
    share: float = 0.9
    loss_pruned: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"a share of {self.share:g}", where="criterion", hint="it is a fraction between 0 and 1")
        if self.loss_pruned is not None:
            _positive(self.loss_pruned, "a loss after pruning of", "nats per token")

    def start(self, curves: Curves) -> np.ndarray | float:
        """The loss at which the recoverable gap begins."""
        if self.loss_pruned is not None:
            return self.loss_pruned
        return curves.loss(np.array([self._first_tokens(curves)]))

    def measure(self, curves: Curves, tokens: np.ndarray) -> np.ndarray:
        floor = curves.floor()
        gap = self.start(curves) - floor
        # a draw whose floor lies above the start recovers nothing: it never meets the criterion
        return np.where(gap > 0, (curves.loss(tokens) - floor) / np.where(gap > 0, gap, 1.0), np.inf)

    def threshold(self, curves: Curves) -> float:
        floor = float(curves.floor()[0, 0])
        if self.loss_pruned is not None and self.loss_pruned <= floor:
            raise InputError(
                f"the loss after pruning {self.loss_pruned:g} is not above the law's floor {floor:.4f}",
                where="criterion recovery",
                hint="there is nothing to recover; check both losses",
            )
        return 1.0 - self.share

    def describe(self, curves: Curves | None = None) -> str:
        if self.loss_pruned is not None:
            start = f"the loss after pruning, {self.loss_pruned:g}"
        elif curves is not None:
            start = f"the law's loss at the fewest tokens fitted, {format_count(self._first_tokens(curves))}"
        else:
            start = "the law's loss at the fewest tokens fitted"
        return f"{self.share:.0%} of the gap from {start}, to the law's floor is closed"

    @staticmethod
    def _first_tokens(curves: Curves) -> float:
        low = curves.law.ranges.get("tokens", (0.0, 0.0))[0]
        if not low > 0:
            raise InputError(
                "the law does not say from how many tokens on it was fitted",
                where="criterion recovery",
                hint="give the loss right after pruning",
            )
        return float(low)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Stop where the loss first reaches `loss` nats per token."""

    name: ClassVar[str] = "target"
    loss: float

    def __post_init__(self) -> None:
        _positive(self.loss, "a target loss of", "nats per token")

    def measure(self, curves: Curves, tokens: np.ndarray) -> np.ndarray:
        return curves.loss(tokens) - curves.floor()

    def threshold(self, curves: Curves) -> np.ndarray:
        left = self.loss - curves.floor()
        if not left[0, 0] > 0:
            raise InputError(
                f"a loss of {self.loss:g} is unreachable: however many tokens, the law's floor here is "
                f"{self.loss - left[0, 0]:.4f} nats",
                where="criterion target",
                hint="ask for more than the floor, prune less, or start from a larger model",
            )
        return left

    def describe(self, curves: Curves | None = None) -> str:
        return f"the loss is at most {self.loss:g} nats"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Train for what is there: GPU-hours, or money at the price of a GPU-hour. Exactly one of the two."""

    name: ClassVar[str] = "budget"
    gpu_hours: float | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        if (self.gpu_hours is None) == (self.usd is None):
            raise InputError("a budget of GPU-hours or of money", where="criterion", hint="give exactly one of them")
        _positive(self.gpu_hours or self.usd or 0.0, "a budget of", "GPU-hours or USD")

    def describe(self, curves: Curves | None = None) -> str:
        return (
            f"the budget of {format_count(self.gpu_hours or 0.0)} GPU-hours is spent"
            if self.usd is None
            else (f"the budget of {format_count(self.usd)} USD is spent")
        )


#: A stopping rule that a law can be solved for: `measure` gives arrays [1 + draws, n], `threshold` [1 + draws, 1] or a
#: number, `describe` what follows "because from there". A budget fixes the tokens by itself.
Criterion = Gain | Slope | Recovery | Target | ScoreGain | ScoreRecovery | ScoreTarget

CRITERIA: dict[str, type[Criterion | Budget]] = {
    "gain": Gain,
    "slope": Slope,
    "recovery": Recovery,
    "target": Target,
    "budget": Budget,
}


#: What the command line calls a field of a criterion, where it is not the field's own name.
_OPTIONS = {"loss": "target", "score": "target", "gpu_hours": "budget_hours", "usd": "budget_usd"}
#: Fields that are no thresholds, but where the gap of a recovery begins.
_STARTS = ("loss_pruned", "score_before")


def options_of(criterion: Criterion | Budget) -> dict[str, float]:
    """The thresholds of a criterion, by the names of their options: `min_gain`, `target`, `budget_hours`..."""
    given = {field.name: getattr(criterion, field.name) for field in fields(criterion) if field.name not in _STARTS}
    return {_OPTIONS.get(name, name): float(value) for name, value in given.items() if value is not None}


#: The same of laws of scores.
SCORE_CRITERIA: dict[str, type[Criterion | Budget]] = {
    "gain": ScoreGain,
    "recovery": ScoreRecovery,
    "target": ScoreTarget,
    "budget": Budget,
}


def criterion_from(name: str, scores: bool = False, /, **options: float | None) -> Criterion | Budget:
    """A criterion by name with its options, those that are None left at their default.

    Args:
        scores: whether it is of a law of scores.

    Raises `InputError` for an unknown name (with the nearest), or an option that is missing or not this criterion's.
    """
    kinds = SCORE_CRITERIA if scores else CRITERIA
    kind = kinds[one_of(name, kinds, what="criterion of scores" if scores else "criterion")]
    given = {option: value for option, value in options.items() if value is not None}
    known = [f.name for f in fields(kind)]
    extra = [option for option in given if option not in known]
    if extra:
        raise InputError(
            f"{', '.join(extra)} {'is' if len(extra) == 1 else 'are'} not for the criterion {name!r}",
            hint=f"it takes: {', '.join(known)}",
        )
    try:
        return kind(**given)
    except TypeError:
        raise InputError(f"the criterion {name!r} needs {', '.join(known)}", hint="give its value") from None
