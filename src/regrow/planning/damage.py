"""What pruning cost at once, and when a law expects half of it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.planning.criteria import Target
from regrow.planning.curves import Curves
from regrow.planning.solve import ends, optimal_tokens
from regrow.planning.support import interval_in_words, supported_tokens, too_far
from regrow.planning.unseen import about_method
from regrow.units import format_count

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.setting import Setting


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Held-out losses around pruning, nats/token, and the tokens after which half of what was lost is back.

    Attributes:
        loss_before, loss_pruned: before pruning and right after it.
        half_tokens, half_low, half_high: tokens and the ends of their interval; None where the law's runs don't
            support a number, and `reason` says why.
        first, supported: the fewest and the most tokens that the law's runs support; None where no tokens were asked
            for, and `first` where the law has no draws.
        level: probability of the interval.
        note: what has to be said of the law that was asked; empty where there is nothing.
    """

    loss_before: float
    loss_pruned: float
    half_tokens: float | None = None
    half_low: float | None = None
    half_high: float | None = None
    supported: float | None = None
    first: float | None = None
    level: float = 0.9
    reason: str = ""
    note: str = ""

    @property
    def gap_pruned(self) -> float:
        """The gap right after pruning, nats/token."""
        return self.loss_pruned - self.loss_before

    def sentence(self) -> str:
        """What it means, in one line."""
        if self.gap_pruned <= 0:
            return f"nothing lost at once: {-self.gap_pruned:.2f} nats below the unpruned model"
        lost = f"{self.gap_pruned:.2f} nats lost at once"
        if self.half_tokens is None:
            return f"{lost}; when half is back can't be said: {self.reason}" if self.reason else lost
        supported = None if self.first is None or self.supported is None else (self.first, self.supported)
        between = interval_in_words(self.half_low, self.half_high, self.level, supported)
        return f"{lost}; half is back after about {format_count(self.half_tokens)} tokens ({between})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a record and for `--json`."""
        return {**vars(self), "gap_pruned": self.gap_pruned, "sentence": self.sentence()}


def expected_damage(law: Law, setting: Setting, *, level: float = 0.9) -> Damage:
    """When the law expects half of the gap right after pruning to be closed.

    Args:
        setting: the model, its rate and both losses, `loss_pruned` among them; without tokens.
    """
    point = setting.point()
    before, pruned = point["loss_before"], point["loss_pruned"]
    note = "; ".join(about_method(law))
    if pruned <= before:
        return Damage(loss_before=before, loss_pruned=pruned, note=note)
    # as a `Target`, but a law whose floor lies above it is an answer here and not an error
    curves = Curves(law, setting)
    with np.errstate(all="ignore"):
        reached = curves.floor()[0, 0] < (before + pruned) / 2
    refused = too_far(law, law.extrapolates(setting.at(law.ranges["tokens"][0])))
    if refused or not reached:
        reason = refused or "the law never closes half of it"
        return Damage(loss_before=before, loss_pruned=pruned, reason=reason, note=note)
    every = optimal_tokens(Target(loss=(before + pruned) / 2), curves)
    support = supported_tokens(law)
    if not support.holds(every[0]):
        return Damage(loss_before=before, loss_pruned=pruned, reason=support.reason(every[0]), note=note)
    drawn = len(every) > 1
    low, high = ends(every[1:], level) if drawn else (np.nan, np.nan)
    return Damage(
        loss_before=before,
        loss_pruned=pruned,
        half_tokens=float(every[0]),
        half_low=low if support.holds(low) else None,
        half_high=high if support.holds(high) else None,
        first=support.first if drawn else None,
        supported=support.most,
        level=level,
        note=note,
    )
