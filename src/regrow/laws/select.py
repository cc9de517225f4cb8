"""Which law of a file is asked: by family, method and benchmark."""

from __future__ import annotations

from regrow.errors import InputError, one_of
from regrow.laws.law import Law


def select_law(laws: list[Law], family: str | None = None, method: str | None = None, score: str | None = None) -> Law:
    """The one law of this family and method, and of this benchmark's score (`mean` for that of several).

    Raises `InputError` listing what there is if none fits, or if several do because one of the two was not given.
    """
    if not laws:
        raise InputError("no law", where="laws", hint="fit one first")
    if family is not None:
        one_of(family, sorted({law.family for law in laws}), what="family", where="laws")
    found = [law for law in laws if family in (None, law.family)]
    if method is not None:
        one_of(method, sorted({law.method for law in found}), what="method", where="laws")
    found = [law for law in found if method in (None, law.method)]
    if score is not None:
        benchmarks = sorted({law.benchmark for law in found if law.benchmark is not None})
        if not benchmarks:
            raise InputError("no law of scores", where="laws", hint="fit one with `regrow fit --score`")
        one_of(score, benchmarks, what="benchmark", where="laws")
        found = [law for law in found if law.benchmark == score]
    if len(found) > 1:
        there = ", ".join(
            f"{law.family} {law.method} ({law.form if law.benchmark is None else law.benchmark})" for law in found
        )
        missing = [
            name
            for name, given, values in (
                ("family", family, {law.family for law in found}),
                ("method", method, {law.method for law in found}),
                ("benchmark with --score", score, {law.target for law in found}),
            )
            if given is None and len(values) > 1
        ]
        what = " and the ".join(missing) or "one form per file"
        raise InputError(f"{len(found)} laws fit", where="laws", hint=f"give the {what}; there are: {there}")
    return found[0]
