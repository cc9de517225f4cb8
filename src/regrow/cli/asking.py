"""What `--rate` means for a law. Light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regrow.errors import InputError

if TYPE_CHECKING:
    from regrow.laws.law import Law


def pruning_rate(rate: float | None, law: Law) -> float:
    """The rate asked for; for an N:M law, which has one, the middle of the fitted ones.

    Raises `InputError` if it is missing.
    """
    if rate is None:
        if ":" not in law.method:
            raise InputError("--rate is missing", hint=f"a {law.method} law needs the pruning rate, e.g. --rate 0.25")
        low, high = law.ranges["pruning_rate"]
        return (low + high) / 2
    return rate
