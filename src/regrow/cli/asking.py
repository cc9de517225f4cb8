"""What a user says of a model to be pruned, checked. Light."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from regrow.errors import InputError

if TYPE_CHECKING:
    from regrow.laws.law import Law


def pruning_rate(rate: float | None, law: Law) -> float:
    """The rate asked for; for an N:M law, which has one, the middle of the fitted ones.

    Raises `InputError` if it is missing or outside (0, 1).
    """
    if rate is None:
        if ":" not in law.method:
            raise InputError("--rate is missing", hint=f"a {law.method} law needs the pruning rate, e.g. --rate 0.25")
        low, high = law.ranges["pruning_rate"]
        return (low + high) / 2
    if not 0 < rate < 1:
        raise InputError(f"a pruning rate of {rate:g}", where="--rate", hint="give a fraction between 0 and 1")
    return rate


def check_loss(loss: float) -> float:
    """A loss in nats/token. Raises `InputError` if it is not positive and finite."""
    if not (math.isfinite(loss) and loss > 0):
        raise InputError(f"a loss of {loss:g}", where="--loss-before", hint="give nats per token, e.g. 2.1")
    return loss


def check_level(level: float) -> float:
    """A coverage. Raises `InputError` outside (0, 1)."""
    if not 0 < level < 1:
        raise InputError(f"a level of {level:g}", where="--level", hint="give a fraction such as 0.9")
    return level
