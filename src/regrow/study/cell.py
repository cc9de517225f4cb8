"""One cell of a study, start to end: load, measure, prune, post-train. Runs in a worker process."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regrow.data import Blocks, read_blocks
from regrow.errors import InputError
from regrow.evaluation import evaluate
from regrow.ladder import find_corpus, find_model
from regrow.ladder.tasks import find_tasks
from regrow.locks import LOCK_FILE, hold
from regrow.methods import is_masked
from regrow.models.beside import PRUNE_RECORD, Beside, beside
from regrow.models.load import architecture_of, count_params, load_model, load_tokenizer, local_checkpoint
from regrow.models.masks import zero_masks
from regrow.models.memory import keep_freed_memory
from regrow.models.save import save_checkpoint
from regrow.pruning.apply import planned_beside
from regrow.pruning.calibration import choose_blocks
from regrow.pruning.outline import outline
from regrow.pruning.plan import PrunePlan
from regrow.pruning.prune import prune_model
from regrow.pruning.scores import AnyScores, load_scores
from regrow.pruning.scoring import measure
from regrow.pruning.spec import PruneSpec
from regrow.runs import RunRecord, Score, read_run
from regrow.runs.store import CURVE_FILE, DONE_FILE, RUN_FILE, is_done
from regrow.study.cells import Cell
from regrow.study.inputs import fingerprint_model
from regrow.study.progress import PROGRESS_FILE, ProgressFile
from regrow.study.shared import (
    LOSSES,
    PRUNED,
    SCORES,
    TASK_SCORES,
    load_number,
    load_task_scores,
    load_whole,
    save_number,
    save_task_scores,
    share,
)
from regrow.study.stages import Turn, run_stages
from regrow.training.checkpoints import checkpoints
from regrow.training.inputs import RunInputs
from regrow.training.processes import processes
from regrow.training.run import CHECKPOINTS, START, RunOptions, train_model
from regrow.training.signals import StopRequest
from regrow.training.teacher import load_teacher

if TYPE_CHECKING:
    from regrow.scores.harness import Harness

T = TypeVar("T")

#: Seconds to wait for a process that still writes this run: a worker whose study has died ends soon.
_WAIT = 20.0


@lru_cache(maxsize=4)
def blocks_of(data: str, tokenizer_folder: str, sequence_length: int, limit: int | None = None) -> Blocks:
    """Packed blocks of a text, tokenised once per process; the first `limit` of a fixed shuffle, or all."""
    blocks = read_blocks(data, load_tokenizer(tokenizer_folder), sequence_length=sequence_length)
    return blocks if limit is None else blocks.sample(limit, seed=0)


def run_cell(
    cell: Cell, out: Path, *, shared: Path | None = None, uses: int = 1, stop: StopRequest | None = None
) -> RunRecord:
    """Run a cell into the folder `out`, going on from its last checkpoint if it has one.

    Args:
        shared: folder of what cells share; see `regrow.study.shared`.
        uses: how many cells need the pruned model; it is stored if others do.
        stop: asked after every step; where it says so, a checkpoint is written and the run ends.

    Raises `InputError` if another process writes this run, and whatever its steps raise.
    """
    out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    with hold(out / LOCK_FILE, what="another process is writing this run", hint="wait for it to end", wait=_WAIT):
        if not is_done(out, spec_hash=cell.hash):
            _tidy(out)
            _run(cell, out, _Shop(cell, shared, uses), stop)
        if not cell.train.lora_rank:  # a cool-down of adapters still needs the base model
            shutil.rmtree(out / START, ignore_errors=True)
        return read_run(out)


class _Shop:
    """The parts of a cell that do not depend on its training, each from the shared folder where it has it."""

    def __init__(self, cell: Cell, shared: Path | None, uses: int) -> None:
        self.cell = cell
        self.shared = shared
        self.uses = uses
        self.folder = find_model(cell.model)
        self.length = cell.train.sequence_length
        self.source = {"model": cell.model, "fingerprint": fingerprint_model(cell.model)}

    def blocks(self) -> tuple[Blocks, Blocks]:
        """Training and held-out blocks."""
        cell = self.cell
        train = blocks_of(find_corpus(cell.data, "post_train"), self.folder, self.length)
        held_out = blocks_of(
            find_corpus(cell.held_out, "held_out"), self.folder, self.length, cell.train.held_out_blocks
        )
        return train, held_out

    def unpruned(self) -> PreTrainedModel:
        return load_model(self.folder, dtype=torch.float32)

    def beside(self) -> Beside:
        """What lies beside the weights of the unpruned model."""
        return beside(local_checkpoint(self.folder))

    def loss_before(self, model: PreTrainedModel, held_out: Blocks) -> float:
        """L0: one number for all cells of a model on the same held-out blocks."""
        isolated = self.cell.train.packing == "isolated"
        return share(
            self.shared,
            LOSSES,
            {**self.source, "held_out": held_out.fingerprint, **({"isolated": True} if isolated else {})},
            make=lambda: _on_device(model, lambda moved: evaluate(moved, held_out, isolated=isolated).loss),
            save=save_number,
            load=load_number,
        )

    def harness(self, tokenizer: PreTrainedTokenizerBase) -> Harness | None:
        """The harness for the benchmarks of the recipe; None if it names none."""
        train = self.cell.train
        if not train.tasks:
            return None
        from regrow.scores.harness import Harness

        return Harness(find_tasks(train.tasks, limit=train.task_limit, shots=train.task_shots), tokenizer)

    def scores_before(self, model: PreTrainedModel, harness: Harness | None) -> dict[str, Score]:
        """The unpruned model's benchmark scores, shared by all cells of that model with the same tasks."""
        if harness is None:
            return {}
        asked = {name: value for name, value in self.cell.train.to_dict().items() if name.startswith("task")}
        return share(
            self.shared,
            TASK_SCORES,
            {**self.source, **asked},
            make=lambda: _on_device(model, harness.scores),
            save=save_task_scores,
            load=load_task_scores,
        )

    def pruned(self, model: PreTrainedModel, spec: PruneSpec, train: Blocks) -> tuple[PreTrainedModel, PrunePlan]:
        """The pruned model and its plan."""
        tokens = None
        if spec.needs_calibration:
            tokens = choose_blocks(train, count=spec.calibration_blocks, length=spec.calibration_length, seed=spec.seed)
        return share(
            self.shared if self.uses > 1 else None,
            PRUNED,
            {**self.source, "prune": spec.to_dict(), "data": None if tokens is None else train.fingerprint},
            make=lambda: prune_model(model, spec, tokens, scores=self._scores(model, spec, tokens, train)),
            save=lambda made, path: _save_pruned(*made, path, self.beside(), self.cell.model),
            load=_load_pruned,
        )

    def _scores(
        self, model: PreTrainedModel, spec: PruneSpec, tokens: torch.Tensor | None, train: Blocks
    ) -> AnyScores | None:
        """Scores of one pass over the calibration text, for every method and rate whose scorer uses them. N:M
        pruning measures the inputs of pruned layers instead."""
        if tokens is None or not spec.needs_calibration or spec.entry.on_the_way:
            return None
        plan = outline(architecture_of(model), spec)
        measured: dict[str, Any] = {"data": train.fingerprint, "tokens": list(tokens.shape), "seed": spec.seed}
        if spec.scores == "own":
            gone = plan.before.layers - plan.after.layers if spec.iterative else None
            measured |= {"scorer": spec.scorer, "one_by_one": gone}
        return share(
            self.shared,
            SCORES,
            {**self.source, **measured},
            make=lambda: measure(model, spec, plan, tokens),
            save=lambda scores, path: None if scores is None else scores.save(path),
            load=load_scores,
        )


