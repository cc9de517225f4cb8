"""Callbacks of a run: keep zeros and averages, read the losses at milestones, report progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regrow.data import BlockOrder, Blocks
from regrow.errors import RunFailed
from regrow.models.masks import MaskKeeper
from regrow.runs import CurvePoint, RunWriter
from regrow.training.averages import Average
from regrow.training.cooldown import cooled_loss
from regrow.training.processes import on_main
from regrow.training.reading import Reader
from regrow.training.signals import StopRequest
from regrow.training.spec import TrainSpec
from regrow.training.trainer import PostTrainer


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. Losses are in nats/token; what is not known yet is None.

    Attributes:
        tokens, total: trained on, and in all.
        loss: the last training loss.
        tokens_per_second: speed of training, evaluations left out.
        learning_rate: of the last step.
        held_out: the held-out loss read last, after `held_out_tokens`.
    """

    tokens: int
    total: int
    loss: float | None
    tokens_per_second: float | None
    learning_rate: float | None = None
    held_out: float | None = None
    held_out_tokens: int | None = None

    @property
    def seconds_left(self) -> float | None:
        """Seconds that training still takes at its speed."""
        return None if not self.tokens_per_second else (self.total - self.tokens) / self.tokens_per_second


OnProgress = Callable[[Progress], None]
#: Called with a run's curve at every milestone. If it returns a reason, the run ends there.
Watch = Callable[[Sequence[CurvePoint]], str | None]

#: Steps between two checks for a loss that is not finite, on an accelerator: each check waits for the device.
LOOK_EVERY = 16
#: Steps of a run at which trackers are told of it, beside its milestones.
_TRACKED = 200


class KeepCallback(TrainerCallback):
    """After every optimizer step, before anything reads the weights: put the zeros back, then update the average."""

    def __init__(self, keeper: MaskKeeper, average: Average | None) -> None:
        self.keeper = keeper
        self.average = average

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.keeper.apply()
        if self.average is not None:
            self.average.after_step()


