"""What a pruned model has lost, in words, and the shapes beside it. Light."""

from __future__ import annotations

from regrow.errors import InputError
from regrow.methods import DEPTH_AND_WIDTH, parse_pattern
from regrow.planning.cost import PrunedModel

#: A rate this near to the one asked for is the one asked for; a block of 32 is 0.03 of a model.
_SAME_RATE = 2e-3
#: How far a rate given for N:M sparsity may lie from the one that the pattern makes of a known shape.
_RATE_SLACK = 0.005
_WIDTHS = {"hidden": "hidden channels", "intermediate": "feed-forward neurons", "kv_heads": "KV heads"}


def what_goes(model: PrunedModel) -> str | None:
    """The part that pruning removes: "9 of 32 blocks", or widths before and after; None where no shape is known."""
    before, after = model.before, model.after
    if before is None or after is None:
        return None
    pattern = parse_pattern(model.method)
    if pattern is not None:
        n, m = pattern
        return f"{m - n} of every {m} weights in the blocks' matrices"
    blocks = [f"{before.layers - after.layers} of {before.layers} blocks"] if after.layers < before.layers else []
    if after.experts < before.experts:
        return f"{before.experts - after.experts} of {before.experts} experts of every block"
    sizes = {axis: (getattr(before, axis), getattr(after, axis)) for axis in _WIDTHS}
    cut = [f"{_WIDTHS[axis]} {old:,} -> {new:,}" for axis, (old, new) in sizes.items() if new < old]
    return ", ".join([*blocks, *cut]) or None


def shapes_beside(model: PrunedModel, asked: float | None) -> str | None:
    """Where the rate asked for lies between shapes: the one taken and its neighbours; None where it is reached."""
    before, after = model.before, model.after
    if asked is None or before is None or after is None or abs(model.pruning_rate - asked) <= _SAME_RATE:
        return None
    if after.layers == before.layers or model.method == DEPTH_AND_WIDTH:
        return f"{model.pruning_rate:.3g} for the {asked:g} asked for"
    from regrow.shapes import rate_between  # a size alone needs no shapes, and starts without them

    near = []
    for layers in (after.layers + 1, after.layers - 1):
        if 0 < layers < before.layers:
            rate = rate_between(before, before.with_shape(layers=layers))
            near.append(f"{before.layers - layers} would be {rate:.3g} (--layers {layers})")
    gone = before.layers - after.layers
    taken = f"{gone} block{'' if gone == 1 else 's'} ({model.pruning_rate:.3g})"
    return ", ".join([f"{taken} for the {asked:g} asked for", *near])


def check_pattern_rate(method: str, asked: float, reached: float) -> None:
    """Raise `InputError` for a rate asked of N:M sparsity that the pattern does not make of a known shape."""
    if abs(reached - asked) > _RATE_SLACK:
        raise InputError(
            f"pruning rate {asked:g}",
            where=method,
            hint=f"the pattern removes {reached:.3g} of this model: leave the rate out",
        )