def _run(cell: Cell, out: Path, shop: _Shop, stop: StopRequest | None) -> RunRecord:
    began = time.perf_counter()
    train, held_out = shop.blocks()
    model = shop.unpruned()
    before, loss_before = count_params(model), shop.loss_before(model, held_out)
    after, rate, masks = before, 0.0, {}
    tokenizer = load_tokenizer(shop.folder)
    harness = shop.harness(tokenizer)
    scores_before = shop.scores_before(model, harness)
    around = shop.beside()
    if cell.prune is not None and not cell.stages:
        # pruned anew, with other threads or on another machine, a run that goes on might not keep the zeros it trained
        # with, nor adapters the weights they lie on
        model, plan = _start(out, partial(shop.pruned, model, cell.prune, train), around, cell.model)
        around = beside(out / START)
        after, rate = plan.params_after, plan.pruning_rate
        masks = zero_masks(model) if is_masked(cell.method) else {}
    inputs = RunInputs(
        model=model,
        train=train,
        held_out=held_out,
        masks=masks,
        teacher=None if cell.teacher is None else load_teacher(find_model(cell.teacher), tokenizer),
        tokenizer=tokenizer,
        beside=around,
        harness=harness,
    )
    record = RunRecord(
        run=cell.name,
        family=cell.family,
        method=cell.method,
        params_before=before,
        params_after=after,
        pruning_rate=rate,
        loss_before=loss_before,
        spec=cell.spec,
        seed=cell.train.seed,
        objective=str(cell.objective),
        schedule=cell.train.schedule,
        details={"model": cell.model, "setup_seconds": round(time.perf_counter() - began, 3)},
        scores_before=scores_before,
    )
    if cell.stages:
        return run_stages(_turn(cell, out, shop, inputs, record), stop)
    with ProgressFile(out) as progress:
        options = RunOptions(resume=True, stop=stop, on_progress=progress.tell)
        return train_model(inputs, spec=cell.train, record=record, out=out, options=options)


