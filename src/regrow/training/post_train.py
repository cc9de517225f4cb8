"""Post-train a checkpoint folder on text: everything `regrow train` does, from Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from regrow.data import Blocks, read_blocks, read_split
from regrow.errors import InputError
from regrow.evaluation import evaluate
from regrow.methods import is_masked
from regrow.models.load import count_nonzero, count_params, load_model, load_tokenizer
from regrow.models.masks import zero_masks
from regrow.models.save import PRUNE_RECORD
from regrow.runs import CONTROL, RunRecord, read_run
from regrow.runs.store import RUN_FILE
from regrow.training.callbacks import OnProgress
from regrow.training.checkpoints import KEPT
from regrow.training.probe import probe_learning_rate
from regrow.training.processes import processes
from regrow.training.run import check_fit, train_model
from regrow.training.signals import StopRequest
from regrow.training.spec import TrainSpec
from regrow.training.teacher import load_teacher


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
    lr_probe: int = 0,
    resume: bool = False,
    cache: bool = True,
    shard: bool = False,
    stop: StopRequest | None = None,
    forecast: str | Path | None = None,
    stop_when: str | None = None,
    on_forecast: Callable[[str], None] | None = None,
    on_progress: OnProgress | None = None,
    keep: int | None = KEPT,
) -> RunRecord:
    """Post-train the checkpoint `model` on `data` and record its curve in the run folder `out`.

    Args:
        held_out: held-out text; without it, `held_out_share` of the documents of `data` are held out.
        original: the unpruned model, whose held-out loss is L0; known for what `regrow prune` wrote.
        loss_before: L0 in nats/token on the same held-out text, if the unpruned model is not at hand.
        family: name under which runs are fitted together; the model type if None.
        teacher: a model to distil from.
        cache: keep the tokenised text for the next run (`regrow.data`).
        lr_probe: first try rates around the spec's on so many tokens each, and train with the one that does best.
        resume, shard, stop, keep: see `train_model`.
        forecast: forecast the run at every milestone: from its own curve (`run`), or by a law file.
        stop_when: end the run once that says so, as in `gain:0.01` (`regrow.training.forecast.parse_stop`).
        on_forecast: is given each forecast in one line.

    Raises `InputError` where L0 can't be known or the data do not fit, `RunFailed` where training breaks.
    """
    watcher = None
    if forecast is not None or stop_when is not None:
        from regrow.training.forecast import watch_for

        watcher = watch_for(forecast, stop_when, on_forecast)
    folder = Path(model)
    origin = read_origin(folder)
    device = processes().device
    # a model that is to be shared out may be too large for one device
    network = load_model(model, dtype=torch.float32, device="cpu" if shard else device)
    tokenizer = load_tokenizer(model)
    train, held = read_text(tokenizer, data, held_out, held_out_share, spec, cache)
    original = original or (origin.model if origin and Path(origin.model).is_dir() else None)
    is_control = origin is None and original is None
    if loss_before is None and origin is not None and original is None:
        raise InputError(
            f"the unpruned model {origin.model!r} is not here",
            where=str(folder),
            hint="give its folder with --original, or its held-out loss with --loss-before",
        )
    isolated = spec.packing == "isolated"
    before = origin.params_before if origin else count_params(network)
    # the original is asked for its size as well, where no record of `regrow prune` holds it
    if original is not None and (loss_before is None or origin is None):
        size, loss = _measure(original, held, device, isolated)
        before = origin.params_before if origin else size
        loss_before = loss if loss_before is None else loss_before
    elif loss_before is None:
        loss_before = _measure(model, held, device, isolated)[1] if shard else _loss(network, held, isolated)
    method = origin.method if origin else (CONTROL if is_control else "other")
    sparse = is_masked(method)
    after = count_nonzero(network) if sparse else count_params(network)
    masks = zero_masks(network) if sparse else None
    taught_by = load_teacher(teacher, tokenizer) if teacher else None
    found = None
    if lr_probe:
        found = _recorded_probe(Path(out)) if resume else None
        if found is None:
            found = _probe(network, spec, lr_probe, train, held, masks, taught_by)
        spec = replace(spec, learning_rate=found["learning_rate"])
    asked: dict[str, Any] = {
        "model": model,
        "data": data,
        "held_out": held_out,
        "held_out_share": None if held_out else held_out_share,
        "teacher": teacher,
        "train": spec.to_dict(),
    }
    if stop_when is not None:  # part of what names the run: it decides where it ends
        asked |= {"forecast": None if forecast is None else str(forecast), "stop_when": stop_when}
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
        objective=str(spec.objective(distils=teacher is not None)),
        schedule=spec.schedule,
        details={"model": model, **({"lr_probe": found} if found else {})},
    )
    return train_model(
        network,
        spec=spec,
        record=record,
        train=train,
        held_out=held,
        out=Path(out),
        masks=masks,
        teacher=taught_by,
        tokenizer=tokenizer,
        save_dtype=saved_dtype(folder),
        resume=resume,
        shard=shard,
        stop=stop,
        watch=None if watcher is None else watcher(record, spec),
        on_progress=on_progress,
        keep=keep,
    )


def _loss(model: PreTrainedModel, held: Blocks, isolated: bool) -> float:
    state = processes()
    return evaluate(model, held, share=(state.process_index, state.num_processes), isolated=isolated).loss


def _measure(model: str, held: Blocks, device: torch.device, isolated: bool) -> tuple[int, float]:
    """Parameters and held-out loss of a model that is needed for nothing else, and so not kept."""
    reference = load_model(model, dtype=torch.float32, device=device)
    return count_params(reference), _loss(reference, held, isolated)


def _recorded_probe(out: Path) -> dict[str, Any] | None:
    """What the probe of an unfinished run found: a second one could find another rate on an accelerator."""
    return read_run(out).details.get("lr_probe") if (out / RUN_FILE).exists() else None


def _probe(
    network: PreTrainedModel,
    spec: TrainSpec,
    tokens: int,
    train: Blocks,
    held: Blocks,
    masks: Mapping[str, torch.Tensor] | None,
    teacher: PreTrainedModel | None,
) -> dict[str, Any]:
    if spec.lora_rank or processes().num_processes > 1:
        raise InputError(
            "a rate is probed in one process and for all parameters",
            where="--lr-probe",
            hint="probe so first, then give the rate with --lr",
        )
    check_fit(network, teacher, spec, train, held)
    return probe_learning_rate(
        network, spec=spec, tokens=tokens, train=train, held_out=held, masks=masks, teacher=teacher
    ).to_dict()


def saved_dtype(folder: Path) -> torch.dtype:
    """The dtype a checkpoint says it is in; fp32 where it does not say."""
    config = json.loads((folder / "config.json").read_text())
    return getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "float32"), torch.float32)


def read_text(
    tokenizer: Any, data: str, held_out: str | None, share: float | None, spec: TrainSpec, cache: bool
) -> tuple[Blocks, Blocks]:
    """A run's training blocks and its sample of held-out ones; without `held_out`, `share` of the documents of `data`
    are held out."""
    length = spec.sequence_length
    if held_out is None:
        train, held = read_split(data, tokenizer, sequence_length=length, held_out_share=share or 0.0, cache=cache)
    else:
        train = read_blocks(data, tokenizer, sequence_length=length, cache=cache)
        held = read_blocks(held_out, tokenizer, sequence_length=length, cache=cache)
    return train, held.sample(spec.held_out_blocks, seed=0)
