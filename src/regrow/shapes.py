"""From a pruning rate to the shape that pruning leaves: pure searches over architectures. Light: no torch.

The rate of a shape is 1 - its parameters / the original's, totals with tied embeddings counted once.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.methods import DEPTH, EXPERTS, WIDTH, parse_pattern
from regrow.units import parse_count
from regrow.whole_units import (
    ACTIVE,
    PARAMS,
    Counted,
    check_dense,
    check_experts,
    experts_for_rate,
    infeasible,
    layers_for_rate,
    rate_between,
)

__all__ = [
    "ACTIVE",
    "PARAMS",
    "RATE_TOLERANCE",
    "SHAPE_AXES",
    "Counted",
    "Pruned",
    "check_dense",
    "check_experts",
    "experts_for_rate",
    "explicit_shape",
    "hidden_step",
    "intermediate_step",
    "kv_step",
    "layers_for_rate",
    "parse_shape",
    "prune_shape",
    "rate_between",
    "shape_for_rate",
    "shape_of_sizes",
    "shapes_for_rate",
]

#: The sizes that each method changes, named as in `Architecture`.
SHAPE_AXES: dict[str, tuple[str, ...]] = {
    DEPTH: ("layers",),
    WIDTH: ("hidden", "intermediate", "kv_heads"),
    EXPERTS: ("experts",),
}

#: How far the rate of a width-pruned shape may lie from the target.
RATE_TOLERANCE = 0.005

#: The hidden width of a mixture of experts is a multiple of this: torch multiplies the experts' matrices together, and
#: takes rows of whole 16 bytes, 8 numbers in bf16.
EXPERTS_UNIT = 8

#: Proportions of the axes this much further apart than the best are as good: their rate decides.
EVEN_ENOUGH = 0.02

#: The size of a shape: its parameters, or the bytes that it takes. It grows with every axis, and the feed-forward width
#: adds to it in proportion.
Size = Callable[[Architecture], float]


class Pruned(NamedTuple):
    """What pruning leaves: the shape that multiplies, the parameters that count (for N:M the non-zero ones), and the
    pruning rate they make."""

    architecture: Architecture
    params: int
    rate: float


def prune_shape(before: Architecture, method: str, rate: float | None) -> Pruned | None:
    """What a study makes of an architecture (`regrow prune --search 1`); None for a method of no known shape (runs from
    elsewhere).

    `rate` is the one asked for; the one reached is that of whole blocks (`depth`), channels (`width`) or experts
    (`experts`). For N:M it follows from the pattern and `rate` is not looked at.

    Raises `InputError` if no shape reaches the rate.
    """
    pattern = parse_pattern(method)
    if pattern is not None:
        n, m = pattern
        check_dense(before, method)
        params = before.params - before.layers * before.block_matrix_params // m * (m - n)
        return Pruned(before, params, 1 - params / before.params)
    if method not in (DEPTH, WIDTH, EXPERTS):
        return None
    if rate is None:
        raise InputError(f"{method} pruning needs a pruning rate", hint="give the fraction of parameters removed")
    if method == EXPERTS:
        after = experts_for_rate(before, rate)
    else:
        after = layers_for_rate(before, rate) if method == DEPTH else shape_for_rate(before, rate)
    return Pruned(after, after.params, rate_between(before, after))


def shape_for_rate(
    before: Architecture,
    rate: float,
    *,
    axes: Sequence[str] | None = None,
    multiple_of: int | None = None,
    tolerance: float = RATE_TOLERANCE,
) -> Architecture:
    """The width-pruned architecture for a rate.

    Rule: of the shapes on the grid whose rate lies within `tolerance` of the target, those that shrink the chosen axes
    most nearly by the same proportion (least difference between the largest and the smallest log of new width over
    old, to within `EVEN_ENOUGH`), and of these the nearest to the rate. Without `axes` the axes are `hidden` and
    `intermediate`, those left out that transformers can't build narrower (`Architecture.fixed_axes`).

    The grid, in powers of two from 2 to 128: the feed-forward width moves by the largest not above a 64th of it, the
    hidden width by the largest not above a 16th, kept a multiple of the number of query heads where transformers
    demands it (Llama, Gemma-2, Gemma-3); KV groups, each with its query heads, by the largest not above an 8th, at
    least one. So 14336 and 4096 move by 128, tiny widths of 112 and 48 by 2 and 4. Where no shape on it is within the
    tolerance, finer feed-forward steps are tried, down to 2 (finer hidden ones where the feed-forward width stays), and
    then, unless `axes` are given, fewer KV groups. With `multiple_of` both widths are multiples of it (and of the query
    heads, for those), and no finer step is tried.

    Raises `InputError` naming the nearest rates that exist if none is within the tolerance.
    """
    return shapes_for_rate(before, rate, 1, axes=axes, multiple_of=multiple_of, tolerance=tolerance)[0]


def shapes_for_rate(
    before: Architecture,
    rate: float,
    count: int,
    *,
    axes: Sequence[str] | None = None,
    multiple_of: int | None = None,
    tolerance: float = RATE_TOLERANCE,
    counted: Counted = PARAMS,
) -> list[Architecture]:
    """Up to `count` width-pruned architectures for a rate that differ in the proportions of their axes.

    The first is the one of `shape_for_rate`. The others, of the same grid and tolerance, spread evenly between the
    two ends: the one that takes most from the hidden width and the one that takes least; no axis is cut to less
    than half of what the even shape leaves of it. The rate is a share of what is `counted`. Raises as
    `shape_for_rate` does.
    """
    choices = _free_axes(before) if axes is None else (_checked_free(before, axes),)
    size = counted.of
    full = size(before)
    slack = tolerance * full + 1  # a parameter more than asked: the exact test is on the rate, below
    least, most = (1 - rate) * full - slack, (1 - rate) * full + slack
    tried: tuple[Sequence[str], int, int | None] = choices[0], 2, multiple_of
    for allowed in choices:
        for fine, of_hidden in _steps(before, allowed, multiple_of):
            tried = allowed, fine, of_hidden
            grid = _grid(before, *tried, least, most, size)
            close = [widths for widths in grid if abs(1 - widths.size / full - rate) <= tolerance]
            if close:
                wanted = (1 - rate) * full
                even = _most_even(before, close, allowed, wanted)
                chosen = [even, *(_spread(close, even, count - 1, wanted) if count > 1 else [])]
                return [_narrowed(before, widths) for widths in chosen]
    reached = (1 - widths.size / full for widths in _grid(before, *tried, size=size))
    raise infeasible(full, counted.unit, rate, reached, where="width")


def _steps(before: Architecture, axes: Sequence[str], multiple_of: int | None) -> Iterator[tuple[int, int | None]]:
    """Steps of the feed-forward width to try, and those of the hidden width where they are not the rule's.

    Where the feed-forward width stays as it is, the hidden width moves by finer steps in its place.
    """
    if multiple_of is not None:
        yield multiple_of, multiple_of
    elif "intermediate" in axes or "hidden" not in axes:
        yield from ((step, None) for step in _halved(intermediate_step(before)))
    else:
        yield from ((2, step) for step in _halved(hidden_step(before)))


def _halved(step: int) -> Iterator[int]:
    """A step, its half and so on, down to 2."""
    while step >= 2:
        yield step
        step //= 2


def _free_axes(before: Architecture) -> tuple[Sequence[str], ...]:
    """The axes to shrink where none are named, in the order in which they are tried."""
    if before.square:  # channels go with KV groups, which go last
        return ("intermediate",), ("hidden", "intermediate", "kv_heads")
    free = tuple(axis for axis in ("hidden", "intermediate") if axis not in before.fixed_axes)
    return (free, (*free, "kv_heads"))


def _checked_free(before: Architecture, axes: Sequence[str]) -> Sequence[str]:
    """These axes. Raises `InputError` for one that transformers can't build narrower."""
    for axis in axes:
        if axis in before.fixed_axes:
            raise InputError(
                f"{axis} can't shrink in a {before.model_type}: {before.family.fixed_because}",
                where="axes",
                hint="prune the feed-forward width: intermediate",
            )
    if before.square and ("hidden" in axes) != ("kv_heads" in axes):
        alone = "hidden" if "hidden" in axes else "kv_heads"
        raise InputError(
            f"{alone} can't shrink alone in this {before.model_type}: {before.family.square_because}",
            where="axes",
            hint="prune hidden and kv_heads together, or the feed-forward width: intermediate",
        )
    return axes


