"""The training objective, and the mean training loss since it was last read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from regrow.training.loss_in_slices import takes_slices, with_mean_loss
from regrow.training.processes import add_up
from regrow.training.spec import TrainSpec

#: Elements of one fp32 copy of logits, at most: 64 MiB. A vocabulary of 128k entries and 8k tokens would take 4 GiB.
CHUNK_ELEMENTS = 2**24


def next_token_loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each block's tokens after the first. logits [B, T, V], ids [B, T]; nats/token."""
    return _mean_in_chunks(_cross_entropy, logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def distillation_loss(student: torch.Tensor, teacher: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """T^2 * KL(teacher || student), mean over the predicted tokens; logits [B, T, V] (arXiv 1503.02531, section 2)."""

    def divergence(rows: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        log_p = F.log_softmax(target.float() / temperature, dim=-1)
        log_q = F.log_softmax(rows.float() / temperature, dim=-1)
        return F.kl_div(log_q, log_p, log_target=True, reduction="sum")

    mean = _mean_in_chunks(divergence, student[:, :-1].flatten(0, 1), teacher[:, :-1].flatten(0, 1))
    return temperature**2 * mean


def losses_of(
    model: Any, batch: Mapping[str, torch.Tensor], *, spec: TrainSpec, bf16: bool, teacher: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a micro-batch is trained on, and its cross-entropy (nats/token, no gradient).

    Args:
        batch: `input_ids` [B, T]; with `position_ids` that start again, attention stays inside each document.
        bf16: compute in bf16 (autocast), losses in fp32 all the same.
        teacher: distil from it as `spec` says.

    With `spec.router_loss` the router's balancing loss over the micro-batch is added to what is trained on.
    """
    ids = batch["input_ids"]
    # autocast here and not by TrainingArguments.bf16, which would wrap the model's forward for good: held-out losses
    # are then read in bf16 too, and differ from those of the same weights on disk
    sliced = teacher is None and not spec.compile and takes_slices(model)
    balance = {"output_router_logits": True} if spec.router_loss else {}
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=bf16):
        outputs = with_mean_loss(model, batch, **balance) if sliced else model(**batch, use_cache=False, **balance)
        if teacher is not None:
            with torch.no_grad():
                target = teacher(**batch, use_cache=False).logits
    loss = outputs.logits if sliced else next_token_loss(outputs.logits, ids)
    trained = loss
    if teacher is not None:
        distilled = distillation_loss(outputs.logits, target, temperature=spec.distill_temperature)
        trained = spec.distill_mix * distilled + (1 - spec.distill_mix) * loss
    if balance:
        trained = trained + spec.router_loss * outputs.aux_loss
    return trained, loss.detach()


def _cross_entropy(rows: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(rows.float(), target, reduction="sum")


def _mean_in_chunks(
    total: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], rows: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Sum `total(rows [N, V], target [N, ...])` over N in chunks; the backward pass makes their fp32 copies anew."""
    size = max(1, CHUNK_ELEMENTS // rows.shape[-1])
    if len(rows) <= size:
        return total(rows, target) / len(rows)
    pairs = zip(rows.split(size), target.split(size), strict=True)
    return torch.stack([checkpoint(total, *pair, use_reentrant=False) for pair in pairs]).sum() / len(rows)


class LossMeter:
    """The mean training loss since it was last read, and the first step whose loss or gradient was not finite.

    Everything stays on the device until it is read, so that an accelerator is not waited for at every step.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._total = torch.zeros((), dtype=torch.float64, device=device)
        self._count = 0
        self._bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._last: torch.Tensor | None = None

    @torch.no_grad()
    def add(self, loss: torch.Tensor) -> None:
        """Count the cross-entropy of one micro-batch (nats/token)."""
        loss = loss.detach()
        self._total += loss
        self._count += 1
        self._last = loss

    @torch.no_grad()
    def watch(self, step: int, norm: torch.Tensor) -> None:
        """Note `step` if the last loss or the gradient's norm is not finite, and none was before."""
        total = norm if self._last is None else norm + self._last
        now = torch.where(torch.isfinite(total), -1, step)
        self._bad = torch.where(self._bad >= 0, self._bad, now)

    def bad_step(self) -> int | None:
        """The first step that was not finite. Waits for the device."""
        step = int(self._bad.item())
        return None if step < 0 else step

    def last(self) -> float | None:
        """The last micro-batch's loss. Waits for the device."""
        return None if self._last is None else self._last.item()

    def read(self) -> float | None:
        """The mean over all processes since the last reading, and start over; None if nothing was counted."""
        if not self._count:
            return None
        both = add_up(torch.stack([self._total, torch.full_like(self._total, float(self._count))]))
        self._total = torch.zeros_like(self._total)
        self._count = 0
        return (both[0] / both[1]).item()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: the sum over the processes, so that any number of them can go on."""
        both = add_up(torch.stack([self._total, torch.full_like(self._total, float(self._count))]))
        return {"total": both[0].cpu(), "count": int(both[1].item())}

    def load_state_dict(self, state: dict[str, Any], *, share: float = 1.0) -> None:
        """Go on from a checkpoint; of several processes one takes it (`share` 1), the others nothing (0)."""
        self._total = state["total"].to(self._total.device) * share
        self._count = round(state["count"] * share)
