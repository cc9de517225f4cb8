"""One post-training run: a model and blocks in, a run record and a checkpoint out."""

from __future__ import annotations

import contextlib
import platform
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainingArguments

from regrow.arch import Architecture
from regrow.data import BlockOrder, Blocks, DataWarning, repetition
from regrow.errors import InputError, RunFailed
from regrow.evaluation import check_vocabulary
from regrow.models.load import quiet
from regrow.models.masks import MaskKeeper
from regrow.models.save import save_checkpoint
from regrow.runs import RunRecord, RunWriter, read_run
from regrow.runs.store import RUN_FILE, is_done
from regrow.training import lora, sharding
from regrow.training.averages import Average
from regrow.training.callbacks import CurveCallback, KeepCallback, OnProgress, Watch
from regrow.training.checkpoints import KEPT, clear_stage, last_checkpoint, read_state, step_of
from regrow.training.kernels import set_kernels
from regrow.training.objective import LossMeter
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


def hardware() -> dict[str, Any]:
    """What the run runs on: device, and the versions that decide its numbers."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else processor(),
        "devices": torch.cuda.device_count() if cuda else 1,
        "processes": processes().num_processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The CPU by its name and the vector instructions that PyTorch uses on it, e.g. `AMD EPYC, AVX2`."""
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def train_model(
    model: PreTrainedModel,
    *,
    spec: TrainSpec,
    record: RunRecord,
    train: Blocks,
    held_out: Blocks,
    out: Path,
    masks: Mapping[str, torch.Tensor] | None = None,
    teacher: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    save_dtype: torch.dtype = torch.float32,
    resume: bool = False,
    shard: bool = False,
    stop: StopRequest | None = None,
    watch: Watch | None = None,
    on_progress: OnProgress | None = None,
    keep: int | None = KEPT,
    branch: Path | None = None,
) -> RunRecord:
    """Post-train `model` in place and write the run folder `out`.

    Under `accelerate launch` or `torchrun` every process calls this with the same arguments; the main one writes.

    Args:
        model: a causal LM with fp32 weights, as it is trained (in bf16 autocast where asked). Load it so:
            `.to()` from bf16 would leave the rotary frequencies rounded.
        spec: what to train. `record.spec` must hold it, as it names the run.
        record: the run's identity: sizes, method, rate and loss before pruning.
        train, held_out: packed blocks of the spec's sequence length.
        masks: weights kept at zero, by parameter name; checked at every evaluation.
        teacher: a model of the same vocabulary to distil from.
        tokenizer: saved beside the final model.
        save_dtype: dtype of the final model on disk.
        resume: go on from the last checkpoint of an unfinished run of the same spec; a finished one is returned.
        shard: share the parameters out over the processes (FSDP2) instead of copying them to each (DDP).
        stop: asked after every step; where it says so, a checkpoint is written and `RunStopped` raised.
        watch: shown the curve at every milestone; where it gives a reason, the run ends there, finished.
        keep: checkpoints to keep; None for all of them. A finished run's last one is what a cool-down goes on from.
        branch: the checkpoint of another run to begin at: weights, optimizer, step and place in the data are its own.
            The curve begins there.

    Returns the finished record. The folder holds the final model in `model/` and `DONE`, written last.

    Raises `InputError` for blocks or a teacher that do not fit the model, `RunFailed` for a non-finite loss, lost
    zeros or a disk that can't be written.
    """
    check_fit(model, teacher, spec, train, held_out)
    if resume and is_done(out, spec_hash=record.hash):
        return read_run(out)
    state = processes()
    if shard and (spec.lora_rank or state.num_processes == 1):
        raise InputError(
            "sharding needs several processes and trains all parameters",
            where="--shard",
            hint="start with torchrun, and use LoRA without --shard",
        )
    arguments = _arguments(spec, out)
    order = BlockOrder(blocks=len(train), seed=spec.seed)
    begun = out if resume and (out / RUN_FILE).exists() else None if branch is None else branch.parents[1]
    recorded = {} if begun is None else read_run(begun).details
    precision = resolve_precision(spec.precision, state.device, recorded=recorded.get("precision"))
    details = {**record.details, **hardware(), "precision": precision, **_counts(model, teacher, spec, train, held_out)}
    if state.is_main_process and "repetition" in details:
        warnings.warn(details["repetition"], DataWarning, stacklevel=2)
    writer = on_main(lambda: _open(out, replace(record, details=details, curve=()), resume, spec))
    checkpoint = (last_checkpoint(out / CHECKPOINTS, spec=record.hash) if resume else None) or branch

    use_cache = model.config.use_cache
    set_kernels(model, spec, precision=precision)
    plain, network = model, model
    if spec.lora_rank:
        network = lora.add_adapters(model, spec)
    if shard:
        sharding.shard(network)
    meter = LossMeter(state.device)
    trainer = PostTrainer(
        spec=spec,
        precision=precision,
        meter=meter,
        teacher=None if teacher is None else teacher.to(state.device),
        spec_hash=record.hash,
        sharded=shard,
        keep=keep,
        model=network,
        args=arguments,
        train_dataset=OrderedBlocks(train, order, spec.steps * spec.batch_blocks, isolated=spec.packing == "isolated"),
    )
    keeper = MaskKeeper(network, masks or {})
    average = Average(spec.average, network) if spec.average else None
    reader = Reader(spec=spec, held_out=held_out, keeper=keeper, where=str(out))
    curve = CurveCallback(
        trainer=trainer,
        reader=reader,
        writer=writer if state.is_main_process else None,
        blocks=train,
        order=order,
        average=average,
        stop=stop,
        watch=watch,
        on_progress=on_progress if state.is_main_process else None,
        first_step=0 if branch is None else step_of(branch),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(KeepCallback(keeper, average))
    trainer.add_callback(curve)
    trainer.stateful = {"meter": meter, "curve": curve} | ({"average": average} if average else {})
    if checkpoint is not None:
        # of another run's readings nothing is taken over, of its weights everything
        _restore(trainer, checkpoint, only=["average"] if checkpoint == branch else trainer.stateful)
    try:
        with quiet():
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except BaseException as error:
        if state.is_main_process:
            with contextlib.suppress(RunFailed):
                writer.update(status="failed")
        if isinstance(error, OSError):
            raise RunFailed(
                f"training stopped ({error.strerror or error})",
                where=str(out),
                hint="free space, then run again with --resume",
            ) from error
        raise
    if curve.stopped_by is not None and trainer.state.global_step < spec.steps:
        raise RunStopped(
            f"stopped by {curve.stopped_by} at {trainer.state.global_step * spec.batch_tokens} of "
            f"{spec.steps * spec.batch_tokens} tokens, checkpoint written",
            where=str(out),
            hint="the same command with --resume goes on",
        )
    if curve.ended_by is not None:
        steps = trainer.state.global_step
        details |= _counts(model, teacher, spec, train, held_out, steps=steps)
        details |= {"ended_at": steps * spec.batch_tokens, "ended_by": curve.ended_by}
    if spec.lora_rank:
        details |= _merge(network, reader, spec)
    plain.config.use_cache = use_cache  # Trainer turns it off, and who generates from the result wants it
    weights = sharding.full_state_dict(network) if shard else None
    speed = curve.tokens_per_second
    details["tokens_per_second"] = round(speed, 1) if speed else None
    return on_main(lambda: _finish(writer, plain, weights, tokenizer, save_dtype, masks or {}, out, details))


def check_fit(
    model: PreTrainedModel, teacher: PreTrainedModel | None, spec: TrainSpec, train: Blocks, held_out: Blocks
) -> None:
    """Raise `InputError` if the blocks or the teacher do not fit the model."""
    for blocks, what in ((train, "training"), (held_out, "held-out")):
        if blocks.sequence_length != spec.sequence_length:
            raise InputError(
                f"{what} blocks of {blocks.sequence_length}, not {spec.sequence_length} tokens",
                where="train spec",
                hint="cut the text into blocks of the spec's sequence_length",
            )
        check_vocabulary(blocks, model, where=f"{what} text")
    if teacher is not None and teacher.config.vocab_size != model.config.vocab_size:
        raise InputError(
            f"the teacher has {teacher.config.vocab_size} entries, the model {model.config.vocab_size}",
            where="--teacher",
            hint="distillation needs one vocabulary",
        )


def _counts(
    model: PreTrainedModel,
    teacher: PreTrainedModel | None,
    spec: TrainSpec,
    train: Blocks,
    held_out: Blocks,
    *,
    steps: int | None = None,
) -> dict[str, Any]:
    """What the run will have seen and computed at its end, or has after so many optimizer steps."""
    steps = spec.steps if steps is None else steps
    positions, tokens = steps * spec.batch_blocks, steps * spec.batch_tokens
    repeats = repetition(train, tokens=tokens)
    flops = training_flops_per_token(model, teacher, spec.sequence_length)
    return {
        "batch_tokens": spec.batch_tokens,
        "sequence_length": spec.sequence_length,
        "train_fingerprint": train.fingerprint,
        "held_out_fingerprint": held_out.fingerprint,
        "held_out_tokens": held_out.n_tokens - len(held_out),
        "unique_tokens": min(positions, len(train)) * spec.sequence_length,
        "epochs": round(BlockOrder(blocks=len(train), seed=spec.seed).epochs(positions), 4),
        "flops_per_token": flops,
        "flops": None if flops is None else flops * tokens,
        **({} if repeats is None else {"repetition": repeats}),
    }


def training_flops_per_token(
    model: PreTrainedModel, teacher: PreTrainedModel | None, sequence_length: int
) -> float | None:
    """FLOPs that the objective asks of a token: three forward passes' worth, and one of the teacher.

    Recomputed activations, zeros that are multiplied all the same and evaluations are not in it. None for an
    architecture that is not known.
    """
    try:
        own = Architecture.from_config(model.config.to_dict()).training_flops_per_token(sequence_length)
        if teacher is None:
            return own
        return own + Architecture.from_config(teacher.config.to_dict()).forward_flops_per_token(sequence_length)
    except InputError:
        return None


def _open(out: Path, record: RunRecord, resume: bool, spec: TrainSpec) -> RunWriter:
    """The run on disk, its curve as long as its last whole checkpoint."""
    writer = RunWriter.open(out, record, resume=resume)
    clear_stage(out / CHECKPOINTS)
    checkpoint = last_checkpoint(out / CHECKPOINTS, spec=record.hash) if resume else None
    # without a checkpoint not even the first reading is kept
    writer.rewind(-1 if checkpoint is None else step_of(checkpoint) * spec.batch_tokens)
    return writer


def _restore(trainer: PostTrainer, checkpoint: Path, *, only: Iterable[str]) -> None:
    """Give these of the run's parts what a checkpoint kept of them."""
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


def _merge(network: Any, reader: Reader, spec: TrainSpec) -> dict[str, Any]:
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
    model: PreTrainedModel,
    weights: dict[str, Any] | None,
    tokenizer: PreTrainedTokenizerBase | None,
    save_dtype: torch.dtype,
    masks: Mapping[str, torch.Tensor],
    out: Path,
    details: dict[str, Any],
) -> RunRecord:
    """Write the model, its zeros proven once more, and mark the run as done."""
    if weights is not None:
        model = sharding.gathered(model, weights)
    model = model.to(save_dtype)
    broken = MaskKeeper(model, masks).violations()
    if broken:
        raise RunFailed(
            f"pruned weights of {next(iter(broken))} are not zero in the final model", where=str(out), hint=ZEROS_LOST
        )
    save_checkpoint(model, tokenizer, out / MODEL, overwrite=True)
    return writer.finish(details=details)


def _arguments(spec: TrainSpec, out: Path) -> TrainingArguments:
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
