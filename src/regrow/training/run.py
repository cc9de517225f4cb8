"""One post-training run: a model and blocks in, a run record and a checkpoint out."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from regrow.data import BlockOrder, Blocks
from regrow.errors import InputError, RunFailed
from regrow.evaluation import check_vocabulary
from regrow.models.load import quiet
from regrow.models.save import save_checkpoint
from regrow.runs import RunRecord, RunWriter, read_run
from regrow.runs.store import RUN_FILE
from regrow.training.callbacks import CurveCallback, MaskCallback, OnProgress
from regrow.training.precision import resolve_precision
from regrow.training.spec import TrainSpec
from regrow.training.trainer import OrderedBlocks, PostTrainer

CHECKPOINTS = "checkpoints"
MODEL = "model"


def hardware() -> dict[str, Any]:
    """What the run runs on: device, and the versions that decide its numbers."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else (platform.processor() or platform.machine()),
        "devices": torch.cuda.device_count() if cuda else 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


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
    on_progress: OnProgress | None = None,
) -> RunRecord:
    """Post-train `model` in place and write the run folder `out`.

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
        resume: go on from the last checkpoint of an unfinished run of the same spec.

    Returns the finished record. The folder holds the final model in `model/` and `DONE`, written last.

    Raises `InputError` for blocks or a teacher that do not fit the model, `RunFailed` for a non-finite loss, lost
    zeros or a disk that can't be written.
    """
    for blocks, what in ((train, "training"), (held_out, "held-out")):
        if blocks.sequence_length != spec.sequence_length:
            raise InputError(f"{what} blocks of {blocks.sequence_length}, not {spec.sequence_length} tokens")
        check_vocabulary(blocks, model, where=f"{what} text")
    if teacher is not None and teacher.config.vocab_size != model.config.vocab_size:
        raise InputError(
            f"the teacher has {teacher.config.vocab_size} entries, the model {model.config.vocab_size}",
            where="--teacher",
            hint="distillation needs one vocabulary",
        )
    masks = masks or {}
    order = BlockOrder(blocks=len(train), seed=spec.seed)
    positions = spec.steps * spec.batch_blocks
    unfinished = read_run(out).details if resume and (out / RUN_FILE).exists() else {}
    precision = resolve_precision(spec.precision, model.device, recorded=unfinished.get("precision"))
    details = {
        **record.details,
        **hardware(),
        "precision": precision,
        "batch_tokens": spec.batch_tokens,
        "sequence_length": spec.sequence_length,
        "train_fingerprint": train.fingerprint,
        "held_out_fingerprint": held_out.fingerprint,
        "held_out_tokens": held_out.n_tokens - len(held_out),
        "unique_tokens": min(positions, len(train)) * spec.sequence_length,
        "epochs": round(order.epochs(positions), 4),
    }
    writer = RunWriter.open(out, replace(record, details=details, curve=()), resume=resume)
    checkpoint = get_last_checkpoint(str(out / CHECKPOINTS)) if resume and (out / CHECKPOINTS).is_dir() else None
    writer.rewind(_tokens_of(checkpoint, spec))
    losses: list[torch.Tensor] = []
    curve = CurveCallback(
        spec=spec, held_out=held_out, writer=writer, masks=masks, losses=losses, on_progress=on_progress
    )
    use_cache = model.config.use_cache
    trainer = PostTrainer(
        spec=spec,
        precision=precision,
        losses=losses,
        teacher=teacher,
        model=model,
        args=_arguments(spec, out),
        train_dataset=OrderedBlocks(train, order, positions),
        callbacks=[MaskCallback(masks), curve] if masks else [curve],
    )
    trainer.remove_callback(PrinterCallback)
    try:
        with quiet():
            trainer.train(resume_from_checkpoint=checkpoint)
    except BaseException as error:
        with contextlib.suppress(RunFailed):
            writer.update(status="failed")
        if isinstance(error, OSError):
            raise RunFailed(
                f"training stopped ({error.strerror or error})",
                where=str(out),
                hint="free space, then run again with --resume",
            ) from error
        raise
    model.config.use_cache = use_cache  # Trainer turns it off, and who generates from the result wants it
    save_checkpoint(model.to(save_dtype), tokenizer, out / MODEL, overwrite=True)
    speed = curve.tokens_per_second
    return writer.finish(details={**details, "tokens_per_second": round(speed, 1) if speed else None})


def _tokens_of(checkpoint: str | None, spec: TrainSpec) -> int:
    """Tokens trained on at a Trainer checkpoint; -1 without one, so that not even the first reading is kept."""
    return int(checkpoint.rsplit("-", 1)[1]) * spec.batch_tokens if checkpoint else -1


def _arguments(spec: TrainSpec, out: Path) -> TrainingArguments:
    micro = spec.micro_batch_blocks or spec.batch_blocks
    processes = accelerate.PartialState().num_processes
    if micro % processes:
        raise InputError(f"micro-batches of {micro} blocks do not divide over {processes} processes")
    cuda = torch.cuda.is_available()
    warmup = round(spec.warmup_tokens / spec.batch_tokens)
    return TrainingArguments(
        output_dir=str(out / CHECKPOINTS),
        max_steps=spec.steps,
        per_device_train_batch_size=micro // processes,
        gradient_accumulation_steps=spec.batch_blocks // micro,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="constant_with_warmup" if spec.schedule == "constant" else "cosine",
        warmup_steps=warmup,
        weight_decay=spec.weight_decay,
        adam_beta1=spec.betas[0],
        adam_beta2=spec.betas[1],
        max_grad_norm=spec.max_grad_norm,
        use_cpu=not cuda,
        seed=spec.seed,
        train_sampling_strategy="sequential",
        save_strategy="steps",
        save_steps=spec.steps + 1,  # the curve callback says when to save
        save_total_limit=2,
        logging_strategy="no",
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
    )
