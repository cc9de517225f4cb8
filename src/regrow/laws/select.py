"""Which law of a file is asked: by family, method and benchmark."""

from __future__ import annotations

from collections.abc import Sequence

from regrow.errors import InputError, one_of
from regrow.laws.law import Law
from regrow.methods import NAMED, is_named


def select_law(laws: list[Law], family: str | None = None, method: str | None = None, score: str | None = None) -> Law:
    """The one law of this family and method, and of this benchmark's score (`mean` for that of several).

    For a method of regrow's that has no runs, and for `any`, it is the law over the methods that have
    (`regrow.laws.pooled.unseen`).

    Raises `InputError` listing what there is if none fits, or if several do because one of the two was not given.
    """
    if not laws:
        raise InputError("no law", where="laws", hint="fit one first")
    if family is not None:
        one_of(family, sorted({law.family for law in laws}), what="family", where="laws")
    found = [law for law in laws if family in (None, law.family)]
    found = found if method is None else laws_of_method(found, method)
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


def laws_of_method(laws: Sequence[Law], method: str) -> list[Law]:
    """The laws of a method.

    Raises `InputError` for one without runs that is not regrow's, or that the laws can't tell of.
    """
    known = sorted({law.method for law in laws})
    if method in known:
        return [law for law in laws if law.method == method]
    if not is_named(method):
        one_of(method, dict.fromkeys([*known, *NAMED]), what="method", where="laws")
    from regrow.laws.pooled.unseen import law_without_runs  # only a method without runs pays for it

    groups: dict[tuple[str, str, str, str], list[Law]] = {}
    for law in laws:
        groups.setdefault((law.family, law.target, law.baseline, law.loss_kind), []).append(law)
    return [law_without_runs(group, method) for group in groups.values()]