class _Widths(NamedTuple):
    size: float
    hidden: int
    intermediate: int
    kv_heads: int


def hidden_step(arch: Architecture) -> int:
    """Channels the hidden width moves by; see `shape_for_rate`."""
    steps = [math.lcm(_hidden_unit(arch), 2**k) for k in range(7, 0, -1)]
    return next((step for step in steps if step <= arch.hidden // 16), steps[-1])


def _hidden_unit(arch: Architecture) -> int:
    return arch.heads if arch.family.hidden_divides_by_heads else EXPERTS_UNIT if arch.experts else 1


def intermediate_step(arch: Architecture) -> int:
    """Neurons the feed-forward width moves by; see `shape_for_rate`."""
    return next((2**k for k in range(7, 0, -1) if 2**k <= arch.intermediate // 64), 2)


def kv_step(arch: Architecture) -> int:
    """KV heads that go together; see `shape_for_rate`."""
    return next((2**k for k in range(7, 0, -1) if 2**k <= arch.kv_heads // 8), 1)


def _sizes(full: int, step: int, free: bool) -> list[int]:
    """Widths to choose from, the full one first."""
    return [full, *range((full - 1) // step * step, 0, -step)] if free else [full]


def _grid(
    before: Architecture,
    axes: Sequence[str],
    fine: int,
    multiple_of: int | None = None,
    least: float = 0.0,
    most: float = math.inf,
    size: Size = PARAMS.of,
) -> Iterator[_Widths]:
    """Every shape on the grid, but the original, whose `size` is `least` to `most`; `fine` is the step of the
    feed-forward width, `multiple_of` that of the hidden width where it is not the rule's."""
    widths, full = _sizes(before.intermediate, fine, "intermediate" in axes), size(before)
    for kv_heads, hidden, one, per_neuron in _lines(before, tuple(axes), multiple_of, size):
        for width in _between(widths, 1 + (least - one) / per_neuron, 1 + (most - one) / per_neuron):
            reached = one + (width - 1) * per_neuron
            if reached < full:
                yield _Widths(reached, hidden, width, kv_heads)


@lru_cache(maxsize=128)
def _lines(
    before: Architecture, axes: tuple[str, ...], multiple_of: int | None, size: Size
) -> list[tuple[int, int, float, float]]:
    """KV heads, hidden width, size with one neuron and size of a neuron, of every pair on the grid. Sizes are linear in
    the feed-forward width: two of them give all, for every rate that is asked of this model."""
    lines = []
    for kv_heads in _sizes(before.kv_heads, kv_step(before), "kv_heads" in axes):
        heads = kv_heads * (before.heads // before.kv_heads)
        square = {"hidden": heads * before.head_dim} if before.square else {}
        attention = before.with_shape(kv_heads=kv_heads, heads=heads, **square)
        step = hidden_step(attention) if multiple_of is None else math.lcm(_hidden_unit(attention), multiple_of)
        hiddens = [*square.values()] or _sizes(before.hidden, step, "hidden" in axes)
        # with fewer heads the full width may itself be off the grid; it stays allowed where transformers takes it
        if before.family.hidden_divides_by_heads:
            hiddens = [hidden for hidden in hiddens if hidden % heads == 0]
        for hidden in hiddens:
            one, two = (size(attention.with_shape(hidden=hidden, intermediate=width)) for width in (1, 2))
            lines.append((kv_heads, hidden, one, two - one))
    return lines


def _between(widths: Sequence[int], low: float, high: float) -> Sequence[int]:
    """The part of falling `widths` that lies in [low, high], or one more at either end."""
    first = bisect_left(widths, -high, key=lambda width: -width)
    last = bisect_right(widths, -low, key=lambda width: -width)
    return widths[max(first - 1, 0) : last + 1]


def _unevenness(before: Architecture, widths: _Widths, axes: Sequence[str]) -> float:
    shares = [math.log(getattr(widths, axis) / getattr(before, axis)) for axis in axes]
    return max(shares) - min(shares)


def _most_even(before: Architecture, close: Sequence[_Widths], axes: Sequence[str], wanted: float) -> _Widths:
    unevenness = {widths: _unevenness(before, widths, axes) for widths in close}
    best = min(unevenness.values())
    even = [widths for widths in close if unevenness[widths] <= best + EVEN_ENOUGH]
    return min(even, key=lambda widths: (abs(widths.size - wanted), unevenness[widths]))


def _narrowed(before: Architecture, widths: _Widths) -> Architecture:
    return before.with_shape(
        hidden=widths.hidden,
        intermediate=widths.intermediate,
        kv_heads=widths.kv_heads,
        heads=widths.kv_heads * (before.heads // before.kv_heads),
    )


def _spread(close: Sequence[_Widths], even: _Widths, count: int, wanted: float) -> list[_Widths]:
    """`count` of the shapes, without the even one, as different from it and each other as the grid allows."""
    # one shape per pair of hidden width and KV heads: that with the feed-forward width that comes nearest to the size
    nearest: dict[tuple[int, int], _Widths] = {}
    for widths in close:
        if any(2 * getattr(widths, axis) < getattr(even, axis) for axis in ("hidden", "intermediate", "kv_heads")):
            continue
        place = widths.kv_heads, widths.hidden
        best = nearest.get(place)
        if best is None or abs(widths.size - wanted) < abs(best.size - wanted):
            nearest[place] = widths
    nearest.pop((even.kv_heads, even.hidden), None)
    others = [nearest[place] for place in sorted(nearest)]
    if len(others) <= count:
        return others
    if count == 1:
        return [others[-1]]
    return [others[round(k * (len(others) - 1) / (count - 1))] for k in range(count)]


def explicit_shape(before: Architecture, sizes: Mapping[str, int]) -> Architecture:
    """The architecture with the sizes asked for: `layers` or `experts` alone, or any of the widths.

    Query heads follow their KV heads, and in a square model the hidden width follows both. Raises `InputError` for a
    size above the model's, for a shape that is the whole model, and for a hidden width that transformers would refuse,
    naming the two nearest that it takes.
    """
    if "experts" in sizes:
        check_experts(before)
    for axis, size in sizes.items():
        full = getattr(before, axis)
        if not 1 <= size <= full:
            raise InputError(f"{axis}={size}: the model has {full}", where="shape", hint=f"give 1 to {full}")
    if before.square and "kv_heads" in sizes:
        sizes = {"hidden": sizes["kv_heads"] * (before.hidden // before.kv_heads), **sizes}
    _checked_free(before, [axis for axis, size in sizes.items() if size < getattr(before, axis)])
    follow = {"heads": sizes["kv_heads"] * (before.heads // before.kv_heads)} if "kv_heads" in sizes else {}
    after = before.with_shape(**sizes, **follow)
    if after == before:
        raise InputError("this is the whole model's shape", where="shape", hint="make at least one size smaller")
    unit = _hidden_unit(after)
    if after.hidden % unit:
        below = after.hidden // unit * unit
        near = [str(size) for size in (below, below + unit) if 0 < size <= before.hidden]
        heads = f"does not divide over {unit} query heads, which transformers demands of {after.model_type}"
        why = f"is not a multiple of {unit}, which torch demands of experts" if after.experts else heads
        raise InputError(f"hidden={after.hidden} {why}", where="shape", hint=f"nearest: {' and '.join(near)}")
    return after


def shape_of_sizes(before: Architecture, method: str, sizes: Mapping[str, int]) -> Pruned:
    """What pruning leaves where the sizes are given instead of a rate, those of `SHAPE_AXES`.

    Raises `InputError` for sizes that the method does not change, and as `explicit_shape` does.
    """
    axes = SHAPE_AXES.get(method, ())
    stray = [axis for axis in sizes if axis not in axes]
    if stray:
        takes = f"{method} takes {', '.join(axes)}" if axes else f"{method} has no sizes to set: leave the shape out"
        raise InputError(f"{', '.join(stray)} for {method} pruning", where="shape", hint=takes)
    after = explicit_shape(before, sizes)
    return Pruned(after, after.params, rate_between(before, after))


def parse_shape(text: str) -> dict[str, int]:
    """`hidden=768,intermediate=2048` -> {"hidden": 768, "intermediate": 2048}. Raises `InputError` for other text."""
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, equals, size = (piece.strip() for piece in part.partition("="))
        if not equals or not axis or axis in sizes:
            raise InputError(
                f"{text!r} is not a shape",
                where="shape",
                hint="write it like layers=24 or hidden=768,intermediate=2048",
            )
        sizes[axis] = parse_count(size, what=f"shape, {axis}")
    return sizes
