"""How far an answer can be trusted, by one rule, and the run that would help most where it can't."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from regrow.laws.pooled.unseen import methods_of
from regrow.methods import ANY
from regrow.planning.cost import Gpu, gpu_hours, say_gpu_time
from regrow.planning.support import MOST_TIMES_DESIGNED, MOST_TIMES_TOKENS, supported_tokens
from regrow.planning.unseen import about_method
from regrow.units import format_count, format_factor

if TYPE_CHECKING:
    from regrow.laws.law import Law

TRUST, ROUGH, CANNOT_SAY = "trust", "rough", "cannot say"
#: Trust needs: upper over lower end of D* at most this; inputs at most this many times outside the fitted range; and a
#: mean error on held-out runs of at most this share of the loss.
TRUST_WIDTH, TRUST_TIMES, TRUST_ERROR = 4.0, 2.0, 0.015
#: An interval of D* wider than this factor, or open at an end, decides nothing.
ROUGH_WIDTH = 100.0


def verdict(
    law: Law, *, answered: bool, width: float | None, extrapolates: Mapping[str, float], why_not: str
) -> tuple[str, str]:
    """`trust`, `rough` or `cannot say`, and why in a few words.

    Args:
        answered: whether the runs support an answer; else `why_not` says why they don't.
        width: upper over lower end of the interval of D*; infinity for an open one, None where there is no interval.
        extrapolates: inputs outside the fitted ranges, with their factors.
    """
    if not answered:
        return CANNOT_SAY, why_not
    if law.status == "failed":
        return CANNOT_SAY, "the law failed to fit"
    if width is None:
        return CANNOT_SAY, "the law has no bootstrap draws, so nothing says how far off it may be"
    if width > ROUGH_WIDTH:
        wide = "is open at an end" if width == float("inf") else f"spans a factor of {format_factor(width)}"
        return CANNOT_SAY, f"the interval of the tokens {wide}"
    far = {name: factor for name, factor in extrapolates.items() if factor > TRUST_TIMES}
    if far:
        name = max(far, key=lambda one: far[one])
        spoken = next((c.spoken for c in law.formula.columns if c.name == name), name)
        return ROUGH, f"the {spoken} is {format_factor(far[name])} times outside the fitted range"
    if width > TRUST_WIDTH:
        return ROUGH, f"the interval of the tokens spans a factor of {format_factor(width)}"
    if methods_of(law):
        return ROUGH, about_method(law)[0]
    if law.status != "ok":
        return ROUGH, f"the law's fit is {law.status}"
    error = law.diagnostics.get("held_out_error")
    if error is None:
        return ROUGH, "its error on held-out runs is not known (`regrow validate` tells it)"
    if error > TRUST_ERROR:
        return ROUGH, f"on held-out runs the law is off by {error:.2%} of the loss"
    return TRUST, f"inside the fitted range, and off by {error:.2%} of the loss on held-out runs"


def next_run(law: Law, *, params_before: float, pruning_rate: float, tokens: float | None, gpu: Gpu, mfu: float) -> str:
    """The run that an answer lacks most, and its cost: this model, or the nearest size that an answer reaches from.

    It is as long as the longest fitted run, or as long as it takes for `tokens`, the law's own D*, to be supported. A
    larger model than the fitted ones gets as many tokens per parameter as the largest of them.
    """
    low, high = law.ranges["params_before"]
    longest = max(law.ranges["tokens"][1], (tokens or 0.0) / MOST_TIMES_TOKENS)
    bounds = supported_tokens(law)
    early = ", with readings from the first tokens on," if tokens is not None and tokens < bounds.first else ""
    size = params_before
    if size > high * MOST_TIMES_DESIGNED:
        size = params_before / MOST_TIMES_DESIGNED
        longest *= size / high
    elif size * MOST_TIMES_DESIGNED < low:
        size = params_before * MOST_TIMES_DESIGNED
    hours = gpu_hours(6.0 * size * (1.0 - pruning_rate) * longest, gpu=gpu, mfu=mfu)
    what = "this model" if size == params_before else f"a model of {format_count(size)} parameters or more"
    by = "" if law.method == ANY else f" by {law.method}"
    return (
        f"prune {what}{by} at a rate of {pruning_rate:.3g} and train it on "
        f"{format_count(longest)} tokens{early} (about {say_gpu_time(hours)}, {gpu.name}), then fit again with that run"
    )
