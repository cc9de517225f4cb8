"""Find a learning rate: train a few thousand tokens at each rate of a grid, from the same start, and take the best.

The rule: the rate with the lowest held-out loss after the last step, the smaller one where two are equal; where the
best is at an end of the grid, the grid goes on that way, at most three rates more. A short run favours rates that gain
quickly: over many more tokens a rate a little below the one found is the safer choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from regrow.data import BlockOrder
from regrow.evaluation import evaluate
from regrow.models.masks import MaskKeeper
from regrow.training.inputs import RunInputs
from regrow.training.learning_rate import PROBE_RATIO, probe_grid
from regrow.training.optimizer import make_optimizer, set_rate, train_step
from regrow.training.precision import resolve_precision
from regrow.training.spec import TrainSpec
from regrow.training.trainer import OrderedBlocks, collate

#: The most rates that are tried beyond an end of the grid.
FURTHER = 3
RULE = "lowest held-out loss after the probe's tokens; the smaller rate of equals"


@dataclass(frozen=True, kw_only=True)
class RateProbe:
    """What a probe tried and found.

    Attributes:
        learning_rate: the rate it found.
        tokens: trained on at each rate; not counted as the run's.
        losses: held-out loss (nats/token) by rate, None where it was not finite; in the order of the rates.
        loss_start: before any step.
        rule: how the rate was picked.
    """

    learning_rate: float
    tokens: int
    losses: Mapping[float, float | None]
    loss_start: float
    rule: str = RULE

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a run's record."""
        return {**asdict(self), "losses": [[rate, loss] for rate, loss in self.losses.items()]}


def probe_learning_rate(inputs: RunInputs, *, spec: TrainSpec, tokens: int) -> RateProbe:
    """Probe around `spec.learning_rate` on the first `tokens` (whole batches) that the run would see.

    The model is left as it was, to the bit. One process.
    """
    model, held_out = inputs.model, inputs.held_out
    steps = max(1, math.ceil(tokens / spec.batch_tokens))
    start = [p.detach().clone() for p in model.parameters()]
    isolated = spec.packing == "isolated"
    was_training, loss_start = model.training, evaluate(model, held_out, isolated=isolated).loss

    def loss_at(rate: float) -> float | None:
        try:
            _train(inputs, replace(spec, learning_rate=rate), steps)
            loss = evaluate(model, held_out, isolated=isolated).loss
        finally:
            with torch.no_grad():
                for parameter, value in zip(model.parameters(), start, strict=True):
                    parameter.copy_(value)
            model.train(was_training)
        return loss if math.isfinite(loss) else None

    losses = {rate: loss_at(rate) for rate in probe_grid(spec.learning_rate)}
    for _ in range(FURTHER):
        best = best_rate(losses)
        further = {min(losses): best / PROBE_RATIO, max(losses): best * PROBE_RATIO}.get(best)
        if further is None:
            break
        losses[float(f"{further:.3g}")] = loss_at(float(f"{further:.3g}"))
    return RateProbe(
        learning_rate=best_rate(losses),
        tokens=steps * spec.batch_tokens,
        losses=dict(sorted(losses.items())),
        loss_start=loss_start,
    )


def best_rate(losses: Mapping[float, float | None]) -> float:
    """The rate that the rule picks; the smallest one where no loss is finite."""
    return min(losses, key=lambda rate: (math.inf if losses[rate] is None else losses[rate], rate))


def _train(inputs: RunInputs, spec: TrainSpec, steps: int) -> None:
    """The run's first steps at a constant rate after its warm-up."""
    model, train = inputs.model, inputs.train
    model.train()
    device = model.device
    bf16 = resolve_precision(spec.precision, device) == "bf16"
    order, keeper = BlockOrder(blocks=len(train), seed=spec.seed), MaskKeeper(model, inputs.masks)
    data = OrderedBlocks(train, order, steps * spec.batch_blocks, isolated=spec.packing == "isolated")
    optimizer = make_optimizer(model, spec)
    micro = spec.micro_batch_blocks or spec.batch_blocks
    for step in range(steps):
        set_rate(optimizer, spec.rate_at(step) if step < spec.steps else spec.learning_rate)
        starts = range(step * spec.batch_blocks, (step + 1) * spec.batch_blocks, micro)
        batches = [collate([data[i] for i in range(start, start + micro)]) for start in starts]
        on_device = [{name: values.to(device) for name, values in batch.items()} for batch in batches]
        train_step(model, optimizer, on_device, spec=spec, bf16=bf16, teacher=inputs.teacher)
        keeper.apply()
