"""The cross-entropy of a batch without its logits.

All logits of a batch, their log-softmax and their gradient are by far the largest tensors of a step with a small model
or a large vocabulary. Here the output layer, the loss and the gradients of both are computed for a slice of tokens at a
time, already in the forward pass, so that no logits are kept (as in Hsu et al. 2024, arXiv 2410.10989, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from regrow.models.outputs import logits_of_output, output_layer_gives, rows_of_logits


def takes_slices(model: Any) -> bool:
    """Whether the output layer of this model is a plain matrix, as `with_mean_loss` needs it."""
    head = _inner(model).get_output_embeddings()
    return type(head) is nn.Linear and head.bias is None


def _inner(model: Any) -> Any:
    """The model that `DistributedDataParallel` wraps, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def with_mean_loss(model: Any, batch: Mapping[str, torch.Tensor], **asked: Any) -> Any:
    """What a forward pass of `model` returns, with the loss in the place of the logits: the mean cross-entropy of each
    block's tokens after the first (nats/token).

    Args:
        model: one for which `takes_slices` is true, or `DistributedDataParallel` around it.
        batch: `input_ids` [B, T] and what else the model's forward pass takes.
        asked: further arguments of the forward pass.
    """
    plain = _inner(model)
    head, finish = plain.get_output_embeddings(), logits_of_output(plain.config)
    targets = batch["input_ids"][:, 1:].flatten()

    def loss(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden[:, :-1].flatten(0, 1)
        # at least as many rows as a row has numbers: the gradient of the weights, which each slice reads and writes
        # again, is then no larger than the logits
        size = max(rows_of_logits(rows.device, len(head.weight)), rows.shape[-1])
        return _MeanLoss.apply(rows, head.weight, targets, finish, size)

    with output_layer_gives(plain, loss):
        return model(**batch, use_cache=False, **asked)


class _MeanLoss(torch.autograd.Function):
    """mean cross-entropy of finish(rows weight^T), and its gradients, in slices of `size` rows."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        finish: Callable[[torch.Tensor], torch.Tensor],
        size: int,
    ) -> torch.Tensor:
        """rows [N, d], weight [V, d], targets [N] -> a number, fp32. Products are in autocast's precision."""
        kind = rows.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else rows.dtype
        wants_rows, wants_weight = ctx.needs_input_grad[:2]
        matrix, total = weight.to(dtype), torch.zeros((), dtype=torch.float32, device=rows.device)
        d_rows = torch.empty_like(rows) if wants_rows else None
        d_weight = torch.zeros_like(weight) if wants_weight else None
        with torch.autocast(kind, enabled=False):
            for start in range(0, len(rows), size):
                part = rows[start : start + size].to(dtype)
                loss, d_logits = _slice_loss(part @ matrix.t(), targets[start : start + size], finish, len(rows))
                total += loss
                if d_rows is not None:
                    d_rows[start : start + size] = d_logits @ matrix
                if d_weight is None:
                    continue
                if dtype == weight.dtype:
                    d_weight.addmm_(d_logits.t(), part)
                else:
                    d_weight += d_logits.t() @ part
        ctx.save_for_backward(d_rows, d_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # in place: nothing else reads them, and the output layer's is as large as its weights
        d_rows, d_weight = (None if found is None else found.mul_(gradient) for found in ctx.saved_tensors)
        return d_rows, d_weight, None, None, None


def _slice_loss(
    outputs: torch.Tensor, targets: torch.Tensor, finish: Callable[[torch.Tensor], torch.Tensor], count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross-entropy of some rows over the `count` of all, and its gradient for the output layer's numbers.

    Args:
        outputs: [n, V]; `finish(outputs)` are the logits. targets: [n].
    """
    with torch.enable_grad():
        outputs.requires_grad_()
        loss = F.cross_entropy(finish(outputs).float(), targets, reduction="sum") / count
    (gradient,) = torch.autograd.grad(loss, outputs)
    return loss.detach(), gradient
