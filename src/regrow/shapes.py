"""From a pruning rate to the shape that pruning leaves: pure searches over architectures. Light: no torch.

The rate of a shape is 1 - its parameters / the original's, totals with tied embeddings counted once.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.methods import DEPTH, WIDTH, parse_pattern

#: How far the rate of a width-pruned shape may lie from the target.
RATE_TOLERANCE = 0.005

#: Proportions of the axes this much further apart than the best are as good: their rate decides.
EVEN_ENOUGH = 0.02

#: Model types whose transformers config refuses a hidden size that the number of query heads does not divide.
_HIDDEN_DIVIDES_BY_HEADS = ("llama",)


class Pruned(NamedTuple):
    """What pruning leaves: the shape that multiplies, the parameters that count (for N:M the non-zero ones), and the
    pruning rate they make."""

    architecture: Architecture
    params: int
    rate: float


def prune_shape(before: Architecture, method: str, rate: float | None) -> Pruned | None:
    """What `regrow prune` makes of an architecture; None for a method of no known shape (runs from elsewhere).

    `rate` is the one asked for; the one reached is that of whole blocks (`depth`) or whole channels (`width`). For N:M
    it follows from the pattern and `rate` is not looked at.

    Raises `InputError` if no shape reaches the rate.
    """
    pattern = parse_pattern(method)
    if pattern is not None:
        n, m = pattern
        params = before.params - before.layers * before.block_matrix_params // m * (m - n)
        return Pruned(before, params, 1 - params / before.params)
    search = {DEPTH: layers_for_rate, WIDTH: shape_for_rate}.get(method)
    if search is None:
        return None
    if rate is None:
        raise InputError(f"{method} pruning needs a pruning rate", hint="give the fraction of parameters removed")
    after = search(before, rate)
    return Pruned(after, after.params, rate_between(before, after))


def rate_between(before: Architecture, after: Architecture) -> float:
    """The pruning rate from one architecture to another."""
    return 1 - after.params / before.params


def layers_for_rate(before: Architecture, rate: float) -> Architecture:
    """The architecture with as many blocks dropped as come nearest to the rate; at least one goes and one stays.

    Raises `InputError` naming the nearest rates if the rate is more than half a block away from all of them.
    """
    if before.layers < 2:
        raise InputError("the model has one block", where="depth", hint="it cannot be pruned in depth")
    shapes = [before.with_shape(layers=layers) for layers in range(before.layers - 1, 0, -1)]
    nearest = min(shapes, key=lambda shape: abs(rate_between(before, shape) - rate))
    half_a_block = 0.5 * before.block_params / before.params
    # the slack keeps a rate exactly half-way out of the hands of rounding
    if abs(rate_between(before, nearest) - rate) > half_a_block * (1 + 1e-9):
        raise _infeasible(rate, (rate_between(before, shape) for shape in shapes), where="depth")
    return nearest


def shape_for_rate(
    before: Architecture,
    rate: float,
    *,
    axes: Sequence[str] | None = None,
    tolerance: float = RATE_TOLERANCE,
) -> Architecture:
    """The width-pruned architecture for a rate.

    Rule: of the shapes on the grid whose rate lies within `tolerance` of the target, those that shrink the chosen axes
    most nearly by the same proportion (least difference between the largest and the smallest log of new width over
    old, to within `EVEN_ENOUGH`), and of these the nearest to the rate. Without `axes` the axes are `hidden` and
    `intermediate`.

    The grid, in powers of two from 2 to 128: the feed-forward width moves by the largest not above a 64th of it, the
    hidden width by the largest not above a 16th, kept a multiple of the number of query heads where transformers
    demands it (Llama); KV groups, each with its query heads, by the largest not above an 8th, at least one. So 14336
    and 4096 move by 128, tiny widths of 112 and 48 by 2 and 4. Where no shape on it is within the tolerance, finer
    feed-forward steps are tried, down to 2, and then, unless `axes` are given, fewer KV groups.

    Raises `InputError` naming the nearest rates that exist if none is within the tolerance.
    """
    default = ("hidden", "intermediate")
    slack = tolerance * before.params + 1  # a parameter more than asked: the exact test is on the rate, below
    least, most = (1 - rate) * before.params - slack, (1 - rate) * before.params + slack
    tried: tuple[Sequence[str], int] = default, 2
    for allowed in (default, (*default, "kv_heads")) if axes is None else (axes,):
        step = intermediate_step(before)
        while step >= 2:
            tried = allowed, step
            grid = _grid(before, allowed, step, least, most)
            close = [widths for widths in grid if abs(_rate(before, widths) - rate) <= tolerance]
            if close:
                return _narrowed(before, _most_even(before, close, allowed, rate))
            step //= 2
    raise _infeasible(rate, (_rate(before, widths) for widths in _grid(before, *tried)), where="width")


class _Widths(NamedTuple):
    params: int
    hidden: int
    intermediate: int
    kv_heads: int


def hidden_step(arch: Architecture) -> int:
    """Channels the hidden width moves by; see `shape_for_rate`."""
    unit = arch.heads if arch.model_type in _HIDDEN_DIVIDES_BY_HEADS else 1
    powers = [2**k for k in range(7, 0, -1)]
    steps = [math.lcm(unit, power) for power in powers]
    return next((step for step in steps if step <= arch.hidden // 16), steps[-1])


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
    before: Architecture, axes: Sequence[str], fine: int, least: float = 0.0, most: float = math.inf
) -> Iterator[_Widths]:
    """Every shape on the grid, but the original, of `least` to `most` parameters.

    `fine` is the step of the feed-forward width.
    """
    widths = _sizes(before.intermediate, fine, "intermediate" in axes)
    for kv_heads in _sizes(before.kv_heads, kv_step(before), "kv_heads" in axes):
        heads = kv_heads * (before.heads // before.kv_heads)
        attention = before.with_shape(kv_heads=kv_heads, heads=heads)
        step = hidden_step(attention)
        hiddens = _sizes(before.hidden, step, "hidden" in axes)
        # with fewer heads the full width may itself be off the grid; it stays allowed where transformers takes it
        if before.model_type in _HIDDEN_DIVIDES_BY_HEADS:
            hiddens = [hidden for hidden in hiddens if hidden % heads == 0]
        for hidden in hiddens:
            # parameters are linear in the feed-forward width: two counts give all of them
            one, two = (attention.with_shape(hidden=hidden, intermediate=width).params for width in (1, 2))
            per_neuron = two - one
            for width in _between(widths, 1 + (least - one) / per_neuron, 1 + (most - one) / per_neuron):
                params = one + (width - 1) * per_neuron
                if params < before.params:
                    yield _Widths(params, hidden, width, kv_heads)


def _between(widths: Sequence[int], low: float, high: float) -> Sequence[int]:
    """The part of falling `widths` that lies in [low, high], or one more at either end."""
    first = bisect_left(widths, -high, key=lambda width: -width)
    last = bisect_right(widths, -low, key=lambda width: -width)
    return widths[max(first - 1, 0) : last + 1]


def _rate(before: Architecture, widths: _Widths) -> float:
    return 1 - widths.params / before.params


def _unevenness(before: Architecture, widths: _Widths, axes: Sequence[str]) -> float:
    shares = [math.log(getattr(widths, axis) / getattr(before, axis)) for axis in axes]
    return max(shares) - min(shares)


def _most_even(before: Architecture, close: Sequence[_Widths], axes: Sequence[str], rate: float) -> _Widths:
    unevenness = {widths: _unevenness(before, widths, axes) for widths in close}
    best = min(unevenness.values())
    even = [widths for widths in close if unevenness[widths] <= best + EVEN_ENOUGH]
    return min(even, key=lambda widths: (abs(_rate(before, widths) - rate), unevenness[widths]))


def _narrowed(before: Architecture, widths: _Widths) -> Architecture:
    return before.with_shape(
        hidden=widths.hidden,
        intermediate=widths.intermediate,
        kv_heads=widths.kv_heads,
        heads=widths.kv_heads * (before.heads // before.kv_heads),
    )


def _infeasible(rate: float, feasible: Iterable[float], *, where: str) -> InputError:
    rates = sorted(set(feasible))
    below = [f"{r:.4f}" for r in rates if r < rate][-1:]
    above = [f"{r:.4f}" for r in rates if r > rate][:1]
    # beyond an end, the two at that end are the nearest
    named = below + above if below and above else [f"{r:.4f}" for r in (rates[:2] if above else rates[-2:])]
    if not named:
        return InputError(f"no shape of this model reaches rate {rate}", where=where, hint="allow other axes")
    return InputError(
        f"no shape of this model reaches rate {rate}", where=where, hint=f"nearest rates: {' and '.join(named)}"
    )
