"""How a cell that prunes and trains in turns is cut into stages. Light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.methods import is_masked
from regrow.pruning.outline import outline
from regrow.study.cells import Cell
from regrow.training.spec import TrainSpec
from regrow.units import check_rate

_WHERE = "study, stages"


def check_stages(stages: Sequence[float], methods: Sequence[str], train: TrainSpec) -> None:
    """Raise `InputError` for stages that do not rise or are fewer than two, and for a recipe that they can't have."""
    if len(stages) < 2:
        raise InputError(f"{len(stages)} stage", where=_WHERE, hint="give at least two rates, e.g. [0.25, 0.5]")
    for rate in stages:
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise InputError(f"{rate!r} is not a rate", where=_WHERE, hint="write them like [0.25, 0.5]")
        check_rate(float(rate), where=_WHERE)
    for one, two in pairwise(stages):
        if two <= one:
            raise InputError(
                f"{two:g} follows {one:g}", where=_WHERE, hint="each stage prunes further: the rates must rise"
            )
    if all(is_masked(method) for method in methods):
        raise InputError("no depth or width method", where=_WHERE, hint="a pattern such as 2:4 has one rate")
    for name in ("lora_rank", "cooldown_tokens"):
        if getattr(train, name):
            raise InputError(f"{name} with stages", where=_WHERE, hint="leave one of them out")
    if train.steps < len(stages):
        raise InputError(f"{train.steps} steps for {len(stages)} stages", where=_WHERE, hint="train on more tokens")


def check_shapes(cell: Cell, shape: Architecture | None) -> None:
    """Raise `InputError` where two stages of a cell would leave the same shape of a model whose shape is known."""
    if shape is None or cell.prune is None:
        return
    left = [outline(shape, replace(cell.prune, rate=rate)).after for rate in cell.rates]
    for (one, two), (first, second) in zip(pairwise(cell.rates), pairwise(left), strict=True):
        if first == second:
            raise InputError(
                f"the stages {one:g} and {two:g} end in the same shape",
                where=f"{_WHERE}, {cell.model}, {cell.method}",
                hint="put them further apart",
            )


def stage_recipes(cell: Cell) -> list[tuple[int, TrainSpec]]:
    """For each stage the tokens before it and its recipe: an equal share of the steps, the readings that fall into it.

    Each stage has its own data order, and warms up anew.
    """
    train, count = cell.train, len(cell.rates)
    ends = [train.steps * (number + 1) // count * train.batch_tokens for number in range(count)]
    recipes = []
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        readings: dict[str, Any] = {
            name: tuple(sorted({0, end - start, *(at - start for at in getattr(train, name) if start < at < end)}))
            for name in ("eval_at", "tasks_at")
            if getattr(train, name)
        }
        recipes.append((start, replace(train, tokens=end - start, seed=(train.seed + number) % 2**32, **readings)))
    return recipes
