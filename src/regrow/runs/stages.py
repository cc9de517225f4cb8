"""What each turn of a run did that prunes and trains in turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One turn of pruning, and of training after it.

    Attributes:
        pruning_rate: reached, as a share of the unpruned model.
        params_after: parameters that this pruning left.
        tokens: trained on before this pruning; 0 for the first stage.
        loss_start: held-out loss just before this pruning, nats/token; for the first stage that of the unpruned model.
        loss_pruned: held-out loss right after it, nats/token.
    """

    pruning_rate: float
    params_after: int
    tokens: int
    loss_start: float
    loss_pruned: float

    @property
    def damage(self) -> float:
        """What this pruning cost at once, nats/token: G0 of the stage."""
        return self.loss_pruned - self.loss_start


def read_stages(stages: Any) -> tuple[Stage, ...]:
    """Stages, or plain data of them. Raises `TypeError` or `ValueError` for what are none."""
    read = tuple(stage if isinstance(stage, Stage) else Stage(**dict(stage)) for stage in stages or ())
    if any(one.pruning_rate >= two.pruning_rate or one.tokens >= two.tokens for one, two in pairwise(read)):
        raise ValueError("the stages of a run do not rise")
    return read


def plain_stages(stages: tuple[Stage, ...]) -> list[Mapping[str, Any]]:
    """Plain data, for a record."""
    return [asdict(stage) for stage in stages]
