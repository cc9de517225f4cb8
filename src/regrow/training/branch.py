"""A cool-down branched off a run on disk: the annealed loss at any checkpoint, read after the run.

A run at a constant rate can branch short cool-downs at its own milestones while it trains (`regrow.training.cooldown`).
This module does the same later, from any kept checkpoint, as a separate run. Weights, optimizer, step and place in the
data come from the checkpoint, and the learning rate decays from there. The result equals, to the bit, a `wsd` run of as
many tokens that was trained from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.methods import keeps_zeros
from regrow.runs import RunRecord, read_run
from regrow.runs.store import RUN_FILE, is_done
from regrow.training.callbacks import OnProgress
from regrow.training.checkpoints import KEPT, checkpoints, damage, read_state, step_of
from regrow.training.identity import writing_run
from regrow.training.inputs import RunInputs, TextSpec, load_inputs
from regrow.training.run import CHECKPOINTS, MODEL, START, OnStart, RunOptions, train_model
from regrow.training.signals import StopRequest
from regrow.training.spec import TrainSpec
from regrow.training.teacher import load_teacher


def cool_down(
    run: str | Path,
    *,
    tokens: int,
    out: str | Path,
    at: int | None = None,
    save_every_tokens: int | None = None,
    find: Callable[[str, str], str] | None = None,
    resume: bool = False,
    cache: bool = True,
    shard: bool = False,
    keep: int | None = KEPT,
    stop: StopRequest | None = None,
    on_start: OnStart | None = None,
    on_progress: OnProgress | None = None,
) -> RunRecord:
    """Anneal the run in the folder `run` from one of its checkpoints, as a run of its own in the folder `out`.

    Its curve begins at the checkpoint's tokens and ends `tokens` later, where `loss_cooled` is the loss of a run that
    ends there. Its spec is that of the run with two changes: the recipe of the equivalent `wsd` run
    (`TrainSpec.cooled_down`), and `cooldown_from`, which holds the run's hash and the tokens at which the cool-down
    begins.

    Args:
        tokens: length of the cool-down; rounded up to whole batches.
        at: tokens of the checkpoint to leave from; the last one if None.
        save_every_tokens: between checkpoints; None for a tenth of `tokens`.
        find: gives the path of a model or text on this machine, from its name in the record and what it is (`model`,
            `teacher`, `data` or `held_out`); by default the name is the path.
        resume, shard, keep, stop, on_start, on_progress: see `regrow.training.run.RunOptions`.

    Raises `InputError` for a folder without a run of regrow or without that checkpoint, a learning rate that decays
    already at that checkpoint, data that have changed since, or an `out` that holds another run; and what
    `train_model` raises.
    """
    folder, target = Path(run), Path(out)
    parent = read_run(folder)
    if "train" not in parent.spec:
        raise InputError("not a run that regrow trained", where=str(folder), hint="give the folder of such a run")
    recipe = TrainSpec.from_dict(parent.spec["train"], where=str(folder))
    begun = _begun_at(target, folder, parent, at) if resume else None
    checkpoint = begun or _choose(folder, parent, recipe, at, shard)
    spec = recipe.cooled_down(step_of(checkpoint), tokens, save_every_tokens=save_every_tokens)
    left_at = step_of(checkpoint) * recipe.batch_tokens
    record = _record(parent, target.name, spec, left={"run": parent.hash, "tokens": left_at}, folder=folder)
    if resume and is_done(target, spec_hash=record.hash):
        return read_run(target)
    inputs = _inputs(folder, parent, recipe, spec, find, cache=cache, shard=shard)
    options = RunOptions(resume=resume, shard=shard, keep=keep, stop=stop, on_start=on_start, on_progress=on_progress)
    with writing_run(target):
        return train_model(inputs, spec=spec, record=record, out=target, options=options, branch=checkpoint)


def _record(parent: RunRecord, name: str, spec: TrainSpec, *, left: dict[str, Any], folder: Path) -> RunRecord:
    """The record of a cool-down that leaves `parent`, a run in `folder`, at `left`."""
    asked = {k: v for k, v in parent.spec.items() if k not in ("forecast", "stop_when")}
    return replace(
        parent,
        run=name,
        spec={**asked, "train": spec.to_dict(), "cooldown_from": left},
        schedule=spec.schedule,
        status="running",
        curve=(),
        details={
            "model": parent.details.get("model"),
            "cooldown_from": f"{parent.run} ({folder})",
            **{key: parent.details[key] for key in ("method_from", "trained_before") if key in parent.details},
        },
    )


def _inputs(
    folder: Path,
    parent: RunRecord,
    recipe: TrainSpec,
    spec: TrainSpec,
    find: Callable[[str, str], str] | None,
    *,
    cache: bool,
    shard: bool,
) -> RunInputs:
    """The run's model, its texts and its teacher. Raises `InputError` for a text that changed since the run."""

    def located(kind: str) -> Any:
        name = parent.spec.get(kind)
        return name if name is None or find is None else find(name, kind)

    text = TextSpec(
        data=located("data"),
        held_out=located("held_out"),
        held_out_share=parent.spec.get("held_out_share"),
        cache=cache,
    )
    base = _base(folder, parent, recipe, located)
    inputs = load_inputs(base, text, spec, masked=keeps_zeros(parent.method), shard=shard)
    for blocks, kind, what in ((inputs.train, "train", "training"), (inputs.held_out, "held_out", "held-out")):
        if blocks.fingerprint != parent.details.get(f"{kind}_fingerprint"):
            raise InputError(f"the {what} text is not what the run saw", where=str(folder), hint="restore the data")
    teacher = located("teacher")
    return inputs if not teacher else replace(inputs, teacher=load_teacher(teacher, inputs.tokenizer))


