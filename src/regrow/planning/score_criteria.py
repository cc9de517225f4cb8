"""When to stop by a benchmark's score. The curves of such laws are errors, 1 - score; what users give are scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from regrow.errors import InputError
from regrow.runs.scores import check_fraction

if TYPE_CHECKING:
    from regrow.planning.curves import Curves


@dataclass(frozen=True, kw_only=True)
class ScoreGain:
    """Stop where doubling the tokens raises the score by less than `min_gain` points, hundredths of a score."""

    name: ClassVar[str] = "gain"
    min_gain: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.min_gain < 100:
            raise InputError(
                f"a minimum gain of {self.min_gain:g} points",
                where="criterion",
                hint="give points above 0: 0.5 is from 0.700 to 0.705",
            )

    def measure(self, curves: Curves, tokens: np.ndarray) -> np.ndarray:
        """What the next doubling adds to the score, [1 + draws, n]."""
        once, twice = np.split(curves.loss(np.concatenate([tokens, 2 * tokens])), 2, axis=1)
        return once - twice

    def threshold(self, curves: Curves) -> float:
        return self.min_gain / 100

    def describe(self, curves: Curves | None = None) -> str:
        return f"doubling the tokens buys less than {self.min_gain:g} points"


@dataclass(frozen=True, kw_only=True)
class ScoreTarget:
    """Stop where the score reaches `score`, a fraction."""

    name: ClassVar[str] = "target"
    score: float

    def __post_init__(self) -> None:
        check_fraction(self.score, what="the target", where="criterion target")

    def measure(self, curves: Curves, tokens: np.ndarray) -> np.ndarray:
        return curves.loss(tokens) - curves.floor()

    def threshold(self, curves: Curves) -> np.ndarray:
        left = 1 - self.score - curves.floor()
        if not left[0, 0] > 0:
            hint = "ask for less than where the score ends, prune less, or start from a better model"
            at = curves.setting.point()
            if at.get("loss_pruned", np.inf) < at["loss_before"]:  # these are errors, 1 - score
                hint = "the score right after pruning is above the parent's: are the two in the wrong order?"
            raise InputError(
                f"a score of {self.score:g} is never reached: {_where_it_ends(curves)}",
                where="criterion target",
                hint=hint,
            )
        return left

    def describe(self, curves: Curves | None = None) -> str:
        return f"the score is at least {self.score:g}"


@dataclass(frozen=True, kw_only=True)
class ScoreRecovery:
    """Stop where a `share` of what pruning took from the parent's score is back.

    `score_before` is the parent's score, a fraction; None takes the one that the plan is asked with.
    """

    name: ClassVar[str] = "recovery"
    share: float = 0.9
    score_before: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"a share of {self.share:g}", where="criterion", hint="it is a fraction between 0 and 1")

    def _gap(self, curves: Curves) -> tuple[float, np.ndarray]:
        """The parent's error, and the gap right after pruning, [1 + draws, 1]."""
        before = float(curves.setting.loss_before) if self.score_before is None else 1 - self.score_before
        return before, np.maximum(curves.loss(np.array([0.0])) - before, 0.0)

    def measure(self, curves: Curves, tokens: np.ndarray) -> np.ndarray:
        before, gap = self._gap(curves)
        # a draw without a gap has nothing to recover: it meets the criterion from the first token on
        return np.where(gap > 0, (curves.loss(tokens) - before) / np.where(gap > 0, gap, 1.0), 0.0)

    def threshold(self, curves: Curves) -> float:
        before, gap = self._gap(curves)
        if gap[0, 0] > 0 and not (curves.floor()[0, 0] - before) / gap[0, 0] < 1 - self.share:
            raise InputError(
                f"{self.share:.0%} of what pruning took is never won back: {_where_it_ends(curves)}",
                where="criterion recovery",
                hint="ask for a smaller --share, prune less, or use --criterion gain",
            )
        return 1.0 - self.share

    def describe(self, curves: Curves | None = None) -> str:
        return f"{self.share:.0%} of what pruning took from the parent's score is back"


def _where_it_ends(curves: Curves) -> str:
    """Where the score of these curves ends, and how sure that is."""
    floor = curves.floor()[:, 0]
    end = f"however many tokens, the law's score ends at {1 - floor[0]:.3f}"
    if len(floor) > 1:
        ordered = np.sort(floor[1:][np.isfinite(floor[1:])])
        low, high = (1 - ordered[int(share * (len(ordered) - 1))] for share in (0.95, 0.05))
        end += f" ({low:.3f} to {high:.3f}, 90%)"
    law = curves.law
    if law.diagnostics.get("parents_known", True):
        end += f"; the parent's is {1 - float(curves.setting.loss_before):.3f}"
    return end
