"""Averaged weights, kept beside the ones that train, and read in their place.

At a constant rate the weights oscillate around a point of lower loss, and their average is nearer to it. `ema:d`
keeps the exponential average over optimizer steps (Polyak & Juditsky 1992; here without the start weights: the average
of w_1..w_t with weights d^(t-i), normalised, as Adam corrects its moments), `last:k` the plain mean at the latest k
milestones (LAWA, Kaddour 2022, arXiv 2209.14981).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from regrow.models.masks import local
from regrow.training.spec import parse_average


class Average:
    """An average over the trained parameters of one model, shard by shard where it is sharded."""

    def __init__(self, text: str, model: nn.Module) -> None:
        self._kind, self._value = parse_average(text)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._steps = 0
        self._shadow: list[torch.Tensor] = []
        self._kept: list[list[torch.Tensor]] = []

    @property
    def _weights(self) -> list[torch.Tensor]:
        return [local(p) for p in self._parameters]

    @property
    def empty(self) -> bool:
        """Whether nothing was averaged yet: the weights as they are stand for their average."""
        return not (self._steps or self._kept)

    @torch.no_grad()
    def after_step(self) -> None:
        """Take the weights after an optimizer step into the exponential average."""
        if self._kind != "ema":
            return
        if not self._shadow:
            self._shadow = [torch.zeros_like(w) for w in self._weights]
        torch._foreach_lerp_(self._shadow, self._weights, 1 - self._value)
        self._steps += 1

    @torch.no_grad()
    def at_milestone(self) -> None:
        """Take the weights at a milestone into the mean of the latest ones; the start weights are none of them."""
        if self._kind == "last":
            self._kept.append([w.to("cpu", copy=True) for w in self._weights])
            del self._kept[: -int(self._value)]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the model holds the average; afterwards its own weights are back, to the bit."""
        average = self._mean()
        if average is None:
            yield
            return
        own = [w.clone() for w in self._weights]
        self._put(average)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _mean(self) -> list[torch.Tensor] | None:
        if self._steps:
            return torch._foreach_div(self._shadow, 1 - self._value**self._steps)  # type: ignore[return-value]
        if self._kept:
            return [torch.stack(list(several)).mean(0) for several in zip(*self._kept, strict=True)]
        return None

    @torch.no_grad()
    def _put(self, values: list[torch.Tensor]) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: tensors as they are here (of a sharded model, this process's shards)."""
        return {"steps": self._steps, "shadow": [t.cpu() for t in self._shadow], "kept": self._kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._steps, self._kept = state["steps"], state["kept"]
        self._shadow = [t.to(w.device) for t, w in zip(state["shadow"], self._weights, strict=bool(state["shadow"]))]
