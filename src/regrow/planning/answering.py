"""D* with its interval, as the criterion has it, and as far as the law's runs support it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import InputError
from regrow.planning.criteria import Budget, Criterion
from regrow.planning.curves import Curves
from regrow.planning.solve import FEWEST, MOST, optimal_tokens
from regrow.planning.support import supported_tokens, too_far

if TYPE_CHECKING:
    from regrow.laws.law import Law

#: Draws without an answer are worth a word from this share on.
_RARE = 0.01


@dataclass(frozen=True, kw_only=True)
class Answer:
    """D*, its interval, what has to be said about them, and why there is no number where there is none.

    `too_far`: that is because the model lies too far outside the runs, so that the law's own D* means nothing.
    `supported`: the tokens between which the runs support an answer; None where the law has no draws.
    """

    tokens: float | None
    low: float | None = None
    high: float | None = None
    notes: tuple[str, ...] = ()
    width: float | None = None
    reason: str = ""
    too_far: bool = False
    supported: tuple[float, float] | None = None


def tokens_of(
    criterion: Criterion | Budget, curves: Curves, *, level: float, tokens_per_hour: float, price: float | None
) -> Answer:
    """The tokens to train on, as the criterion has them; a budget fixes them, at so many tokens per GPU-hour."""
    if isinstance(criterion, Budget):
        hours = criterion.gpu_hours if criterion.gpu_hours is not None else (criterion.usd or 0.0) / (price or np.nan)
        paid = hours * tokens_per_hour
        if paid < FEWEST:
            raise InputError("the budget pays for less than one token", where="criterion", hint="give more")
        return Answer(tokens=paid, low=paid, high=paid, width=1.0 if len(curves.law.draws) else None)
    return _solve(criterion, curves, level)


def _solve(criterion: Criterion, curves: Curves, level: float) -> Answer:
    """D* and its interval."""
    notes = []
    found = optimal_tokens(criterion, curves)
    tokens, draws = found[0], found[1:]
    if tokens == np.inf:
        notes.append(f"the criterion is not met up to {MOST:.0e} tokens: there is no optimal number of tokens to give")
    if tokens == FEWEST:
        notes.append("the criterion is met from the first token on: by it, no post-training is needed")
    if not draws.size:
        notes.append("the law has no bootstrap draws: there is no interval")
        return Answer(tokens=known(tokens), notes=tuple(notes))
    never = float(np.mean(draws == np.inf))
    if never >= _RARE:
        notes.append(f"in {never:.0%} of the law's draws the criterion is never met")
    # order statistics, not interpolation: a draw may be infinite
    ordered = np.sort(draws)
    low, high = (ordered[max(math.ceil(share * len(draws)) - 1, 0)] for share in ((1 - level) / 2, (1 + level) / 2))
    # what lies below the first reading is all the same: too early to see
    first = max(low, supported_tokens(curves.law).first)
    width = float(max(high / first, 1.0)) if np.isfinite(low) else math.inf
    return Answer(tokens=known(tokens), low=known(low), high=known(high), notes=tuple(notes), width=width)


def as_supported(law: Law, answer: Answer, extrapolates: Mapping[str, float], *, fixed: bool) -> Answer:
    """The answer as far as the law's runs support it: what they don't is None, with the reason.

    Where D* lies beyond what they support, the lower end of its interval stays if they support that.
    """
    bounds = supported_tokens(law)
    reason = too_far(law, extrapolates)
    far = bool(reason)
    if answer.tokens is not None and not reason:
        reason = bounds.reason(answer.tokens)
    if fixed:
        return replace(answer, reason=reason, too_far=far)
    supported = None if far or not len(law.draws) else (bounds.first, bounds.most)
    kept = [None if end is None or far or not bounds.holds(end) else end for end in (answer.low, answer.high)]
    return replace(
        answer,
        tokens=None if reason else answer.tokens,
        low=kept[0],
        high=kept[1],
        reason=reason,
        too_far=far,
        supported=supported,
        notes=() if far else answer.notes,  # they speak of the law's own D*, which means nothing there
    )


def known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