def _begun_at(out: Path, folder: Path, parent: RunRecord, at: int | None) -> Path | None:
    """The checkpoint that the unfinished cool-down in `out` began at. The run may have removed it since."""
    if not (out / RUN_FILE).exists() or not checkpoints(out / CHECKPOINTS):
        return None
    left = read_run(out).spec.get("cooldown_from") or {}
    if left.get("run") != parent.hash or at not in (None, left["tokens"]):
        return None
    step = left["tokens"] // parent.spec["train"]["batch_tokens"]
    return folder / CHECKPOINTS / f"checkpoint-{step}"


def _choose(folder: Path, parent: RunRecord, recipe: TrainSpec, at: int | None, shard: bool) -> Path:
    """The run's checkpoint at so many tokens, the last one if None."""
    kept = {step_of(path) * recipe.batch_tokens: path for path in checkpoints(folder / CHECKPOINTS)}
    if not kept:
        raise InputError(
            "the run has no checkpoint left",
            where=str(folder),
            hint="its model alone is annealed by `regrow train RUN/model --schedule wsd`, with a fresh optimizer",
        )
    found = kept.get(max(kept) if at is None else at)
    if found is None:
        raise InputError(
            f"no checkpoint at {at} tokens",
            where=str(folder),
            hint=f"there: {', '.join(map(str, kept))}; --keep-checkpoints keeps more of a run",
        )
    problem = damage(found)
    if problem is not None:
        raise InputError(
            f"the checkpoint is damaged ({problem})", where=str(found), hint="leave from another with --at"
        )
    state = read_state(found)
    if state.get("spec") != parent.hash:
        raise InputError("the checkpoint is of another spec than the run", where=str(found), hint="restore the folder")
    if bool(state.get("processes")) != shard:
        how = "with --shard, under torchrun" if state.get("processes") else "without --shard"
        raise InputError("the run was shared out otherwise", where=str(found), hint=f"cool it down {how}")
    return found


def _base(folder: Path, parent: RunRecord, recipe: TrainSpec, located: Callable[[str], Any]) -> str:
    """A folder with the run's architecture, tokenizer and zeros. The weights come from the checkpoint, except those
    under adapters."""
    if is_done(folder) and not recipe.lora_rank:
        return str(folder / MODEL)
    if parent.spec.get("prune"):
        if (folder / START).is_dir():
            return str(folder / START)
        raise InputError(
            "the pruned model that this run of a study began from is not kept",
            where=str(folder),
            hint="let the run finish" if not recipe.lora_rank else "adapters need it: prune and train it by hand",
        )
    return str(located("model"))
