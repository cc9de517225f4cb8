"""A cell that prunes and trains in turns, recorded as one run with its stages.

While it runs, each stage is a run folder of its own under `stages/`, from which a killed cell goes on. The run itself
holds the readings of all stages, tokens counted on, and what each pruning cost at once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from regrow.arch import Architecture
from regrow.methods import DEPTH
from regrow.models.load import architecture_of, load_model
from regrow.pruning.calibration import choose_blocks
from regrow.pruning.plan import PrunePlan
from regrow.pruning.prune import prune_model
from regrow.pruning.spec import AXES, PruneSpec
from regrow.runs import RunRecord, RunWriter
from regrow.runs.stages import Stage
from regrow.shapes import layers_for_rate, rate_between, shape_for_rate
from regrow.study.cells import Cell
from regrow.study.progress import ProgressFile
from regrow.study.stage_plan import stage_recipes
from regrow.training.inputs import RunInputs
from regrow.training.run import MODEL, RunOptions, train_model
from regrow.training.signals import StopRequest

if TYPE_CHECKING:
    from regrow.training.callbacks import Progress

#: Where the stages of a cell lie while it runs.
STAGES = "stages"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a cell's stages share.

    Attributes:
        cell: the cell.
        out: its run folder.
        record: of the run as a whole, without its readings.
        inputs: what it trains on; the model in it is the unpruned one.
        before: the architecture of the unpruned model.
        prune: prunes the unpruned model.
        start: keeps a pruned model in a run folder, so that a run that goes on begins from the same.
    """

    cell: Cell
    out: Path
    record: RunRecord
    inputs: RunInputs
    before: Architecture
    prune: Callable[[PruneSpec], tuple[PreTrainedModel, PrunePlan]]
    start: Callable[[Path, Callable[[], tuple[PreTrainedModel, PrunePlan]]], tuple[RunInputs, PrunePlan]]


def run_stages(turn: Turn, stop: StopRequest | None) -> RunRecord:
    """Carry out the stages of a cell one after the other. Raises what pruning and training raise."""
    cell, out = turn.cell, turn.out
    writer = RunWriter.open(out, turn.record, resume=True)
    writer.rewind(-1)
    done: list[tuple[Stage, RunRecord]] = []
    model: PreTrainedModel | None = None
    seconds = 0.0
    with ProgressFile(out) as progress:
        for number, (rate, (start, recipe)) in enumerate(zip(cell.rates, stage_recipes(cell), strict=True), 1):
            folder = out / STAGES / f"{cell.name}-stage{number}"
            folder.mkdir(parents=True, exist_ok=True)
            inputs, plan = turn.start(folder, partial(_pruned, turn, model, rate))
            reached = rate_between(turn.before, plan.after)
            asked = replace(
                turn.record,
                run=folder.name,
                params_after=plan.params_after,
                pruning_rate=reached,
                spec={**cell.spec, "stage": number},
                seed=recipe.seed,
            )
            tell = partial(_tell_on, progress, start, cell.train.steps * cell.train.batch_tokens)
            options = RunOptions(resume=True, stop=stop, on_progress=tell)
            ended = train_model(inputs, spec=recipe, record=asked, out=folder, options=options)
            done.append((_stage(ended, start, done), ended))
            for point in ended.curve:
                # at the tokens where the next stage prunes, the curve has the reading before it
                if point.tokens or not start:
                    spent = None if point.seconds is None else point.seconds + seconds
                    writer.append(replace(point, tokens=point.tokens + start, seconds=spent))
            seconds += ended.curve[-1].seconds or 0.0
            model = load_model(folder / MODEL, dtype=torch.float32)
    last = done[-1][1]
    shutil.rmtree(out / MODEL, ignore_errors=True)
    os.replace(out / STAGES / last.run / MODEL, out / MODEL)
    record = writer.finish(
        params_after=last.params_after,
        pruning_rate=last.pruning_rate,
        stages=tuple(stage for stage, _ in done),
        details={**turn.record.details, **last.details},
    )
    shutil.rmtree(out / STAGES, ignore_errors=True)
    return record


def _stage(ended: RunRecord, start: int, done: list[tuple[Stage, RunRecord]]) -> Stage:
    """What a stage did, from its own run."""
    first = ended.start_loss
    assert first is not None
    before = ended.known_loss_before if not done else done[-1][1].curve[-1].known_loss
    return Stage(
        pruning_rate=ended.pruning_rate,
        params_after=ended.params_after,
        tokens=start,
        loss_start=before,
        loss_pruned=first,
    )


def _pruned(turn: Turn, model: PreTrainedModel | None, rate: float) -> tuple[PreTrainedModel, PrunePlan]:
    """The unpruned model pruned to a rate, or a trained one pruned on to it."""
    spec = turn.cell.prune
    assert spec is not None
    if model is None:
        return turn.prune(replace(spec, rate=rate))
    onward = PruneSpec(
        method=spec.method,
        shape=sizes_onward(turn.before, architecture_of(model), spec, rate),
        scorer=spec.scorer,
        calibration_blocks=spec.calibration_blocks,
        calibration_length=spec.calibration_length,
        seed=spec.seed,
    )
    tokens = None
    if onward.needs_calibration:
        count, length = onward.calibration_blocks, onward.calibration_length
        tokens = choose_blocks(turn.inputs.train, count=count, length=length, seed=onward.seed)
    return prune_model(model, onward, tokens)


def sizes_onward(before: Architecture, now: Architecture, spec: PruneSpec, rate: float) -> dict[str, int]:
    """The sizes to prune on to, from the model as it is `now` to a rate of the unpruned one.

    They are those that one step leaves; where one of these widths is larger than it is now, the rule's for as many
    parameters. Raises `InputError` if no shape reaches the rate.
    """
    if spec.method == DEPTH:
        return {"layers": layers_for_rate(before, rate).layers}
    after = shape_for_rate(before, rate, axes=spec.axes)
    if any(getattr(after, axis) > getattr(now, axis) for axis in AXES):
        after = shape_for_rate(now, 1 - (1 - rate) * before.params / now.params, axes=spec.axes)
    return {axis: getattr(after, axis) for axis in AXES}


def _tell_on(progress: ProgressFile, start: int, total: int, now: Progress) -> None:
    progress.tell(replace(now, tokens=now.tokens + start, total=total))
