"""Post-train a checkpoint folder on text: everything `regrow train` does, from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from regrow.data import Blocks
from regrow.errors import InputError
from regrow.evaluation import evaluate
from regrow.models.load import count_nonzero, count_params, load_model, local_checkpoint
from regrow.models.masks import zero_masks
from regrow.runs import CONTROL, RunRecord, Score, read_run
from regrow.runs.store import RUN_FILE
from regrow.training.callbacks import OnProgress, Watch
from regrow.training.checkpoints import KEPT
from regrow.training.identity import fingerprints_of, refuse_other_writer, writing_run
from regrow.training.inputs import RunInputs, TextSpec, load_inputs
from regrow.training.origin import Origin, Pruned, how_pruned, read_origin
from regrow.training.probe import probe_learning_rate
from regrow.training.processes import processes
from regrow.training.run import OnStart, RunOptions, train_model
from regrow.training.signals import StopRequest
from regrow.training.spec import TrainSpec
from regrow.training.teacher import load_teacher
from regrow.training.trackers import tracker_callbacks

#: Gives the path of a model or text on this machine, from its name and what it is: `model`, `data`, `held_out`,
#: `original` or `teacher`. The record holds the names, so that another machine can go on with the run.
Find = Callable[[str, str], str]


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
    on_start: OnStart | None = None,
    on_progress: OnProgress | None = None,
    report_to: Sequence[str] = (),
    keep: int | None = KEPT,
    task_folders: tuple[Path, ...] = (),
    find: Find | None = None,
) -> RunRecord:
    """Post-train the checkpoint `model` on `data` and record its curve in the run folder `out`.

    Args:
        held_out, held_out_share, cache: see `regrow.training.inputs.TextSpec`.
        original: the unpruned model, whose held-out loss is L0; known for what `regrow prune` wrote.
        loss_before: L0 in nats/token on the same held-out text, if the unpruned model is not at hand.
        method: how another tool pruned the model: `depth`, `width`, `depth+width`, N:M, `sparse`, `other`, or `none`;
            known for what `regrow prune` wrote, and where every matrix of the blocks keeps an N:M pattern.
        family: name under which runs are fitted together; the model type if None.
        teacher: a model to distil from.
        lr_probe: tokens on which each of several rates around the spec's is tried first; the best is used. 0: none.
        resume, shard, stop, keep, on_start, on_progress: see `regrow.training.run.RunOptions`.
        forecast, stop_when, on_forecast: `source`, `stop_when` and `show` of `regrow.training.forecast.watch_for`.
        report_to: trackers that follow the run, such as `wandb` or `tensorboard`; see `regrow.training.trackers`.
        task_folders: of further task files for the benchmarks that the spec names; see `regrow.scores.TasksSpec`.
        find: gives the path of a model or text on this machine; by default its name is the path. See `Find`.

    Raises `InputError` where L0 can't be known, the data do not fit, another process writes the run, or a run that is
    resumed was begun with another text or model; `RunFailed` where training breaks.
    """
    refuse_other_writer(Path(out))  # before anything is loaded
    watcher, trackers = _watcher(forecast, stop_when, on_forecast), tracker_callbacks(report_to, Path(out))
    names = _Sources(model=model, data=data, held_out=held_out, teacher=teacher, original=original)
    share = None if held_out else held_out_share
    start = _start(names, find, spec, share, task_folders, cache=cache, method=method, loss=loss_before, shard=shard)
    spec, probed = _probed(start.inputs, spec, lr_probe, Path(out) if resume else None)
    asked = _asked(names, spec, share, method=method, forecast=forecast, stop_when=stop_when)
    record = start.record(Path(out).name, family, spec, asked, probed, shard=shard)
    options = RunOptions(resume=resume, shard=shard, keep=keep, stop=stop, on_start=on_start, on_progress=on_progress)
    options = replace(options, trackers=trackers, watch=None if watcher is None else watcher(record, spec))
    with writing_run(Path(out)):
        return train_model(start.inputs, spec=spec, record=record, out=Path(out), options=options)


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """The models and texts of a run: their names, as the record holds them, or their paths on this machine."""

    model: str
    data: str
    held_out: str | None
    teacher: str | None
    original: str | None

    def found(self, find: Find | None) -> _Sources:
        """The paths of these names."""
        if find is None:
            return self

        def path(name: str | None, kind: str) -> str | None:
            return None if name is None else find(name, kind)

        return _Sources(
            model=find(self.model, "model"),
            data=find(self.data, "data"),
            held_out=path(self.held_out, "held_out"),
            teacher=path(self.teacher, "teacher"),
            original=path(self.original, "original"),
        )


@dataclass(frozen=True, kw_only=True)
class _Start:
    """What a run starts from.

    Attributes:
        paths: of its models and texts; the original's where it is here.
        origin: the record of how the model was pruned, if there is one.
        params_before, loss_before: size and held-out loss (nats/token) of the unpruned model.
    """

    inputs: RunInputs
    paths: _Sources
    origin: Origin | None
    pruned: Pruned
    params_before: int
    loss_before: float

    def record(
        self, name: str, family: str | None, spec: TrainSpec, asked: dict[str, Any], probed: Any, *, shard: bool
    ) -> RunRecord:
        """The run's record before its first step."""
        inputs, origin, paths = self.inputs, self.origin, self.paths
        after = count_nonzero(inputs.model) if inputs.masks else count_params(inputs.model)
        is_control = self.pruned.method == CONTROL
        return RunRecord(
            run=name,
            family=family or str(inputs.model.config.model_type),
            method=self.pruned.method,
            params_before=self.params_before,
            params_after=after,
            pruning_rate=1 - after / self.params_before,
            loss_before=self.loss_before,
            spec=asked,
            seed=spec.seed,
            objective=str(spec.objective(distils=paths.teacher is not None)),
            schedule=spec.schedule,
            details={
                "model": asked["model"],
                **fingerprints_of(model=str(local_checkpoint(paths.model)), teacher=paths.teacher),
                "method_from": self.pruned.source,
                **({"trained_before": origin.trained_tokens} if origin and origin.trained_tokens else {}),
                **({"lr_probe": probed} if probed else {}),
            },
            scores_before=_scores_before(paths.model, paths.original, inputs, control=is_control, shard=shard),
        )


