"""What a law's runs support: between which tokens, and up to which size, an answer is given at all.

The rule is one for plans, reports, the page and forecasts:

- D* below the first reading of the fitted runs is "less than" that reading: no run was read earlier.
- D* above `MOST_TIMES_TOKENS` times the longest fitted run is "more than" that. Runs of the ladder that went 16 times
  beyond the fit ended up to half of the gap away from every law (docs/plan.md).
- A model, or another input that a study designs, further than `MOST_TIMES_DESIGNED` times outside the fitted range is
  not answered for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regrow.units import format_count, format_factor

if TYPE_CHECKING:
    from regrow.laws.law import Law

#: D* is given up to this many times the longest fitted run.
MOST_TIMES_TOKENS = 16.0
#: A size or rate is answered for up to this many times outside the fitted range.
MOST_TIMES_DESIGNED = 100.0
#: What stands in the place of an interval where there are no draws to take one from.
NO_INTERVAL = "how sure is not known"


@dataclass(frozen=True, kw_only=True)
class Support:
    """The tokens between which D* is given: `first`, the first reading of the fitted runs, and `most`."""

    first: float
    most: float
    longest: float
    #: how many tokens of the planned recipe one of the fitted runs' is worth (`regrow.planning.recipe`)
    times: float = 1.0

    def holds(self, tokens: float) -> bool:
        """Whether D* is given at these tokens."""
        return self.first <= tokens <= self.most

    def reaching(self, tokens: float) -> Support:
        """The same for a run under way that has read losses up to these tokens."""
        longest = max(self.longest, tokens)
        return replace(self, most=MOST_TIMES_TOKENS * longest, longest=longest)

    def bound(self, tokens: float) -> str:
        """What is said in place of these tokens: "less than 98k", "more than 67M", or nothing where D* is given."""
        if tokens < self.first:
            return f"less than {format_count(self.first)}"
        return f"more than {format_count(self.most)}" if tokens > self.most else ""

    def reason(self, tokens: float) -> str:
        """Why there is no D* at these tokens; empty where there is one."""
        if tokens < self.first:
            return f"{self.bound(tokens)} tokens, the first reading of the fitted runs"
        if tokens > self.most:
            return (
                f"{self.bound(tokens)} tokens: that is {MOST_TIMES_TOKENS:g} times the longest fitted "
                f"run ({tokens_in_words(self.longest, self.times)}), and the law is not trusted beyond"
            )
        return ""


def supported_tokens(law: Law) -> Support:
    """Between which tokens D* is given. A law whose readings begin at 0 tokens bounds D* from above only."""
    low, high = law.ranges["tokens"]
    first = float(law.diagnostics.get("first_reading") or low)
    times = float(law.diagnostics.get("recipe_times", 1.0))
    return Support(first=first, most=MOST_TIMES_TOKENS * high, longest=high, times=times)


def interval_in_words(
    low: float | None, high: float | None, level: float, supported: tuple[float, float] | None
) -> str:
    """An interval of tokens with its probability; an end that the runs don't support, None, is open.

    Args:
        supported: the tokens between which the runs support an answer; None where the law has no draws.
    """
    if low is None and high is None:
        if supported is None:
            return NO_INTERVAL
        first, most = map(format_count, supported)
        return f"anything from under {first} to over {most}, {level:.0%}"
    if low is None:
        return f"up to {format_count(high or 0.0)}, {level:.0%}"
    if high is None:
        return f"{format_count(low)} or more, {level:.0%}"
    return f"{format_count(low)} to {format_count(high)}, {level:.0%}"


def tokens_in_words(tokens: float, times: float) -> str:
    """Tokens that fitted runs were trained on, and where the planned recipe differs, what they are worth in it."""
    if math.isclose(times, 1.0):
        return format_count(tokens)
    return f"{format_count(tokens / times)}, worth {format_count(tokens)} in this recipe"


def too_far(law: Law, extrapolates: Mapping[str, float]) -> str:
    """Why the law does not answer at inputs outside its runs by these factors; empty where it does."""
    for column in law.formula.columns:
        factor = extrapolates.get(column.name, 1.0)
        if column.designed and factor > MOST_TIMES_DESIGNED:
            low, high = law.ranges[column.name]
            times = format_factor(factor) if math.isfinite(factor) else "without limit"
            return (
                f"the {column.spoken} is {times} times outside what was fitted ({column.say(low)} to "
                f"{column.say(high)}), and answers are given up to {MOST_TIMES_DESIGNED:g} times"
            )
    return ""