def _turn(cell: Cell, out: Path, shop: _Shop, inputs: RunInputs, record: RunRecord) -> Turn:
    """What the stages of a cell share."""

    def start(folder: Path, prune: Callable[[], tuple[PreTrainedModel, PrunePlan]]) -> tuple[RunInputs, PrunePlan]:
        model, plan = _start(folder, prune, shop.beside(), cell.model)
        return replace(inputs, model=model, beside=beside(folder / START)), plan

    return Turn(
        cell=cell,
        out=out,
        record=record,
        inputs=inputs,
        before=architecture_of(inputs.model),
        prune=lambda spec: shop.pruned(inputs.model, spec, inputs.train),
        start=start,
    )


def _on_device(model: PreTrainedModel, read: Callable[[PreTrainedModel], T]) -> T:
    """The result of `read(model)`, run on the device that the curve is read on.

    The model is back on its own device afterwards, where pruning takes it apart.
    """
    home = model.device
    model.to(processes().device)  # type: ignore[arg-type]
    try:
        return read(model)
    finally:
        model.to(home)  # type: ignore[arg-type]


def _save_pruned(model: PreTrainedModel, plan: PrunePlan, path: Path, original: Beside, name: str) -> None:
    """Store a pruned model. It is recorded as pruned from `name`, as the study calls the model: a path of this machine
    says nothing on another one."""
    around = planned_beside(original, plan, model.config)
    save_checkpoint(model, None, path, beside=around, extra={PRUNE_RECORD: {"model": name, "plan": plan.to_dict()}})


def _start(
    out: Path, prune: Callable[[], tuple[PreTrainedModel, PrunePlan]], original: Beside, name: str
) -> tuple[PreTrainedModel, PrunePlan]:
    """The pruned model that the run in `out` starts from."""
    start = out / START
    found = load_whole(start, _load_pruned)
    if found is not None:
        return found
    if start.is_dir():
        if checkpoints(out / CHECKPOINTS):
            raise InputError(
                "the pruned model that this run began from is damaged", where=str(start), hint="remove the run"
            )
        shutil.rmtree(start)
    made = prune()
    _save_pruned(*made, start, original, name)
    return made


def _load_pruned(path: Path) -> tuple[PreTrainedModel, PrunePlan]:
    plan = PrunePlan.from_dict(json.loads((path / PRUNE_RECORD).read_text())["plan"])
    return load_model(path, dtype=torch.float32), plan


def _tidy(out: Path) -> None:
    """Remove the unfinished files of a killed worker. Training itself removes unfinished checkpoints."""
    for stage in (*out.glob(".model.*.tmp*"), *out.glob(f".{START}.*.tmp*")):
        shutil.rmtree(stage, ignore_errors=True)
    for name in (RUN_FILE, CURVE_FILE, DONE_FILE, PROGRESS_FILE):
        for file in out.glob(f".{name}.*"):
            with suppress(OSError):
                file.unlink()