def _start(
    names: _Sources,
    find: Find | None,
    spec: TrainSpec,
    share: float | None,
    task_folders: tuple[Path, ...],
    *,
    cache: bool,
    method: str | None,
    loss: float | None,
    shard: bool,
) -> _Start:
    """Load the model, its text, its teacher and its benchmarks; find how it was pruned, and the unpruned model's size
    and loss."""
    paths = names.found(find)
    origin = read_origin(local_checkpoint(paths.model))
    paths = replace(paths, original=paths.original or _original_of(origin, find))
    text = TextSpec(data=paths.data, held_out=paths.held_out, held_out_share=share, cache=cache)
    inputs = load_inputs(paths.model, text, spec, masked=False, shard=shard)
    has_original = paths.original is not None
    pruned = how_pruned(inputs.model, origin, asked=method, has_original=has_original, where=paths.model)
    if pruned.keeps_zeros:
        inputs = replace(inputs, masks=zero_masks(inputs.model))
    before, loss = _before(paths.model, inputs, spec, origin, pruned, paths.original, loss, shard)
    if spec.tasks:
        from regrow.scores.harness import Harness

        inputs = replace(inputs, harness=Harness(spec.tasks_spec(*task_folders), inputs.tokenizer))
    if paths.teacher:
        inputs = replace(inputs, teacher=load_teacher(paths.teacher, inputs.tokenizer))
    return _Start(inputs=inputs, paths=paths, origin=origin, pruned=pruned, params_before=before, loss_before=loss)


def _watcher(
    forecast: str | Path | None, stop_when: str | None, show: Callable[[str], None] | None
) -> Callable[[RunRecord, TrainSpec], Watch] | None:
    if forecast is None and stop_when is None:
        return None
    from regrow.training.forecast import watch_for

    return watch_for(forecast, stop_when, show)


def _scores_before(
    model: str, original: str | None, inputs: RunInputs, *, control: bool, shard: bool
) -> dict[str, Score]:
    """The unpruned model's scores; none where it is not here, or no tasks are asked."""
    if inputs.harness is None or (original is None and not control):
        return {}
    if original is None and not shard:
        return inputs.harness.scores(inputs.model)
    return inputs.harness.scores(load_model(original or model, dtype=torch.float32, device=processes().device))


def _asked(
    names: _Sources,
    spec: TrainSpec,
    share: float | None,
    *,
    method: str | None,
    forecast: str | Path | None,
    stop_when: str | None,
) -> dict[str, Any]:
    """The settings that identify the run, as plain data."""
    asked = {
        "model": names.model,
        "data": names.data,
        "held_out": names.held_out,
        "held_out_share": share,
        "teacher": names.teacher,
        "train": spec.to_dict(),
    }
    if method is not None:
        asked |= {"method": method}
    if stop_when is not None:  # it decides where the run ends
        asked |= {"forecast": None if forecast is None else str(forecast), "stop_when": stop_when}
    return asked


def _original_of(origin: Origin | None, find: Find | None) -> str | None:
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


def _probed(
    inputs: RunInputs, spec: TrainSpec, tokens: int, begun: Path | None
) -> tuple[TrainSpec, dict[str, Any] | None]:
    """The spec with the learning rate that a probe of so many tokens found, and the probe's result as plain data.

    An unfinished run in the folder `begun` has it in its record: a second probe could find another rate on an
    accelerator.
    """
    if not tokens:
        return spec, None
    found: dict[str, Any] | None = None
    if begun is not None and (begun / RUN_FILE).exists():
        found = read_run(begun).details.get("lr_probe")
    if found is None:
        if spec.lora_rank or processes().num_processes > 1:
            raise InputError(
                "a rate is probed in one process and for all parameters",
                where="--lr-probe",
                hint="probe so first, then give the rate with --lr",
            )
        inputs.check_fit(spec)
        found = probe_learning_rate(inputs, spec=spec, tokens=tokens).to_dict()
    return replace(spec, learning_rate=found["learning_rate"]), found
