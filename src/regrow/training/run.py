"""One post-training run: inputs and a spec in, a run record and a checkpoint out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from regrow.data import BlockOrder, DataWarning
from regrow.errors import InputError, RunFailed
from regrow.models.load import quiet
from regrow.models.masks import MaskKeeper
from regrow.models.memory import keep_freed_memory
from regrow.models.save import save_checkpoint
from regrow.runs import RunRecord, RunWriter, read_run
from regrow.runs.store import CURVE_FILE, RUN_FILE, is_done
from regrow.training import lora, sharding
from regrow.training.averages import Average
from regrow.training.callbacks import CurveCallback, KeepCallback, OnProgress, Watch
from regrow.training.checkpoints import KEPT, clear_stage, last_checkpoint, read_state, restore_curve, step_of
from regrow.training.counts import run_counts
from regrow.training.hardware import hardware
from regrow.training.identity import check_same
from regrow.training.inputs import RunInputs
from regrow.training.kernels import set_kernels
from regrow.training.objective import LossMeter
from regrow.training.origin import record_after
from regrow.training.precision import resolve_precision
from regrow.training.processes import on_main, processes
from regrow.training.reading import ZEROS_LOST, Reader
from regrow.training.signals import RunStopped, StopRequest
from regrow.training.spec import TrainSpec
from regrow.training.trainer import OrderedBlocks, PostTrainer

CHECKPOINTS = "checkpoints"
MODEL = "model"
#: where the run of a study keeps the pruned model it began from, until it is done
START = "start"

OnStart = Callable[[RunRecord], None]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out. Nothing here is part of its spec.

    Attributes:
        resume: go on from the last checkpoint of an unfinished run of the same spec; a finished one is returned.
        shard: share the parameters out over the processes (FSDP2) instead of copying them to each (DDP).
        keep: checkpoints to keep; None for all of them. A cool-down goes on from one that a finished run has kept.
        stop: asked after every step; if it says yes, a checkpoint is written and `RunStopped` raised.
        watch: called with the curve at every milestone; if it returns a reason, the run ends there as finished.
        on_start: called in the main process with the run's record before its first step; the record's curve is what an
            earlier part of the run has read.
        on_progress: called after every step with the run's progress.
        trackers: callbacks that report the run elsewhere too (`regrow.training.trackers`).
    """

    resume: bool = False
    shard: bool = False
    keep: int | None = KEPT
    stop: StopRequest | None = None
    watch: Watch | None = None
    on_start: OnStart | None = None
    on_progress: OnProgress | None = None
    trackers: tuple[TrainerCallback, ...] = ()


def train_model(
    inputs: RunInputs,
    *,
    spec: TrainSpec,
    record: RunRecord,
    out: Path,
    options: RunOptions | None = None,
    branch: Path | None = None,
) -> RunRecord:
    """Post-train `inputs.model` in place and write the run folder `out`.

    Under `accelerate launch` or `torchrun` every process calls this with the same arguments; the main one writes.

    Args:
        spec: what to train. `record.spec` must hold it, as it names the run.
        record: the run's identity: sizes, method, rate and loss before pruning.
        options: how to carry it out; see `RunOptions`.
        branch: the checkpoint of another run to begin at: weights, optimizer, step and place in the data are its own.
            The curve begins there.

    Returns the finished record. The folder holds the final model in `model/` and `DONE`, written last.

    Raises `InputError` for blocks or a teacher that do not fit the model, `RunFailed` for a non-finite loss, lost
    zeros or a disk that can't be written.
    """
    options = options or RunOptions()
    keep_freed_memory()
    inputs.check_fit(spec)
    if options.resume and is_done(out, spec_hash=record.hash):
        done = read_run(out)
        check_same(done, record, {**record.details, **inputs.fingerprints()}, where=str(out))
        return done
    if options.shard and (spec.lora_rank or processes().num_processes == 1):
        raise InputError(
            "sharding needs several processes and trains all parameters",
            where="--shard",
            hint="start with torchrun, and use LoRA without --shard",
        )
    run = _Run(inputs, spec, record, out, options, branch)
    run.train()
    return run.finish()


