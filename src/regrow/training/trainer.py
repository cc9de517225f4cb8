"""`transformers.Trainer` with the run's own data order and, where there is a teacher, distillation."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer

from regrow.data import BlockOrder, Blocks
from regrow.training.spec import TrainSpec


class OrderedBlocks(Dataset):
    """The blocks a run sees, in its own order, as many as it trains on."""

    def __init__(self, blocks: Blocks, order: BlockOrder, length: int) -> None:
        self.blocks = blocks
        self.order = order
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.from_numpy(self.blocks.tokens[self.order[position]]).long()}


def next_token_loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each block's tokens after the first. logits [B, T, V], ids [B, T]; nats/token."""
    return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())


def distillation_loss(student: torch.Tensor, teacher: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """T^2 * KL(teacher || student), mean over the predicted tokens; logits [B, T, V] (arXiv 1503.02531, section 2)."""
    log_p = F.log_softmax(teacher[:, :-1].float() / temperature, dim=-1).flatten(0, 1)
    log_q = F.log_softmax(student[:, :-1].float() / temperature, dim=-1).flatten(0, 1)
    return temperature**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


class PostTrainer(Trainer):
    """Keeps the cross-entropy of every micro-batch in `losses`, so that training losses compare with held-out ones."""

    def __init__(
        self,
        *,
        spec: TrainSpec,
        precision: str,
        losses: list[torch.Tensor],
        teacher: PreTrainedModel | None,
        **rest: Any,
    ):
        super().__init__(**rest)
        self.spec = spec
        self.bf16 = precision == "bf16"
        self.losses = losses
        self.teacher = teacher
        # the loss below is a mean over equal micro-batches: Trainer is to divide it by the accumulation steps
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        ids = inputs["input_ids"]
        # autocast here and not by TrainingArguments.bf16, which would wrap the model's forward for good: held-out
        # losses are then read in bf16 too, and differ from those of the same weights on disk
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            outputs = model(input_ids=ids, use_cache=False)
            if self.teacher is not None:
                with torch.no_grad():
                    target = self.teacher(input_ids=ids, use_cache=False).logits
        loss = next_token_loss(outputs.logits, ids)
        self.losses.append(loss.detach())
        if self.teacher is not None:
            mix = self.spec.distill_mix
            distilled = distillation_loss(outputs.logits, target, temperature=self.spec.distill_temperature)
            loss = mix * distilled + (1 - mix) * loss
        return (loss, outputs) if return_outputs else loss
