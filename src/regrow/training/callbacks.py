"""What happens beside the optimizer steps: milestones read, zeros kept, progress told."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regrow.data import Blocks
from regrow.errors import RunFailed
from regrow.evaluation import evaluate
from regrow.models.masks import apply_masks, violations
from regrow.runs import CurvePoint, RunWriter
from regrow.training.spec import TrainSpec


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: tokens done of all, the last training loss (nats/token), tokens per second."""

    tokens: int
    total: int
    loss: float | None
    tokens_per_second: float | None


OnProgress = Callable[[Progress], None]


class MaskCallback(TrainerCallback):
    """Puts the zeros of an N:M pruned model back after every optimizer step, before anything reads the weights."""

    def __init__(self, masks: Mapping[str, torch.Tensor]) -> None:
        self.masks = masks

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        apply_masks(kwargs["model"], self.masks)


class CurveCallback(TrainerCallback):
    """Reads the held-out loss at the milestones and appends it to the run; stops a run that has gone wrong."""

    def __init__(
        self,
        *,
        spec: TrainSpec,
        held_out: Blocks,
        writer: RunWriter,
        masks: Mapping[str, torch.Tensor],
        losses: list[torch.Tensor],
        on_progress: OnProgress | None = None,
    ) -> None:
        self.spec = spec
        self.held_out = held_out
        self.writer = writer
        self.masks = masks
        self.losses = losses
        self.on_progress = on_progress
        self.milestones = set(spec.milestone_steps)
        earlier = [p.seconds for p in writer.record.curve if p.seconds is not None]
        self._seconds_before = earlier[-1] if earlier else 0.0
        self._seconds = 0.0
        self._last_loss: float | None = None
        self._steps = 0
        self._lap = time.perf_counter()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0 and not self.writer.record.curve:
            self._read_milestone(kwargs["model"], step=0, lr=None)
        self._lap = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._seconds += time.perf_counter() - self._lap
        self._steps += 1
        step = state.global_step
        at_milestone = step in self.milestones
        # reading a loss off an accelerator waits for it, so only the CPU reads one every step
        if self.losses and (at_milestone or args.device.type == "cpu"):
            self._last_loss = self.losses[-1].item()
            self._refuse_non_finite(step)
        if at_milestone:
            self._read_milestone(kwargs["model"], step=step, lr=_learning_rate(kwargs))
        every = self.spec.save_every_tokens
        if every is None:
            control.should_save = at_milestone
        elif every:
            before, after = (step - 1) * self.spec.batch_tokens, step * self.spec.batch_tokens
            control.should_save = before // every < after // every
        if self.on_progress is not None:
            self.on_progress(
                Progress(
                    tokens=step * self.spec.batch_tokens,
                    total=self.spec.steps * self.spec.batch_tokens,
                    loss=self._last_loss,
                    tokens_per_second=self.tokens_per_second,
                )
            )
        self._lap = time.perf_counter()

    @property
    def tokens_per_second(self) -> float | None:
        """Training speed in this process, evaluations left out; None before the first step."""
        return self._steps * self.spec.batch_tokens / self._seconds if self._steps else None

    def _refuse_non_finite(self, step: int) -> None:
        if self._last_loss is not None and not math.isfinite(self._last_loss):
            raise RunFailed(
                f"the training loss is {self._last_loss} at step {step} ({step * self.spec.batch_tokens} tokens)",
                where=str(self.writer.folder),
                hint="lower --lr or use --precision fp32, then run again",
            )

    def _read_milestone(self, model: PreTrainedModel, *, step: int, lr: float | None) -> None:
        broken = violations(model, self.masks)
        if broken:
            raise RunFailed(
                f"pruned weights of {next(iter(broken))} are not zero at step {step}", where=str(self.writer.folder)
            )
        train_loss = torch.stack(self.losses).float().mean().item() if self.losses else None
        self.losses.clear()
        self.writer.append(
            CurvePoint(
                tokens=step * self.spec.batch_tokens,
                loss=evaluate(model, self.held_out).loss,
                train_loss=train_loss,
                lr=lr,
                seconds=round(self._seconds_before + self._seconds, 3),
            )
        )


def _learning_rate(kwargs: Mapping[str, Any]) -> float | None:
    scheduler = kwargs.get("lr_scheduler")
    return None if scheduler is None else float(scheduler.get_last_lr()[0])
