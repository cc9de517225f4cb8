"""One optimizer and one step for everything that trains: the run, its cool-down branches, and the probes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from transformers.trainer_pt_utils import get_parameter_names

from regrow.training.objective import losses_of
from regrow.training.spec import TrainSpec

Batch = TypeVar("Batch")

#: Parameters that weight decay leaves alone: biases and the weights of normalisations, as Trainer has it.
_NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def make_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.AdamW:
    """AdamW over the parameters that train, at the spec's learning rate.

    Two groups: weights that decay, then those that do not, in the order of `model.named_parameters()`. Checkpoints
    number the optimizer's states in this order.
    """
    decays = set(get_parameter_names(model, [nn.LayerNorm], _NO_DECAY))
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trained if name in decays], "weight_decay": spec.weight_decay},
        {"params": [p for name, p in trained if name not in decays], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=spec.betas, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the learning rate `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def take_step(
    model: nn.Module,
    optimizer: Any,
    batches: Sequence[Batch],
    *,
    backward: Callable[[Batch, bool], object],
    clip: Callable[[], object],
) -> None:
    """One optimizer step: a backward pass for each micro-batch, the gradient clipped, the weights moved.

    Args:
        backward: adds a micro-batch's share to the gradient; its second argument says whether it is the step's last.
        clip: limits the norm of the whole gradient.
    """
    for i, batch in enumerate(batches):
        backward(batch, i == len(batches) - 1)
    clip()
    optimizer.step()
    model.zero_grad()


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Mapping[str, torch.Tensor]],
    *,
    spec: TrainSpec,
    bf16: bool,
    teacher: Any = None,
) -> None:
    """The optimizer step that a run of `spec` makes on these micro-batches, in one process and without Trainer.

    Args:
        batches: each as `regrow.training.objective.losses_of` takes it, on the model's device.
    """

    def backward(batch: Mapping[str, torch.Tensor], last: bool) -> None:
        loss, _ = losses_of(model, batch, spec=spec, bf16=bf16, teacher=teacher)
        (loss / len(batches)).backward()

    trained = [p for p in model.parameters() if p.requires_grad]
    take_step(
        model,
        optimizer,
        batches,
        backward=backward,
        clip=lambda: nn.utils.clip_grad_norm_(trained, spec.max_grad_norm or math.inf),
    )
