"""The held-out loss of a run's model: zeros are checked first, and adapters are merged where they fill zeros."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from regrow.data import Blocks
from regrow.errors import RunFailed
from regrow.evaluation import evaluate
from regrow.models.masks import MaskKeeper
from regrow.runs import Score
from regrow.training.kernels import plain_attention
from regrow.training.lora import adapted_layers, merged
from regrow.training.processes import add_up, processes
from regrow.training.sharding import settle
from regrow.training.spec import TrainSpec

if TYPE_CHECKING:
    from regrow.scores.harness import Harness

ZEROS_LOST = "run again with --resume, and report it if it happens again"


class Reader:
    """Reads held-out losses, each process a share of the blocks; every process gets the same number.

    Args:
        where: named in errors.
        keeper: the zeros to check before each reading.
        harness: asks the spec's benchmarks; every process asks all of them.
    """

    def __init__(
        self, *, spec: TrainSpec, held_out: Blocks, keeper: MaskKeeper, where: str, harness: Harness | None = None
    ) -> None:
        self.harness = harness
        self.spec = spec
        self.held_out = held_out
        self.keeper = keeper
        self.where = where

    def loss(self, model: Any, *, at: str) -> float:
        """The held-out loss, nats/token; of a masked run with adapters, of what their merge would give.

        Raises `RunFailed` if a zero is lost or the loss is not finite; `at` says when, for the message.
        """
        with self._as_saved(model, at):
            return self.plain_loss(model, at=at)

    def scores(self, model: Any, *, at: str) -> dict[str, Score]:
        """The scores of the spec's benchmarks, of the same weights whose loss `loss` reads; none without a harness."""
        if self.harness is None:
            return {}
        with self._as_saved(model, at), _evaluable(model, self.spec):
            found = self.harness.scores(model)
        settle(model)
        return found

    @contextlib.contextmanager
    def _as_saved(self, model: Any, at: str) -> Iterator[None]:
        """Inside the block the model is as it would be saved: zeros checked, adapters of a masked run merged."""
        with contextlib.ExitStack() as stack:
            if self.keeper and adapted_layers(model):
                stack.enter_context(merged(model, self.keeper))
            self.prove_zeros(at)
            yield

    def plain_loss(self, model: Any, *, at: str) -> float:
        """The held-out loss of the model exactly as it is."""
        state = processes()
        with _evaluable(model, self.spec):
            share = (state.process_index, state.num_processes)
            isolated = self.spec.packing == "isolated"
            loss = evaluate(model, self.held_out, share=share, isolated=isolated).loss
        settle(model)
        if not math.isfinite(loss):
            raise RunFailed(
                f"the held-out loss is {loss} {at}", where=self.where, hint="lower --lr or use --precision fp32"
            )
        return loss

    def prove_zeros(self, at: str) -> None:
        """Raise `RunFailed` if a pruned weight is not zero in any process."""
        broken = self.keeper.violations()
        if self.keeper and add_up(torch.tensor(float(len(broken)), device=processes().device)).item():
            first = next(iter(broken), "a matrix of another process")
            raise RunFailed(f"pruned weights of {first} are not zero {at}", where=self.where, hint=ZEROS_LOST)


@contextlib.contextmanager
def _evaluable(model: PreTrainedModel, spec: TrainSpec) -> Iterator[None]:
    """Held-out losses are read in fp32, which flash kernels do not take."""
    if spec.attention != "flash":
        yield
        return
    kept = model.config._attn_implementation
    model.set_attn_implementation(plain_attention(model, spec))
    try:
        yield
    finally:
        model.set_attn_implementation(kept)
