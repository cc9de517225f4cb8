"""Which law is asked, and what `--rate` means for it. Light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regrow.errors import InputError

if TYPE_CHECKING:
    from regrow.laws.law import Law


def law_source(law: str | None, named: str | None) -> str:
    """The law file, or the name of the law that is shipped. Raises `InputError` unless one of the two is given."""
    if (law is None) == (named is None):
        wrong = "no law" if law is None else "a law file and --law"
        raise InputError(wrong, hint="give a law file, or --law reference")
    return str(law if named is None else named)


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
