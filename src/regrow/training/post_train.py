"""Post-train a checkpoint folder on text: everything `regrow train` does, from Python."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regrow.data import Blocks, read_blocks, read_split
from regrow.errors import InputError
from regrow.evaluation import evaluate
from regrow.methods import is_masked
from regrow.models.load import count_nonzero, count_params, load_model, load_tokenizer
from regrow.models.masks import zero_masks
from regrow.models.save import PRUNE_RECORD
from regrow.runs import CONTROL, RunRecord
from regrow.training.callbacks import OnProgress
from regrow.training.run import train_model
from regrow.training.signals import StopRequest
from regrow.training.spec import TrainSpec


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a checkpoint was before it was pruned, as `regrow prune` wrote beside it."""

    method: str
    params_before: int
    model: str


def read_origin(folder: Path) -> Origin | None:
    """The origin of a pruned checkpoint; None for one that regrow has not pruned.

    Raises `InputError` if the file is there and can't be read.
    """
    path = folder / PRUNE_RECORD
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        plan = content["plan"]
        return Origin(method=plan["method"], params_before=plan["params_before"], model=content["model"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError("not what `regrow prune` writes", where=str(path), hint="prune the model again") from None


def post_train(
    model: str,
    *,
    data: str,
    spec: TrainSpec,
    out: str | Path,
    held_out: str | None = None,
    held_out_share: float = 0.05,
    original: str | None = None,
    loss_before: float | None = None,
    family: str | None = None,
    teacher: str | None = None,
    resume: bool = False,
    cache: bool = True,
    shard: bool = False,
    stop: StopRequest | None = None,
    on_progress: OnProgress | None = None,
) -> RunRecord:
    """Post-train the checkpoint `model` on `data` and record its curve in the run folder `out`.

    Args:
        held_out: held-out text; without it, `held_out_share` of the documents of `data` are held out.
        original: the unpruned model, whose held-out loss is L0; known for what `regrow prune` wrote.
        loss_before: L0 in nats/token on the same held-out text, if the unpruned model is not at hand.
        family: name under which runs are fitted together; the model type if None.
        teacher: a model to distil from.
        cache: keep the tokenised text for the next run (`regrow.data`).
        resume, shard, stop: see `train_model`.

    Raises `InputError` where L0 can't be known or the data do not fit, `RunFailed` where training breaks.
    """
    folder = Path(model)
    origin = read_origin(folder)
    network, tokenizer = load_model(model, dtype=torch.float32), load_tokenizer(model)
    train, held = _blocks(tokenizer, data, held_out, held_out_share, spec, cache)
    original = original or (origin.model if origin and Path(origin.model).is_dir() else None)
    is_control = origin is None and original is None
    if loss_before is None and origin is not None and original is None:
        raise InputError(
            f"the unpruned model {origin.model!r} is not here",
            where=str(folder),
            hint="give its folder with --original, or its held-out loss with --loss-before",
        )
    # the original is asked for its size as well, where no record of `regrow prune` holds it
    reference = network
    if original is not None and (loss_before is None or origin is None):
        reference = load_model(original, dtype=torch.float32)
    before = origin.params_before if origin else count_params(reference)
    if loss_before is None:
        loss_before = evaluate(reference, held).loss
    method = origin.method if origin else (CONTROL if is_control else "other")
    sparse = is_masked(method)
    after = count_nonzero(network) if sparse else count_params(network)
    distilled = f"distillation:T={spec.distill_temperature:g},mix={spec.distill_mix:g}"
    asked: dict[str, Any] = {
        "model": model,
        "data": data,
        "held_out": held_out,
        "held_out_share": None if held_out else held_out_share,
        "teacher": teacher,
        "train": spec.to_dict(),
    }
    record = RunRecord(
        run=Path(out).name,
        family=family or str(network.config.model_type),
        method=method,
        params_before=before,
        params_after=after,
        pruning_rate=1 - after / before,
        loss_before=loss_before,
        spec=asked,
        seed=spec.seed,
        objective=distilled if teacher else "cross-entropy",
        schedule=spec.schedule,
        details={"model": model},
    )
    return train_model(
        network,
        spec=spec,
        record=record,
        train=train,
        held_out=held,
        out=Path(out),
        masks=zero_masks(network) if sparse else None,
        teacher=load_model(teacher).eval() if teacher else None,
        tokenizer=tokenizer,
        save_dtype=_saved_dtype(folder),
        resume=resume,
        shard=shard,
        stop=stop,
        on_progress=on_progress,
    )


def _saved_dtype(folder: Path) -> torch.dtype:
    """The dtype a checkpoint says it is in; fp32 where it does not say."""
    config = json.loads((folder / "config.json").read_text())
    return getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "float32"), torch.float32)


def _blocks(
    tokenizer: Any, data: str, held_out: str | None, share: float, spec: TrainSpec, cache: bool
) -> tuple[Blocks, Blocks]:
    length = spec.sequence_length
    if held_out is None:
        train, held = read_split(data, tokenizer, sequence_length=length, held_out_share=share, cache=cache)
    else:
        train = read_blocks(data, tokenizer, sequence_length=length, cache=cache)
        held = read_blocks(held_out, tokenizer, sequence_length=length, cache=cache)
    return train, held.sample(spec.held_out_blocks, seed=0)
