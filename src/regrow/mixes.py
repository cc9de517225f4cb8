"""Mixes of depth and width: shapes that meet a target with some blocks gone and the rest narrowed. Light: no torch."""

from __future__ import annotations

from dataclasses import dataclass

from regrow.active import check_active
from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.footprint import MemoryTarget, shapes_for_memory
from regrow.methods import DEPTH_AND_WIDTH
from regrow.shapes import ACTIVE, PARAMS, Counted, Pruned, rate_between, shapes_for_rate

#: Mixes tried where nothing else is asked.
MIXES = 5
#: A shape this near to the target, as a share of the parameters, meets it.
_NEAR = 0.005


@dataclass(frozen=True, kw_only=True)
class MixTarget:
    """What the mixes must meet: one of `rate`, `params`, `active_params` and `memory`; see `PruneSpec`.

    Raises `InputError` for none of them, or several.
    """

    rate: float | None = None
    params: float | None = None
    active_params: float | None = None
    memory: MemoryTarget | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) != 1:
            raise InputError(
                f"{' and '.join(given) or 'no target'} given",
                where=DEPTH_AND_WIDTH,
                hint="give a rate, params, active_params or a memory target",
            )

    @property
    def counted(self) -> Counted:
        """What a rate or a count counts: all parameters, or those of a token."""
        return PARAMS if self.active_params is None else ACTIVE

    def left(self, before: Architecture) -> float:
        """What a rate or a count leaves of what is counted."""
        count = self.params if self.active_params is None else self.active_params
        return float(count) if count is not None else (1 - (self.rate or 0.0)) * before.params

    def is_met(self, shape: Architecture, before: Architecture) -> bool:
        """Whether a shape of this model is small enough."""
        if self.memory is not None:
            return self.memory.footprint(shape).total <= self.memory.limit
        of = self.counted.of
        return of(shape) <= self.left(before) + _NEAR * of(before)


def mixed_shapes(before: Architecture, target: MixTarget, count: int = MIXES) -> list[Architecture]:
    """Up to `count` mixes that meet a target, from width alone to depth alone, with numbers of blocks spread evenly.

    Raises `InputError` if none does.
    """
    if target.active_params is not None:
        check_active(before, target.active_params)
    fewest = _fewest_layers(before, target)
    count = min(count, before.layers - fewest + 1)
    steps = {round(before.layers - k * (before.layers - fewest) / max(1, count - 1)) for k in range(count)}
    found: dict[Architecture, None] = {}
    refused: InputError | None = None
    for layers in sorted(steps, reverse=True):
        try:
            found[_narrowed(before, before.with_shape(layers=layers), target)] = None
        except InputError as error:
            refused = error
    if not found and refused is not None:
        raise refused
    return list(found)


def middle_mix(before: Architecture, target: MixTarget) -> Pruned:
    """The mix in the middle: what stands for all where no text chooses one. Raises as `mixed_shapes` does."""
    shapes = mixed_shapes(before, target)
    after = shapes[len(shapes) // 2]
    return Pruned(after, after.params, rate_between(before, after))


def _fewest_layers(before: Architecture, target: MixTarget) -> int:
    """The blocks that depth alone leaves; 1 where it can't meet the target."""
    counts = (layers for layers in range(before.layers - 1, 0, -1))
    return next((layers for layers in counts if target.is_met(before.with_shape(layers=layers), before)), 1)


def _narrowed(before: Architecture, shorter: Architecture, target: MixTarget) -> Architecture:
    """The shape that width leaves of a model with fewer blocks. Raises `InputError` if none meets the target."""
    if shorter != before and target.is_met(shorter, before):
        return shorter
    if target.memory is not None:
        return shapes_for_memory(shorter, target.memory)[0]
    counted = target.counted
    return shapes_for_rate(shorter, 1 - target.left(before) / counted.of(shorter), 1, counted=counted)[0]
