"""What to prune in depth and width together, and the mixes that meet it. Light: no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.footprint import MemoryTarget
from regrow.methods import DEPTH_AND_WIDTH
from regrow.mixes import MIXES, MixTarget, mixed_shapes
from regrow.pruning.plan import PrunePlan
from regrow.shapes import rate_between
from regrow.units import check_rate, plural, read_fields


@dataclass(frozen=True, kw_only=True)
class JointSpec:
    """What to prune in depth and width together.

    Attributes:
        rate, params, active_params, memory: the target, one of them; see `PruneSpec`.
        mixes: how many mixes are tried.
        calibration_blocks, calibration_length, seed: of the text that scores and losses are measured on.

    Raises `InputError` for anything that cannot be.
    """

    rate: float | None = None
    params: int | None = None
    active_params: int | None = None
    memory: MemoryTarget | None = None
    mixes: int = MIXES
    calibration_blocks: int = 32
    calibration_length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        read_fields(self, counts=("params", "active_params", "mixes"), numbers=("rate",), where=DEPTH_AND_WIDTH)
        if self.rate is not None:
            check_rate(self.rate, where="rate")
        _ = self.target
        if self.mixes < 2:
            raise InputError(
                plural(self.mixes, "mix", "mixes"), where=DEPTH_AND_WIDTH, hint="give at least 2 to choose from"
            )

    @property
    def target(self) -> MixTarget:
        """What every mix must meet."""
        return MixTarget(rate=self.rate, params=self.params, active_params=self.active_params, memory=self.memory)


@dataclass(frozen=True, kw_only=True)
class Mix:
    """A mix: the blocks that stay, the shape that is left, and its loss on the calibration text (nats/token)."""

    layers: int
    after: Architecture
    pruning_rate: float
    loss: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        sizes = {name: getattr(self.after, name) for name in ("layers", "hidden", "intermediate", "kv_heads", "params")}
        if self.after.experts:
            sizes["active_params"] = self.after.active_params
        return {**sizes, "pruning_rate": self.pruning_rate, "loss": self.loss}


def mixes_of(before: Architecture, spec: JointSpec) -> list[Mix]:
    """The mixes that meet a target, width alone first. Raises `InputError` if none does."""
    return [
        Mix(layers=after.layers, after=after, pruning_rate=rate_between(before, after))
        for after in mixed_shapes(before, spec.target, spec.mixes)
    ]


@dataclass(frozen=True, kw_only=True)
class JointPlan:
    """The mixes that were tried, in their order, and the one that was taken; None for what was not measured."""

    before: Architecture
    mixes: tuple[Mix, ...]
    chosen: Mix | None = None
    steps: tuple[PrunePlan, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "method": DEPTH_AND_WIDTH,
            "params_before": self.before.params,
            "mixes": [mix.to_dict() for mix in self.mixes],
            "chosen": None if self.chosen is None else self.chosen.to_dict(),
        }
