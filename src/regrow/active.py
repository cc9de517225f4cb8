"""Shapes by what a token costs: the parameters that it is computed with in a mixture of experts. Light: no torch.

A mixture has more parameters than a token uses: of the experts it is routed to a few (`Architecture.active_params`).
Blocks and hidden channels lower both counts. Experts lower the parameters of a token by their rows of the router alone,
as it is routed to as many experts as before.
"""

from __future__ import annotations

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.methods import DEPTH, EXPERTS, WIDTH
from regrow.shapes import (
    ACTIVE,
    RATE_TOLERANCE,
    Pruned,
    check_experts,
    experts_for_rate,
    layers_for_rate,
    rate_between,
    shapes_for_rate,
)
from regrow.units import format_count

_WHERE = "--active-params"


def shape_for_active(before: Architecture, method: str, active: float) -> Pruned:
    """The shape that leaves a token the nearest to so many parameters. Raises as `shapes_for_active` does."""
    after = shapes_for_active(before, method, active)[0]
    return Pruned(after, after.params, rate_between(before, after))


def shapes_for_active(
    before: Architecture,
    method: str,
    active: float,
    count: int = 1,
    *,
    axes: tuple[str, ...] | None = None,
    multiple_of: int | None = None,
    strict: bool = False,
) -> list[Architecture]:
    """Shapes that leave a token about so many parameters: the nearest whole blocks or experts, or up to `count` widths.

    The rules are those of a rate (`regrow.shapes`), counted on the parameters of a token. `strict` refuses blocks that
    miss the target by more than `RATE_TOLERANCE`.

    Raises `InputError` for a dense model, for a method that keeps every size, for a target that is not below what the
    model has, and for one that no shape meets, with the nearest.
    """
    check_active(before, active)
    rate = 1 - active / before.active_params
    if method == DEPTH:
        return [layers_for_rate(before, rate, tolerance=RATE_TOLERANCE if strict else None, counted=ACTIVE)]
    if method == WIDTH:
        return shapes_for_rate(before, rate, count, axes=axes, multiple_of=multiple_of, counted=ACTIVE)
    if method == EXPERTS:
        check_experts(before)
        least = before.with_shape(experts=max(1, before.active_experts)).active_params
        if active < least:
            raise InputError(
                f"{format_count(active)} parameters of a token by removing experts: it stays with "
                f"{format_count(least)} or more, as it is routed to as many experts as before",
                where=_WHERE,
                hint="prune the depth or the width, or give --params",
            )
        return [experts_for_rate(before, rate, counted=ACTIVE)]
    raise InputError(f"given with {method}", where=_WHERE, hint="depth and width lower the parameters of a token")


def check_active(before: Architecture, active: float) -> None:
    """Raise `InputError` for a dense model, and for a target that is not below the parameters of a token."""
    if not before.experts:
        raise InputError(
            "the model has no experts: every token is computed with all of its parameters",
            where=_WHERE,
            hint="give the parameters to leave, --params, or a rate",
        )
    if active >= before.active_params:
        raise InputError(
            f"{format_count(active)} parameters of a token asked of a model that has "
            f"{format_count(before.active_params)}",
            where=_WHERE,
            hint="give fewer",
        )
