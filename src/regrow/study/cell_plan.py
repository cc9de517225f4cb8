"""What one cell of a study costs, before it runs: tokens, FLOPs, disk. Light."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from regrow.arch import Architecture
from regrow.pruning.outline import outline
from regrow.study.cells import Cell
from regrow.study.inputs import shape_of
from regrow.study.progress import cell_state
from regrow.study.stage_plan import stage_recipes

#: Bytes of a parameter: of a final model in fp32, and of a checkpoint (weights and AdamW's two moments), of which the
#: last two are kept.
_MODEL_BYTES, _CHECKPOINT_BYTES, _CHECKPOINTS = 4, 12, 2


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """A cell, its state and its cost. A number that is not known before the model is loaded is None.

    Attributes:
        state: `done`, `recorded` (finished elsewhere: its record is at hand), `stopped` (continues from its last
            checkpoint) or `waiting`.
        chosen: whether it fits the budget.
        seed_rank: 0 for the first seed of the study.
        params_before, params_after: parameters (non-zero ones for N:M).
        rate: pruning rate reached; 0 for a control.
        tokens: trained on in all; `tokens_left` of them are still to do.
        flops: of training, its teacher, and its evaluations, in all.
        seconds: for the whole cell, on one worker.
        disk: bytes that the run folder holds at the end.
    """

    cell: Cell
    state: str
    chosen: bool = True
    seed_rank: int = 0
    params_before: int | None = None
    params_after: int | None = None
    rate: float | None = None
    tokens: int
    tokens_left: int
    flops: float | None = None
    seconds: float | None = None
    disk: int | None = None

    @property
    def work(self) -> float:
        """The key that cells are ordered by: FLOPs, or tokens if FLOPs are not known."""
        return float(self.tokens) if self.flops is None else self.flops

    @property
    def finished(self) -> bool:
        """Whether nothing of the cell is left to do."""
        return self.state in ("done", "recorded")

    @property
    def left(self) -> float:
        """Share of the cell still to do."""
        return 0.0 if self.finished else self.tokens_left / self.tokens


def run_folder(cell: Cell, out: Path) -> Path:
    """Where a cell's run lies in the study's folder."""
    return out / "runs" / cell.name


def plan_cell(cell: Cell, out: Path, shape: Architecture | None, *, recorded: bool = False) -> CellPlan:
    """Plan one cell of a study in the folder `out`; `recorded` says that its finished record is at hand."""
    stands = cell_state(cell, run_folder(cell, out))
    state = stands.state if stands.state in ("done", "waiting") else "stopped"
    if recorded and state != "done":
        state = "recorded"
    left = 0 if state in ("done", "recorded") else stands.total - (stands.tokens if state == "stopped" else 0)
    base = CellPlan(cell=cell, state=state, tokens=stands.total, tokens_left=left)
    if shape is None:
        return base
    if cell.prune is None:
        after, params, dense, rate = shape, shape.params, shape.params, 0.0
    else:
        pruned = outline(shape, cell.prune)
        after, params, dense, rate = pruned.after, pruned.params_after, pruned.after.params, pruned.pruning_rate
    saves = _CHECKPOINTS if cell.train.save_every_tokens != 0 else 0
    return replace(
        base,
        params_before=shape.params,
        params_after=params,
        rate=rate,
        flops=_flops(cell, after) if not cell.stages else _stage_flops(cell, shape),
        disk=dense * (_MODEL_BYTES + saves * _CHECKPOINT_BYTES),
    )


def _stage_flops(cell: Cell, shape: Architecture) -> float | None:
    """FLOPs of a cell that prunes and trains in turns."""
    assert cell.prune is not None
    costs = [
        _flops(replace(cell, train=recipe, stages=()), outline(shape, replace(cell.prune, rate=rate)).after)
        for rate, (_, recipe) in zip(cell.rates, stage_recipes(cell), strict=True)
    ]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def _flops(cell: Cell, after: Architecture) -> float | None:
    """FLOPs of training, its teacher, cool-down branches and evaluations."""
    train, context = cell.train, cell.train.sequence_length
    teacher = None if cell.teacher is None else shape_of(cell.teacher)
    if cell.teacher is not None and teacher is None:
        return None
    per_token = after.training_flops_per_token(context)
    per_token += 0.0 if teacher is None else teacher.forward_flops_per_token(context)
    steps = train.steps + len(train.cooldowns) * train.cooldown_steps
    readings = len(train.milestone_steps) * (1 if train.average is None else 2) + len(train.cooldowns)
    reading = train.held_out_blocks * context * after.forward_flops_per_token(context)
    return steps * train.batch_tokens * per_token + readings * reading