class CurveCallback(TrainerCallback):
    """Read the losses at the milestones and append them to the run; decide when to save; stop a run that went wrong.

    Args:
        writer: the run on disk; None in every process but the main one.
        blocks, order: the training text, to name the documents of a batch whose loss is not finite.
        stop: asked after every step whether the run is to save and end.
        watch: called at every milestone, in the main process. If it returns a reason (`ended_by`), the run ends there.
        tracked: whether the trainer has trackers; they are then given losses, rate and speed, at milestones and at
            about two hundred steps of the run.
        first_step: where the run begins; above 0 for one that goes on from another run's checkpoint.
    """

    def __init__(
        self,
        *,
        trainer: PostTrainer,
        reader: Reader,
        writer: RunWriter | None,
        blocks: Blocks,
        order: BlockOrder,
        average: Average | None = None,
        stop: StopRequest | None = None,
        watch: Watch | None = None,
        on_progress: OnProgress | None = None,
        tracked: bool = False,
        first_step: int = 0,
    ) -> None:
        self.trainer = trainer
        self.spec: TrainSpec = trainer.spec
        self.reader = reader
        self.writer = writer
        self.blocks = blocks
        self.order = order
        self.average = average
        self.stop = stop
        self.watch = watch
        self.ended_by: str | None = None
        self.on_progress = on_progress
        self.tracked = tracked
        self.first_step = first_step
        self.milestones = set(self.spec.milestone_steps)
        self.scored = self.spec.scored_steps
        self.branches = self.spec.cooldowns
        self.stopped_by: str | None = None
        self._cooled: dict[int, float] = {}  # by milestone step; a branch is read before the run reaches its milestone
        earlier = [p.seconds for p in writer.record.curve if p.seconds is not None] if writer else []
        self._seconds_before = earlier[-1] if earlier else 0.0
        self._seconds = 0.0
        self._last_loss: float | None = None
        self._held_out: CurvePoint | None = writer.record.curve[-1] if writer and writer.record.curve else None
        self._steps = 0
        self._lap = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: losses of branches whose milestones are still to come."""
        return {"cooled": dict(self._cooled)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._cooled = dict(state["cooled"])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == self.first_step:
            self._read_milestone(kwargs["model"], step=self.first_step, lr=None)
            if self.tracked:
                self._track(self._progress(self.first_step, lr=None))
            self._branch(kwargs["model"], step=self.first_step)
        self._lap = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        step, model = state.global_step, kwargs["model"]
        at_milestone = step in self.milestones
        save = self._saves(step, at_milestone)
        cpu = args.device.type == "cpu"
        if self.stop is not None and self.stop.heard(step, args.device):
            save = control.should_training_stop = True
            self.stopped_by = self.stop.signal or "a signal"
        # reading a loss from an accelerator waits for the device, so only the CPU reads it at every step
        if cpu or save or at_milestone or step % LOOK_EVERY == 0:
            self._last_loss = self.trainer.meter.last()
            self._refuse_non_finite()
        self._seconds += time.perf_counter() - self._lap
        self._steps += 1
        if at_milestone:
            if self.average is not None:
                self.average.at_milestone()
            self._read_milestone(model, step=step, lr=_learning_rate(kwargs))
            self.ended_by = self._watched() if step < self.spec.steps else None
            if self.ended_by is not None:
                save = control.should_training_stop = True
        self._branch(model, step=step)
        control.should_save = save
        progress = self._progress(step, lr=_learning_rate(kwargs))
        if self.on_progress is not None:
            self.on_progress(progress)
        if self.tracked and (at_milestone or step % max(LOOK_EVERY, self.spec.steps // _TRACKED) == 0):
            self._track(progress)
        self._lap = time.perf_counter()

    def _progress(self, step: int, *, lr: float | None) -> Progress:
        read = self._held_out
        return Progress(
            tokens=step * self.spec.batch_tokens,
            total=self.spec.steps * self.spec.batch_tokens,
            loss=self._last_loss,
            tokens_per_second=self.tokens_per_second,
            learning_rate=lr,
            held_out=None if read is None else read.loss,
            held_out_tokens=None if read is None else read.tokens,
        )

    def _track(self, progress: Progress) -> None:
        """Give the trackers what is known at this step, under the names that transformers uses."""
        new = progress.held_out_tokens == progress.tokens
        logs = {
            "loss": progress.loss,
            "learning_rate": progress.learning_rate,
            "tokens": float(progress.tokens),
            "tokens_per_second": progress.tokens_per_second,
            "eval_loss": progress.held_out if new else None,
        }
        self.trainer.log({name: value for name, value in logs.items() if value is not None})

    @property
    def tokens_per_second(self) -> float | None:
        """Training speed in this process, evaluations left out; None before the first step."""
        return self._steps * self.spec.batch_tokens / self._seconds if self._steps else None

    def _saves(self, step: int, at_milestone: bool) -> bool:
        every = self.spec.save_every_tokens
        if step >= self.spec.steps:
            return True
        if every is None:
            return at_milestone
        before, after = (step - 1) * self.spec.batch_tokens, step * self.spec.batch_tokens
        return bool(every) and before // every < after // every

    def _watched(self) -> str | None:
        """Why the run is to end at this milestone, the same in every process; None if it goes on."""
        watch, writer = self.watch, self.writer
        if watch is None:
            return None
        return on_main(lambda: watch(writer.record.curve) if writer is not None else None)

    def _refuse_non_finite(self) -> None:
        step = self.trainer.meter.bad_step()
        if step is None:
            return
        seen = range((step - 1) * self.spec.batch_blocks, step * self.spec.batch_blocks)
        raise RunFailed(
            f"the training loss or its gradient is not finite at step {step} ({step * self.spec.batch_tokens} tokens), "
            f"in a batch of {_texts(self.blocks, sorted(self.order[position] for position in seen))}",
            where=self.reader.where,
            hint="lower --lr, use --precision fp32 or look at that text, then run again",
        )

    def _branch(self, model: Any, *, step: int) -> None:
        if step not in self.branches:
            return
        milestone = self.branches[step]
        self._cooled[milestone] = cooled_loss(
            self.trainer,
            step=step,
            steps=milestone - step,
            after_step=self.reader.keeper.apply,
            read=lambda: self.reader.loss(model, at=f"after a cool-down from step {step}"),
        )

    def _read_milestone(self, model: Any, *, step: int, lr: float | None) -> None:
        at = f"at step {step}"
        loss = self.reader.loss(model, at=at)
        averaged = None
        if self.average is not None and self.average.empty:
            averaged = loss
        elif self.average is not None:
            with self.average.applied():
                averaged = self.reader.loss(model, at=f"{at}, averaged")
        # an annealed run needs no branch at its end: its own loss is the cooled one
        annealed = self.spec.schedule == "wsd" and step == self.spec.steps
        point = CurvePoint(
            tokens=step * self.spec.batch_tokens,
            loss=loss,
            train_loss=self.trainer.meter.read(),
            lr=lr,
            seconds=round(self._seconds_before + self._seconds, 3),
            loss_averaged=averaged,
            loss_cooled=loss if annealed else self._cooled.pop(step, None),
            scores=self.reader.scores(model, at=at) if step in self.scored else {},
        )
        self._held_out = point
        if self.writer is not None:
            self.writer.append(point)


def _texts(blocks: Blocks, chosen: list[int]) -> str:
    """The documents that these training blocks were cut from, or the blocks where that is not known."""
    names = [f"block {i}" for i in chosen] if blocks.table is None else blocks.documents_of(chosen)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _learning_rate(kwargs: Mapping[str, Any]) -> float | None:
    scheduler = kwargs.get("lr_scheduler")
    return None if scheduler is None else float(scheduler.get_last_lr()[0])
