"""From a pruning rate to what goes whole: blocks of a model, or experts of its blocks. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.units import format_count


def rate_between(before: Architecture, after: Architecture) -> float:
    """The pruning rate from one architecture to another."""
    return 1 - after.params / before.params


def layers_for_rate(before: Architecture, rate: float, *, tolerance: float | None = None) -> Architecture:
    """The architecture with as many blocks dropped as come nearest to the rate; at least one goes and one stays.

    Blocks are whole, so the nearest may be up to half a block away, 1.4 points of the rate for Llama-3.1-8B. Raises
    `InputError` naming the nearest rates if it is further, or further than `tolerance` where one is given.
    """
    if before.layers < 2:
        raise InputError("the model has one block", where="depth", hint="it cannot be pruned in depth; prune its width")
    rates = _rates_of_units(before, before.block_params, before.layers, 1)
    left = _nearest_unit(before, rates, rate, before.block_params, tolerance, where="depth")
    return before.with_shape(layers=left)


def experts_for_rate(before: Architecture, rate: float, *, tolerance: float | None = None) -> Architecture:
    """The architecture with as many experts dropped from every block as come nearest to the rate; at least one goes.

    As many as a token is routed to stay. Raises `InputError` for a dense model, and as `layers_for_rate` does.
    """
    check_experts(before)
    unit = before.layers * (before.expert_params + before.hidden)
    rates = _rates_of_units(before, unit, before.experts, max(1, before.active_experts))
    left = _nearest_unit(before, rates, rate, unit, tolerance, where="experts")
    return before.with_shape(experts=left)


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


def _rates_of_units(before: Architecture, unit: int, full: int, least: int) -> dict[int, float]:
    """The rate for every number of units (blocks, experts) that may stay, if each has as many parameters."""
    return {left: 1 - (before.params - (full - left) * unit) / before.params for left in range(full - 1, least - 1, -1)}


def _nearest_unit(
    before: Architecture, rates: Mapping[int, float], rate: float, unit: int, tolerance: float | None, *, where: str
) -> int:
    """The number of units that comes nearest to the rate. Raises `InputError` if it is half a unit or more away."""
    nearest = min(rates, key=lambda left: abs(rates[left] - rate))
    allowed = 0.5 * unit / before.params
    if tolerance is not None:
        allowed = min(allowed, tolerance)
    # the slack keeps a rate exactly half-way out of the hands of rounding
    if abs(rates[nearest] - rate) > allowed * (1 + 1e-9):
        raise infeasible(before, rate, rates.values(), where=where)
    return nearest


def infeasible(before: Architecture, rate: float, feasible: Iterable[float], *, where: str) -> InputError:
    """The error for a rate that no shape reaches, with the two nearest of the `feasible` ones."""
    rates = sorted(set(feasible))
    below, above = [r for r in rates if r < rate][-1:], [r for r in rates if r > rate][:1]
    # beyond an end, the two at that end are the nearest
    nearest = below + above if below and above else (rates[:2] if above else rates[-2:])
    what = f"no shape of this model reaches rate {rate:.6g} ({_left(before, rate)} parameters)"
    if not nearest:
        return InputError(what, where=where, hint="allow other axes")
    named = " and ".join(f"{r:.4f}" for r in nearest)
    left = " and ".join(_left(before, r) for r in nearest)
    return InputError(what, where=where, hint=f"nearest rates: {named} ({left} parameters)")


def _left(before: Architecture, rate: float) -> str:
    return format_count((1 - rate) * before.params)
