"""Post-train a checkpoint folder on text: everything `regrow train` does, from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from regrow.data import Blocks
from regrow.errors import InputError
from regrow.evaluation import evaluate
from regrow.models.load import count_nonzero, count_params, load_model, local_checkpoint
from regrow.models.masks import zero_masks
from regrow.runs import CONTROL, RunRecord, Score, read_run
from regrow.runs.store import RUN_FILE
from regrow.training.callbacks import OnProgress
from regrow.training.checkpoints import KEPT
from regrow.training.identity import fingerprints_of, writing_run
from regrow.training.inputs import RunInputs, TextSpec, load_inputs
from regrow.training.origin import Origin, Pruned, how_pruned, read_origin
from regrow.training.probe import probe_learning_rate
from regrow.training.processes import processes
from regrow.training.run import RunOptions, train_model
from regrow.training.signals import StopRequest
from regrow.training.spec import TrainSpec
from regrow.training.teacher import load_teacher

if TYPE_CHECKING:
    from regrow.scores.harness import Harness


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
    method: str | None = None,
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
    task_folders: tuple[Path, ...] = (),
    find: Callable[[str, str], str] | None = None,
) -> RunRecord:
    """Post-train the checkpoint `model` on `data` and record its curve in the run folder `out`.

    Args:
        held_out: held-out text; without it, `held_out_share` of the documents of `data` are held out.
        original: the unpruned model, whose held-out loss is L0; known for what `regrow prune` wrote.
        loss_before: L0 in nats/token on the same held-out text, if the unpruned model is not at hand.
        method: how another tool pruned the model: `depth`, `width`, N:M, `sparse`, `other`, or `none`; known for what
            `regrow prune` wrote, and where every matrix of the blocks keeps an N:M pattern.
        family: name under which runs are fitted together; the model type if None.
        teacher: a model to distil from.
        cache: keep the tokenised text for the next run (`regrow.data`).
        lr_probe: tokens on which each of several rates around the spec's is tried first; the best is used. 0: none.
        resume, shard, stop, keep, on_progress: see `regrow.training.run.RunOptions`.
        forecast: forecast the run at every milestone: from its own curve (`run`), or by a law file.
        stop_when: end the run once that says so, as in `gain:0.01` (`regrow.training.forecast.parse_stop`).
        on_forecast: is given each forecast in one line.
        task_folders: of further task files for the benchmarks that the spec names; see `regrow.scores.TasksSpec`.
        find: where a thing lies, given its name and what it is (`model`, `data`, `held_out`, `original`, `teacher`);
            by default under its name. The record holds the names, so that another machine can go on with the run.

    Raises `InputError` where L0 can't be known, the data do not fit, another process writes the run, or a run that is
    resumed was begun with another text or model; `RunFailed` where training breaks.
    """
    if Path(out).exists():  # refuse a folder that is in use before anything is loaded
        with writing_run(Path(out)):
            pass
    names = {"model": model, "data": data, "held_out": held_out, "teacher": teacher}
    if find is not None:
        model, data = find(model, "model"), find(data, "data")
        held_out = None if held_out is None else find(held_out, "held_out")
        teacher = None if teacher is None else find(teacher, "teacher")
        original = None if original is None else find(original, "original")
    watcher = None
    if forecast is not None or stop_when is not None:
        from regrow.training.forecast import watch_for

        watcher = watch_for(forecast, stop_when, on_forecast)
    origin = read_origin(local_checkpoint(model))
    original = original or _original_of(origin, find)
    text = TextSpec(data=data, held_out=held_out, held_out_share=None if held_out else held_out_share, cache=cache)
    inputs = load_inputs(model, text, spec, masked=False, shard=shard)
    pruned = how_pruned(inputs.model, origin, asked=method, has_original=original is not None, where=model)
    if pruned.keeps_zeros:
        inputs = replace(inputs, masks=zero_masks(inputs.model))
    before, loss_before = _before(model, inputs, spec, origin, pruned, original, loss_before, shard)
    inputs = replace(inputs, harness=_harness(inputs, spec, task_folders))
    if teacher:
        inputs = replace(inputs, teacher=load_teacher(teacher, inputs.tokenizer))
    probed = _probed(inputs, spec, lr_probe, Path(out) if resume else None) if lr_probe else None
    if probed is not None:
        spec = replace(spec, learning_rate=probed["learning_rate"])
    asked = _asked(names, text.held_out_share, spec)
    if method is not None:
        asked |= {"method": method}
    if stop_when is not None:  # part of what names the run: it decides where it ends
        asked |= {"forecast": None if forecast is None else str(forecast), "stop_when": stop_when}
    after = count_nonzero(inputs.model) if inputs.masks else count_params(inputs.model)
    record = RunRecord(
        run=Path(out).name,
        family=family or str(inputs.model.config.model_type),
        method=pruned.method,
        params_before=before,
        params_after=after,
        pruning_rate=1 - after / before,
        loss_before=loss_before,
        spec=asked,
        seed=spec.seed,
        objective=str(spec.objective(distils=teacher is not None)),
        schedule=spec.schedule,
        details={
            "model": names["model"],
            **fingerprints_of(model=str(local_checkpoint(model)), teacher=teacher),
            "method_from": pruned.source,
            **({"trained_before": origin.trained_tokens} if origin and origin.trained_tokens else {}),
            **({"lr_probe": probed} if probed else {}),
        },
        scores_before=_scores_before(model, original, inputs, control=pruned.method == CONTROL, shard=shard),
    )
    watch = None if watcher is None else watcher(record, spec)
    options = RunOptions(resume=resume, shard=shard, keep=keep, stop=stop, watch=watch, on_progress=on_progress)
    with writing_run(Path(out)):
        return train_model(inputs, spec=spec, record=record, out=Path(out), options=options)


def _harness(inputs: RunInputs, spec: TrainSpec, folders: tuple[Path, ...]) -> Harness | None:
    if not spec.tasks:
        return None
    from regrow.scores.harness import Harness

    return Harness(spec.tasks_spec(*folders), inputs.tokenizer)


def _scores_before(
    model: str, original: str | None, inputs: RunInputs, *, control: bool, shard: bool
) -> dict[str, Score]:
    """The unpruned model's scores; none where it is not here, or no tasks are asked."""
    if inputs.harness is None or (original is None and not control):
        return {}
    if original is None and not shard:
        return inputs.harness.scores(inputs.model)
    return inputs.harness.scores(load_model(original or model, dtype=torch.float32, device=processes().device))


