"""Which unpruned controls a run is measured against, and what they read.

A control moves with its recipe: the learning rate heats it, the batch averages that out, the text teaches it. So a run
is measured against controls of its own size and recipe, and only where there is none against all of its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from regrow.runs.record import RunRecord

#: Tokens [n], losses [n] in nats/token and the loss before training.
Curve = tuple[np.ndarray, np.ndarray, float]


@dataclass(frozen=True)
class Recipe:
    """How a run was trained; None for what its record does not say.

    Attributes:
        learning_rate: the peak of the schedule.
        batch_tokens: tokens of one optimizer step.
        text: what identifies the training text.
    """

    learning_rate: float | None
    batch_tokens: float | None
    text: str | None


def recipe_of(record: RunRecord) -> Recipe:
    """The recipe as the run's spec, its details or, for the learning rate, its readings say it."""
    asked = record.spec.get("train")
    train: Mapping[str, object] = asked if isinstance(asked, Mapping) else {}

    def number(name: str) -> float | None:
        value = train.get(name, record.details.get(name))
        # Real and not float: a table's whole numbers are numpy's
        known = float(value) if isinstance(value, Real) and not isinstance(value, bool) else 0.0
        return known if known > 0 else None

    read = [point.lr for point in record.curve if point.lr]
    text = record.details.get("train_fingerprint")
    return Recipe(
        learning_rate=number("learning_rate") or (max(read) if read else None),
        batch_tokens=number("batch_tokens"),
        text=None if text is None else str(text),
    )


def recipes_of(records: Iterable[RunRecord]) -> list[tuple[float | None, float | None]]:
    """The learning rates and batches of pruned runs, each pair once; those that say neither are left out."""
    found = (recipe_of(record) for record in records if not record.is_control)
    pairs = dict.fromkeys((recipe.learning_rate, recipe.batch_tokens) for recipe in found)
    return [pair for pair in pairs if pair != (None, None)]


def control_curves(controls: Iterable[RunRecord], family: str, recipe: Recipe | None = None) -> dict[int, Curve]:
    """The controls of each size of a family: those of this recipe where a size has one, else all; averaged.

    Where one of several ends before the others, the others go on.
    """
    by_size: dict[int, list[RunRecord]] = {}
    for record in controls:
        if record.family == family and record.curve and record.status != "failed":
            by_size.setdefault(record.params_before, []).append(record)
    out = {}
    for size, records in by_size.items():
        same = [record for record in records if recipe is None or recipe_of(record) == recipe]
        out[size] = _average(same or records)
    return out


def read_control(curve: Curve, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A control's loss at these tokens and whether it lies within its checkpoints; at zero tokens it is L0."""
    at, loss, before = curve
    positive = at > 0
    inside = (tokens >= at[positive].min(initial=np.inf)) & (tokens <= at.max())
    value = np.full(len(tokens), before)
    if positive.any():
        value = np.where(
            tokens > 0, np.interp(np.log(np.maximum(tokens, 1)), np.log(at[positive]), loss[positive]), value
        )
    return value, inside | (tokens == 0)


def _average(records: list[RunRecord]) -> Curve:
    tokens = np.unique([float(p.tokens) for r in records for p in r.curve])
    table = np.full((len(records), len(tokens)), np.nan)
    for row, record in enumerate(records):
        at = np.array([float(p.tokens) for p in record.curve])
        loss, inside = read_control(
            (at, np.array([p.known_loss for p in record.curve]), record.known_loss_before), tokens
        )
        table[row, inside] = loss[inside]
    read = ~np.isnan(table).all(axis=0)
    return tokens[read], np.nanmean(table[:, read], axis=0), float(np.mean([r.known_loss_before for r in records]))
