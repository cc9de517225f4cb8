"""What a law file may say: numbers that a fit can give. A file can be written by hand, or be damaged."""

from __future__ import annotations

import math

import numpy as np

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.runs.record import check_name
from regrow.units import plural

#: A spread of log losses, a parameter of its form in natural units and a number of draws above these come from no fit.
_LARGEST_SPREAD, _LARGEST_PARAMETER, _MOST_DRAWS = 10.0, 1e60, 1_000_000


def check_law(law: Law, *, where: str) -> None:
    """Raise `InputError` for names, draws, spreads, counts or ranges that no fit gives."""
    named = f"{where}, {law.family!r} {law.method!r}"[:200]
    for name in ("family", "method"):
        check_name(getattr(law, name), what=name, where=where)
    for name in ("run_spread", "point_spread", "size_spread"):
        value = getattr(law, name)
        if not 0 <= value <= _LARGEST_SPREAD:
            raise InputError(f"{name} is {value:g}", where=named, hint="it is a share of the loss: fit the law again")
    if law.n_runs < 1 or law.n_points < 1:
        raise InputError(
            f"{plural(law.n_points, 'checkpoint')} of {plural(law.n_runs, 'run')}",
            where=named,
            hint="fit the law again",
        )
    if len(law.draws) > _MOST_DRAWS:
        raise InputError(f"{len(law.draws):,} draws", where=named, hint=f"at most {_MOST_DRAWS:,} are read")
    largest = max((float(np.abs(rows).max(initial=0.0)) for rows in (law.draws, *law.sizes.values())), default=0.0)
    largest = max(largest, *(abs(value) for value in law.params.values()))
    if largest > _LARGEST_PARAMETER:
        raise InputError(f"a parameter is {largest:g}", where=named, hint="fit the law again")
    for name, (low, high) in law.ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise InputError(f"the range of {name} is {low:g} to {high:g}", where=named, hint="fit the law again")