class _Run:
    """A run under way: opened on disk and built; then `train`, then `finish`."""

    def __init__(
        self,
        inputs: RunInputs,
        spec: TrainSpec,
        record: RunRecord,
        out: Path,
        options: RunOptions,
        branch: Path | None,
    ) -> None:
        self.inputs = inputs
        self.spec = spec
        self.out = out
        self.options = options
        self.branch = branch
        arguments = _arguments(spec, out, record.run)
        begun = read_run(out) if options.resume and (out / RUN_FILE).exists() else None
        precision = self._precision(begun)
        self.details = {**record.details, **hardware(), "precision": precision, **run_counts(inputs, spec)}
        if begun is not None and begun.hash == record.hash:
            check_same(begun, record, self.details, where=str(out))
            record = replace(record, loss_before=begun.loss_before)  # another machine may measure another L0
        if processes().is_main_process and "repetition" in self.details:
            warnings.warn(self.details["repetition"], DataWarning, stacklevel=4)
        opened = replace(record, details=self.details, curve=())
        self.writer, kept = on_main(lambda: _open(out, opened, options.resume, spec))
        self.checkpoint = kept or branch
        self.use_cache = inputs.model.config.use_cache
        self.order = BlockOrder(blocks=len(inputs.train), seed=spec.seed)
        self.network = self._network(precision)
        self.trainer = self._trainer(arguments, precision, record.hash)
        self.keeper = MaskKeeper(self.network, inputs.masks)
        self.reader = Reader(
            spec=spec, held_out=inputs.held_out, keeper=self.keeper, where=str(out), harness=inputs.harness
        )
        self.curve = self._add_callbacks()
        if self.checkpoint is not None:
            # a branch takes the weights of the other run and none of its readings
            own = self.checkpoint != branch
            _restore(self.trainer, self.checkpoint, only=self.trainer.stateful if own else ["average"])

    def _precision(self, begun: RunRecord | None) -> str:
        """The precision of the run. A resumed run keeps the one that it was `begun` with."""
        if begun is None and self.branch is not None:
            begun = read_run(self.branch.parents[1])
        recorded = None if begun is None else begun.details.get("precision")
        return resolve_precision(self.spec.precision, processes().device, recorded=recorded)

    def _network(self, precision: str) -> Any:
        """The model as it trains: with its kernels, and adapters or shards where asked."""
        network: Any = self.inputs.model
        set_kernels(network, self.spec, precision=precision)
        if self.spec.lora_rank:
            network = lora.add_adapters(network, self.spec)
        if self.options.shard:
            sharding.shard(network)
        return network

    def _trainer(self, arguments: TrainingArguments, precision: str, spec_hash: str) -> PostTrainer:
        spec, train, teacher, device = self.spec, self.inputs.train, self.inputs.teacher, processes().device
        blocks = spec.steps * spec.batch_blocks
        return PostTrainer(
            spec=spec,
            precision=precision,
            meter=LossMeter(device),
            teacher=None if teacher is None else teacher.to(device),
            spec_hash=spec_hash,
            sharded=self.options.shard,
            keep=self.options.keep,
            model=self.network,
            args=arguments,
            train_dataset=OrderedBlocks(train, self.order, blocks, isolated=spec.packing == "isolated"),
        )

    def _add_callbacks(self) -> CurveCallback:
        options, trainer, main = self.options, self.trainer, processes().is_main_process
        average = Average(self.spec.average, self.network) if self.spec.average else None
        curve = CurveCallback(
            trainer=trainer,
            reader=self.reader,
            writer=self.writer if main else None,
            blocks=self.inputs.train,
            order=self.order,
            average=average,
            stop=options.stop,
            watch=options.watch,
            on_progress=options.on_progress if main else None,
            tracked=bool(options.trackers),
            first_step=0 if self.branch is None else step_of(self.branch),
        )
        trainer.remove_callback(PrinterCallback)
        for tracker in options.trackers:
            trainer.add_callback(tracker)
        trainer.add_callback(KeepCallback(self.keeper, average))
        trainer.add_callback(curve)
        trainer.stateful = {"meter": trainer.meter, "curve": curve} | ({"average": average} if average else {})
        return curve

    def train(self) -> None:
        """Train to the end. Raises `RunStopped` where the run was asked to stop before it."""
        spec, curve = self.spec, self.curve
        if self.options.on_start is not None and processes().is_main_process:
            self.options.on_start(self.writer.record)
        with self._failures_recorded(), quiet():
            self.trainer.train(resume_from_checkpoint=None if self.checkpoint is None else str(self.checkpoint))
        steps = self.trainer.state.global_step
        if curve.stopped_by is not None and steps < spec.steps:
            raise RunStopped(
                f"stopped by {curve.stopped_by} at {steps * spec.batch_tokens} of "
                f"{spec.steps * spec.batch_tokens} tokens, checkpoint written",
                where=str(self.out),
                hint="the same command with --resume goes on",
            )
        if curve.ended_by is not None:
            self.details |= run_counts(self.inputs, spec, steps=steps)
            self.details |= {"ended_at": steps * spec.batch_tokens, "ended_by": curve.ended_by}

    @contextlib.contextmanager
    def _failures_recorded(self) -> Iterator[None]:
        """Inside, whatever goes wrong is written to the record; an error of the system becomes `RunFailed`."""
        try:
            yield
        except BaseException as error:
            if processes().is_main_process:
                with contextlib.suppress(RunFailed):
                    self.writer.update(status="failed")
            if isinstance(error, OSError):
                raise RunFailed(
                    f"training stopped ({error.strerror or error})",
                    where=str(self.out),
                    hint="free space, then run again with --resume",
                ) from error
            raise

    def finish(self) -> RunRecord:
        """Write the final model and mark the run as done."""
        model, network = self.inputs.model, self.network
        if self.spec.lora_rank:
            self.details |= _merge(network, self.reader)
        model.config.use_cache = self.use_cache  # Trainer turns it off; generation from the result needs it
        weights = sharding.full_state_dict(network) if self.options.shard else None
        if self.inputs.harness is not None and self.inputs.harness.measured:
            self.details["tasks"] = self.inputs.harness.measured
        speed = self.curve.tokens_per_second
        self.details["tokens_per_second"] = round(speed, 1) if speed else None
        tokens = self.trainer.state.global_step * self.spec.batch_tokens
        return on_main(lambda: _finish(self.writer, self.inputs, weights, self.out, self.details, tokens))