def _asked(names: Mapping[str, str | None], share: float | None, spec: TrainSpec) -> dict[str, Any]:
    """The settings that identify the run, as plain data."""
    return {
        "model": names["model"],
        "data": names["data"],
        "held_out": names["held_out"],
        "held_out_share": share,
        "teacher": names["teacher"],
        "train": spec.to_dict(),
    }


def _original_of(origin: Origin | None, find: Callable[[str, str], str] | None) -> str | None:
    """The folder of the unpruned model that the record of pruning names; None where there is none on this machine."""
    if origin is None:
        return None
    folder = origin.model if find is None else find(origin.model, "original")
    return folder if Path(folder).is_dir() else None


def _before(
    model: str,
    inputs: RunInputs,
    spec: TrainSpec,
    origin: Origin | None,
    pruned: Pruned,
    original: str | None,
    loss: float | None,
    shard: bool,
) -> tuple[int, float]:
    """Parameters and held-out loss (nats/token) of the unpruned model; `loss` is the loss if the user knows it."""
    if loss is None and origin is not None and original is None:
        raise InputError(
            f"the unpruned model {origin.model!r} is not here",
            where=model,
            hint="give its folder with --original, or its held-out loss with --loss-before",
        )
    if loss is None and original is None and pruned.keeps_zeros and origin is None:
        raise InputError(
            f"the model is {pruned.method} sparse, and the loss of the unpruned one is not known",
            where=model,
            hint="give its folder with --original, or its held-out loss with --loss-before",
        )
    size = origin.params_before if origin else count_params(inputs.model)
    # the original is asked for its size as well, where no record of `regrow prune` holds it
    if original is not None and (loss is None or origin is None):
        measured_size, measured = _measure(original, inputs.held_out, spec)
        if origin is None and pruned.source == "weights" and measured_size != size:
            raise InputError(
                f"the model is {pruned.method} sparse, and it has {size} parameters where the original has "
                f"{measured_size}: it was pruned in two ways",
                where=model,
                hint="say with --method under which one the run is recorded; the zeros are kept",
            )
        return size if origin else measured_size, measured if loss is None else loss
    if loss is None:
        own = _measure(model, inputs.held_out, spec)[1] if shard else _loss(inputs.model, inputs.held_out, spec)
        return size, own
    return size, loss


def _loss(model: PreTrainedModel, held_out: Blocks, spec: TrainSpec) -> float:
    state = processes()
    share = (state.process_index, state.num_processes)
    return evaluate(model, held_out, share=share, isolated=spec.packing == "isolated").loss


def _measure(model: str, held_out: Blocks, spec: TrainSpec) -> tuple[int, float]:
    """Parameters and held-out loss of a model that is needed for nothing else, and so not kept."""
    reference = load_model(model, dtype=torch.float32, device=processes().device)
    return count_params(reference), _loss(reference, held_out, spec)


def _probed(inputs: RunInputs, spec: TrainSpec, tokens: int, begun: Path | None) -> dict[str, Any]:
    """The result of a probe of the learning rate, as plain data.

    An unfinished run in the folder `begun` has it in its record: a second probe could find another rate on an
    accelerator.
    """
    if begun is not None and (begun / RUN_FILE).exists():
        found = read_run(begun).details.get("lr_probe")
        if found is not None:
            return found
    if spec.lora_rank or processes().num_processes > 1:
        raise InputError(
            "a rate is probed in one process and for all parameters",
            where="--lr-probe",
            hint="probe so first, then give the rate with --lr",
        )
    inputs.check_fit(spec)
    return probe_learning_rate(inputs, spec=spec, tokens=tokens).to_dict()
