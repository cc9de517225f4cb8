"""`transformers.Trainer` with the run's own data order, schedule and objective, and checkpoints that are whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer

from regrow.data import BlockOrder, Blocks
from regrow.errors import RunFailed, reason_of
from regrow.training import sharding
from regrow.training.checkpoints import KEPT, STAGE, clear_stage, open_stage, publish, write_state
from regrow.training.lora import load_adapters, save_adapters
from regrow.training.objective import LossMeter, losses_of
from regrow.training.optimizer import make_optimizer
from regrow.training.processes import on_main
from regrow.training.spec import TrainSpec


class OrderedBlocks(Dataset):
    """The blocks a run sees, in its own order, as many as it trains on; `isolated` ones with their positions."""

    def __init__(self, blocks: Blocks, order: BlockOrder, length: int, *, isolated: bool = False) -> None:
        self.blocks = blocks
        self.order = order
        self.length = length
        self.isolated = isolated

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> np.ndarray:
        """Token ids [1, sequence_length] of the block at `position`; [2, sequence_length] with their positions."""
        block = self.order[position]
        ids = self.blocks.tokens[block][None]
        return np.concatenate([ids, self.blocks.position_ids(block)]) if self.isolated else ids


def collate(rows: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """Blocks as one micro-batch [blocks, sequence_length]."""
    ids, *positions = np.stack(rows, axis=1).astype(np.int64)
    batch = {"input_ids": torch.from_numpy(ids)}
    return batch | {"position_ids": torch.from_numpy(positions[0])} if positions else batch


class PostTrainer(Trainer):
    """Trainer for one `TrainSpec`.

    Args:
        precision: `bf16` or `fp32`, the spec's `auto` resolved.
        meter: counts the cross-entropy of every micro-batch, so that training losses compare with held-out ones.
        teacher: a model to distil from.
        spec_hash: of the run, written into its checkpoints.
        stateful: what goes into a checkpoint beside the model, by name; `state_dict` is asked in every process.
        sharded: whether `sharding.shard` has wrapped the model.
        keep: checkpoints to keep; None for all.
    """

    optimizer: Any  # AdamW, which accelerate wraps when training begins

    def __init__(
        self,
        *,
        spec: TrainSpec,
        precision: str,
        meter: LossMeter,
        teacher: PreTrainedModel | None = None,
        spec_hash: str = "",
        sharded: bool = False,
        keep: int | None = KEPT,
        **rest: Any,
    ) -> None:
        super().__init__(data_collator=collate, **rest)
        self.spec = spec
        self.bf16 = precision == "bf16"
        self.meter = meter
        self.teacher = teacher
        self.spec_hash = spec_hash
        self.stateful: dict[str, Any] = {}
        # the loss below is a mean over equal micro-batches: Trainer is to divide it by the accumulation steps
        self.model_accepts_loss_kwargs = False
        # Trainer's name for a model that shards and reduces by itself: it is neither moved nor wrapped again
        self.is_distributed_loading_by_transformers = sharded
        self.sharded = sharded
        self.keep = keep
        self._trained: list[torch.nn.Parameter] | None = None
        self._staged = False

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        # as in Trainer, without its walks over all modules, which take long beside a step of a small model
        if not (model.training and self.model.training):
            model.train()
        loss = self.compute_loss(model, self._prepare_inputs(inputs)) / self.current_gradient_accumulation_steps
        self.accelerator.backward(loss)
        return loss.detach()

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        if self.sharded:
            return super()._clip_grad_norm(model)
        if self._trained is None:
            self._trained = [p for p in self.model.parameters() if p.requires_grad]
        return torch.nn.utils.clip_grad_norm_(self._trained, self.args.max_grad_norm)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        batch: dict[str, torch.Tensor] = {n: inputs[n] for n in ("input_ids", "position_ids") if n in inputs}
        loss, cross_entropy = losses_of(model, batch, spec=self.spec, bf16=self.bf16, teacher=self.teacher)
        self.meter.add(cross_entropy)
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        # counted exactly from the architecture at the end; Trainer would walk over all parameters at every step
        return 0

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = make_optimizer(self.model if model is None else model, self.spec)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            base = self.spec.learning_rate
            self.lr_scheduler: Any = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: self.spec.rate_at(step) / base
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.meter.watch(self.state.global_step + 1, sharding.whole(norm))
        return norm

    def micro_batch(self, step: int, index: int) -> dict[str, torch.Tensor]:
        """This process's part of micro-batch `index` of optimizer step `step`, as the data loader deals it out."""
        size, position = self.args.per_device_train_batch_size, step * self.args.gradient_accumulation_steps + index
        start = (position * self.args.world_size + self.args.process_index) * size
        return collate([self.train_dataset[i] for i in range(start, start + size)])  # type: ignore[index]

    def without_sync(self, model: torch.nn.Module) -> contextlib.AbstractContextManager[None]:
        """Inside the block a backward pass adds to the gradients of this process alone."""
        return self._defer_fsdp_gradient_reduction() if self.sharded else self.accelerator.no_sync(model)

    @contextlib.contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        self.model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.model.set_requires_gradient_sync(True)

    # ---- checkpoints ----

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return str(Path(folder) / STAGE) if self._staged else folder

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Trainer's checkpoint and ours, staged, and then moved into place.

        Raises `RunFailed` where the disk can't take it; the checkpoints before it stay.
        """
        folder = Path(self.args.output_dir)
        name = f"checkpoint-{self.state.global_step}"
        # every process is asked, as a sum over processes is among the states
        state = {"spec": self.spec_hash, "processes": self.args.world_size if self.sharded else None}
        state |= {key: part.state_dict() for key, part in self.stateful.items()}
        try:
            on_main(lambda: open_stage(folder, name))
            self._staged = True
            super()._save_checkpoint(model, trial)
            write_state(folder / STAGE / name, state, process=self.args.process_index)
            if self.args.world_size > 1:
                dist.barrier()
            on_main(lambda: publish(folder, name, keep=self.keep))
        # torch and safetensors report a full disk as RuntimeError and as an error of their own
        except Exception as error:
            if self.args.should_save:
                clear_stage(folder)
            reason = reason_of(error)
            raise RunFailed(
                f"can't write the checkpoint at step {self.state.global_step} ({reason})",
                where=str(folder),
                hint="the checkpoints and the curve before it are whole: free space, then run again with --resume",
            ) from error
        finally:
            self._staged = False

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if self.spec.lora_rank:
            if self.args.should_save:
                save_adapters(self.model, Path(output_dir or self.args.output_dir))
        elif not self.sharded:  # a sharded model is written with its optimizer
            super().save_model(output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        sharding.save(self.model, self.optimizer.optimizer, Path(output_dir))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if self.spec.lora_rank:
            load_adapters(self.model, Path(resume_from_checkpoint))
        elif not self.sharded:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.sharded or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        sharding.load(self.model, self.optimizer.optimizer, Path(checkpoint))
        schedule = torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True)
        self.lr_scheduler.load_state_dict(schedule)
