"""A cool-down branch: anneal the run, read its loss, then restore the run exactly.

A loss read in the middle of a constant rate is not the loss of a run that ends there. The branch for a milestone begins
`cooldown_tokens` before it, trains on the batches that the run sees next, and takes the rate to zero. So it does, step
for step, what a `wsd` run that ends at the milestone does. Its tokens are not counted as the run's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from regrow.models.masks import local
from regrow.training.objective import LossMeter
from regrow.training.optimizer import set_rate, take_step
from regrow.training.schedules import decay
from regrow.training.trainer import PostTrainer


def cooled_loss(
    trainer: PostTrainer, *, step: int, steps: int, after_step: Callable[[], None], read: Callable[[], float]
) -> float:
    """The held-out loss (nats/token) after annealing over `steps` optimizer steps from `step`.

    The run is left as it was.

    Args:
        after_step: called after each optimizer step: puts pruned weights back to zero.
        read: the held-out loss of the model as it stands.
    """
    with _put_back(trainer):
        for done in range(steps):
            set_rate(trainer.optimizer, trainer.spec.rate_at(step + done) * decay(done, steps))
            _step(trainer, step + done)
            after_step()
        return read()


def _step(trainer: PostTrainer, step: int) -> None:
    """One optimizer step on the batch that the run sees at `step`, as Trainer makes it."""
    model, accelerator, args = trainer.model_wrapped, trainer.accelerator, trainer.args
    batches = [trainer.micro_batch(step, i) for i in range(args.gradient_accumulation_steps)]
    trainer.current_gradient_accumulation_steps = len(batches)

    def backward(batch: dict[str, torch.Tensor], last: bool) -> None:
        accelerator.gradient_state._set_sync_gradients(last)
        with contextlib.nullcontext() if last else trainer.without_sync(model):
            trainer.training_step(model, batch)

    def clip() -> None:
        if args.max_grad_norm > 0:
            trainer._clip_grad_norm(model)

    take_step(model, trainer.optimizer, batches, backward=backward, clip=clip)


@contextlib.contextmanager
def _put_back(trainer: PostTrainer) -> Iterator[None]:
    """Weights, optimizer, rates and random state afterwards as they were before, to the bit."""
    optimizer = trainer.optimizer.optimizer
    weights = [local(p) for p in trainer.model.parameters() if p.requires_grad]
    own = [w.to("cpu", copy=True) for w in weights]  # beside the accelerator's memory, which may be full
    states = {p: {k: _copy(v) for k, v in state.items()} for p, state in optimizer.state.items()}
    rates = [group["lr"] for group in optimizer.param_groups]
    meter, trainer.meter = trainer.meter, LossMeter(trainer.args.device)
    accumulation = getattr(trainer, "current_gradient_accumulation_steps", 1)
    devices = [trainer.args.device] if trainer.args.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, own, strict=True):
                weight.copy_(value)
            for parameter in list(optimizer.state):
                if parameter not in states:  # the branch made its first step
                    del optimizer.state[parameter]
                    continue
                for key, value in states[parameter].items():
                    if isinstance(value, torch.Tensor):
                        local(optimizer.state[parameter][key]).copy_(value)
                    else:
                        optimizer.state[parameter][key] = value
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        trainer.meter = meter
        trainer.current_gradient_accumulation_steps = accumulation


def _copy(value: Any) -> Any:
    return local(value).to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