def _open(out: Path, record: RunRecord, resume: bool, spec: TrainSpec) -> tuple[RunWriter, Path | None]:
    """The run on disk, its curve cut at its last whole checkpoint, and that checkpoint."""
    # before anything is written: a checkpoint of another spec, or none that is whole, is refused
    other = (out / RUN_FILE).exists() and read_run(out).hash != record.hash  # refused below
    checkpoint = last_checkpoint(out / CHECKPOINTS, spec=record.hash) if resume and not other else None
    if checkpoint is not None and not (out / CURVE_FILE).exists():
        restore_curve(out, checkpoint)
    writer = RunWriter.open(out, record, resume=resume)
    clear_stage(out / CHECKPOINTS)
    # without a checkpoint not even the first reading is kept
    writer.rewind(-1 if checkpoint is None else step_of(checkpoint) * spec.batch_tokens)
    return writer, checkpoint


def _restore(trainer: PostTrainer, checkpoint: Path, *, only: Iterable[str]) -> None:
    """Load the state of these parts of the run from a checkpoint."""
    process, world = trainer.args.process_index, trainer.args.world_size
    main = read_state(checkpoint)
    if "average" in trainer.stateful and main["processes"] not in (None, world):
        raise InputError(
            f"averaged weights were sharded over {main['processes']} processes, now there are {world}",
            where=str(checkpoint),
            hint="go on with as many processes",
        )
    own = read_state(checkpoint, process=process) if main["processes"] == world else main
    for name in trainer.stateful.keys() & set(only):
        part = trainer.stateful[name]
        if name == "meter":  # a sum over the processes: one of them takes it
            part.load_state_dict(main[name], share=float(process == 0))
        else:
            part.load_state_dict(own[name])


def _merge(network: Any, reader: Reader) -> dict[str, Any]:
    """Merge the adapters and say what that did to the held-out loss."""
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    before = reader.plain_loss(network, at="before the merge")
    plain = lora.merge(network, reader.keeper)
    after = reader.loss(plain, at="after the merge")
    return {
        "lora_params": trained,
        "lora_loss_adapted": before,
        "lora_loss_merged": after,
        "lora_masking_cost": after - before if reader.keeper else None,
    }


def _finish(
    writer: RunWriter,
    inputs: RunInputs,
    weights: dict[str, Any] | None,
    out: Path,
    details: dict[str, Any],
    tokens: int,
) -> RunRecord:
    """Write the model, its zeros proven once more, and mark the run as done.

    Args:
        weights: the whole weights of a sharded model; None for one that is not sharded.
        tokens: what it was trained on.
    """
    model = inputs.model if weights is None else sharding.gathered(inputs.model, weights)
    model = model.to(inputs.save_dtype)
    broken = MaskKeeper(model, inputs.masks).violations()
    if broken:
        raise RunFailed(
            f"pruned weights of {next(iter(broken))} are not zero in the final model", where=str(out), hint=ZEROS_LOST
        )
    extra = {}
    if inputs.beside is not None:
        extra = record_after(inputs.beside.folder, tokens=tokens + details.get("trained_before", 0))
    save_checkpoint(model, None, out / MODEL, beside=inputs.beside, extra=extra, overwrite=True)
    return writer.finish(details=details)


def _arguments(spec: TrainSpec, out: Path, name: str) -> TrainingArguments:
    micro = spec.micro_batch_blocks or spec.batch_blocks
    count = processes().num_processes
    if micro % count:
        raise InputError(
            f"micro-batches of {micro} blocks do not divide over {count} processes",
            where="--micro-batch",
            hint=f"it counts the blocks of all processes together: use a multiple of {count}",
        )
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(out / CHECKPOINTS),
        run_name=name,
        max_steps=spec.steps,
        per_device_train_batch_size=micro // count,
        gradient_accumulation_steps=spec.batch_blocks // micro,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        adam_beta1=spec.betas[0],
        adam_beta2=spec.betas[1],
        max_grad_norm=spec.max_grad_norm,
        optim="adamw_torch_fused",
        use_cpu=not cuda,
        seed=spec.seed,
        train_sampling_strategy="sequential",
        torch_compile=spec.compile,
        save_strategy="no",  # the curve callback says when to save
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it waits for the device at every micro-batch
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
        ddp_find_unused_parameters=False,
        report_to=[],
        disable_tqdm=True,
    )
