"""From a pruning rate to what goes whole: blocks of a model, or experts of its blocks. Light: no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.units import format_count


class Counted(NamedTuple):
    """What a rate is a share of: a number of an architecture that grows with all of its sizes, and its unit."""

    of: Callable[[Architecture], float]
    unit: str


#: All parameters, and those that a token of a mixture of experts is computed with.
PARAMS = Counted(attrgetter("params"), "parameters")
ACTIVE = Counted(attrgetter("active_params"), "active parameters")


def rate_between(before: Architecture, after: Architecture) -> float:
    """The pruning rate from one architecture to another."""
    return 1 - after.params / before.params


def layers_for_rate(
    before: Architecture, rate: float, *, tolerance: float | None = None, counted: Counted = PARAMS
) -> Architecture:
    """The architecture with as many blocks dropped as come nearest to the rate; at least one goes and one stays.

    Blocks are whole, so the nearest may be up to half a block away, 1.4 points of the rate for Llama-3.1-8B. The rate
    is a share of what is `counted`. Raises `InputError` naming the nearest rates if it is further, or further than
    `tolerance` where one is given.
    """
    if before.layers < 2:
        raise InputError("the model has one block", where="depth", hint="it cannot be pruned in depth; prune its width")
    return before.with_shape(layers=_nearest_left(before, "layers", 1, rate, tolerance, counted, where="depth"))


def experts_for_rate(
    before: Architecture, rate: float, *, tolerance: float | None = None, counted: Counted = PARAMS
) -> Architecture:
    """The architecture with as many experts dropped from every block as come nearest to the rate; at least one goes.

    As many as a token is routed to stay. Raises `InputError` for a dense model, and as `layers_for_rate` does.
    """
    check_experts(before)
    least = max(1, before.active_experts)
    return before.with_shape(experts=_nearest_left(before, "experts", least, rate, tolerance, counted, where="experts"))


def check_experts(before: Architecture) -> None:
    """Raises `InputError` for a model without experts that could go."""
    if before.experts <= max(1, before.active_experts):
        what = "has no experts" if not before.experts else "routes every token to all of its experts"
        raise InputError(f"the model {what}", where="experts", hint="prune its depth or width")


def check_dense(before: Architecture, method: str) -> None:
    """Raises `InputError` for a mixture of experts, whose weights are not set to zero."""
    if before.experts:
        raise InputError(
            f"{method} of a mixture of experts is not supported",
            where="method",
            hint="--method experts removes experts",
        )


def _nearest_left(
    before: Architecture, axis: str, least: int, rate: float, tolerance: float | None, counted: Counted, *, where: str
) -> int:
    """The number of blocks or experts (`axis`), at least `least`, that comes nearest to the rate, if one or more go.

    Raises `InputError` if it is half a unit or more away.
    """
    units, full = getattr(before, axis), counted.of(before)
    one = full - counted.of(before.with_shape(**{axis: units - 1}))
    rates = {left: 1 - (full - (units - left) * one) / full for left in range(units - 1, least - 1, -1)}
    nearest = min(rates, key=lambda left: abs(rates[left] - rate))
    allowed = 0.5 * one / full
    if tolerance is not None:
        allowed = min(allowed, tolerance)
    # the slack keeps a rate exactly half-way out of the hands of rounding
    if abs(rates[nearest] - rate) > allowed * (1 + 1e-9):
        raise infeasible(full, counted.unit, rate, rates.values(), where=where)
    return nearest


def infeasible(full: float, unit: str, rate: float, feasible: Iterable[float], *, where: str) -> InputError:
    """The error for a rate that no shape reaches, with the two nearest of the `feasible` ones; `full` is what they are
    shares of, in this unit."""
    rates = sorted(set(feasible))
    below, above = [r for r in rates if r < rate][-1:], [r for r in rates if r > rate][:1]
    # beyond an end, the two at that end are the nearest
    nearest = below + above if below and above else (rates[:2] if above else rates[-2:])

    def left(*rates: float) -> str:
        return f"{' and '.join(format_count((1 - r) * full) for r in rates)} {unit}"

    what = f"no shape of this model reaches rate {rate:.6g} ({left(rate)})"
    if not nearest:
        return InputError(what, where=where, hint="allow other axes")
    named = " and ".join(f"{r:.4f}" for r in nearest)
    return InputError(what, where=where, hint=f"nearest rates: {named} ({left(*nearest)})")
