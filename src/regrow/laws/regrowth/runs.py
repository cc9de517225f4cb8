"""The arrays that the hierarchical law is fitted to: the readings of all runs in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.laws.regrowth.curve import LEAST_GAP, effective_tokens
from regrow.laws.regrowth.effects import CROSSED, covariates
from regrow.laws.regrowth.recipe import log_longer, log_over


@dataclass(frozen=True, kw_only=True, eq=False)
class RunCurve:
    """One pruned run, as the law sees it.

    Attributes:
        run: its name.
        family, method: as in its record.
        params_before, pruning_rate, loss_before, loss_pruned: of its model; parameters, fraction, nats/token. Without a
            loss right after pruning (None) the gap is guessed from the first reading, and the level is free.
        warmup: tokens of its linear warm-up.
        tokens, loss: its readings above zero tokens, [n].
        baseline: [n] the loss above which its gap is counted: its control's at the same tokens, or `loss_before`.
        controlled: whether that is a control's.
        benchmark: of which benchmark the losses are errors, 1 - score; empty for losses in nats/token.
        stderr: [n] what is known of the noise of each reading, a standard deviation; None where nothing is.
        chance: the score of guessing, where it is known.
        parent_known: whether `loss_before` was measured, and does not stand for a score that is not known.
        refitted: whether its scorer solved the weights that stay again.
        learning_rate, batch_tokens: of its recipe, where it is known.
    """

    run: str
    family: str
    method: str
    params_before: float
    pruning_rate: float
    loss_before: float
    loss_pruned: float | None
    warmup: float
    tokens: np.ndarray
    loss: np.ndarray
    baseline: np.ndarray
    controlled: bool
    benchmark: str = ""
    stderr: np.ndarray | None = None
    parent_known: bool = True
    chance: float | None = None
    refitted: bool = False
    learning_rate: float | None = None
    batch_tokens: float | None = None

    @property
    def gap_pruned(self) -> float:
        """G0 in nats, at least a thousandth of the loss before pruning."""
        start = float(self.loss[0]) if self.loss_pruned is None else self.loss_pruned
        return max(start - self.loss_before, LEAST_GAP * self.loss_before)

    @property
    def measured(self) -> bool:
        """Whether the loss right after pruning was read."""
        return self.loss_pruned is not None

    def label(self, level: str) -> tuple[object, ...]:
        """What it shares with the other runs of a level.

        The benchmarks of one pruned model share its pace, so there the level `model` is the pruned model, and the level
        `family` is a family's benchmark.
        """
        score = (self.benchmark,) if self.benchmark else ()
        if level == "family":
            return (self.family, *score)
        if level == "model":
            pruned = (self.method, round(self.pruning_rate, 6)) if self.benchmark else ()
            return (self.family, round(self.params_before), *pruned)
        if level == "method":
            return (self.method,)
        # two runs of one cell start from the very same weights, so they share the loss right after pruning
        start = (self.refitted, round(self.pruning_rate, 6), round(self.gap_pruned, 9))
        return (self.family, round(self.params_before), self.method, *start, *score)


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What most of some runs have: what their law is counted from. None for what no run says."""

    refitted: float = 0.0
    learning_rate: float | None = None
    batch_tokens: float | None = None

    def covariates(self, runs: Sequence[RunCurve]) -> dict[str, np.ndarray]:
        """`regrow.laws.regrowth.effects.covariates` of runs, each [R]."""
        gap, size, rate, refitted = np.array(
            [(run.gap_pruned, run.params_before, run.pruning_rate, run.refitted) for run in runs], dtype=float
        ).T
        return covariates(gap, size, rate, refitted - self.refitted)

    def recipe_over(self, other: RunCurve | Usual) -> dict[str, float]:
        """The logarithms of a run's learning rate and batch over these, 0 where one of them is not known."""
        return {
            "log_rate": log_over(other.learning_rate, self.learning_rate),
            "log_batch": log_over(other.batch_tokens, self.batch_tokens),
        }

    def log_longer(self, other: RunCurve | Usual) -> float:
        """ln of how many times as many tokens a run's recipe takes (`regrow.laws.regrowth.recipe`)."""
        return log_longer(**self.recipe_over(other))

    def tokens_of(self, run: RunCurve) -> np.ndarray:
        """Effective tokens of a run's readings [n], as many as they are worth in this recipe."""
        return effective_tokens(run.tokens, run.warmup) * np.exp(-self.log_longer(run))


def usual_of(runs: Sequence[RunCurve]) -> Usual:
    """The scorers' kind, the learning rate and the batch of most of the runs that say theirs."""

    def most(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return max(dict.fromkeys(known), key=known.count, default=None)

    return Usual(
        refitted=most([float(run.refitted) for run in runs]) or 0.0,
        learning_rate=most([run.learning_rate for run in runs]),
        batch_tokens=most([run.batch_tokens for run in runs]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class RunArrays:
    """Runs side by side: `R` runs, `N` readings in all, `C` cells.

    Attributes:
        run: [N] index of each reading's run, in rising order.
        tokens: effective tokens [N], rising within a run.
        gap: [N] in nats.
        loss: [N] in nats, with which the noise goes; 1 for a score, whose noise does not go with it.
        stderr: [N] the known standard deviation of each reading, 0 where nothing is known.
        gap_pruned, loss_before: [R] in nats.
        cell: [R] index of each run's cell.
        first: [C] a run of each cell.
        labels: of each crossed level, the labels that occur.
        member: of each crossed level, the index [C] of each cell's label.
    """

    runs: tuple[RunCurve, ...]
    usual: Usual
    run: np.ndarray
    tokens: np.ndarray
    gap: np.ndarray
    loss: np.ndarray
    stderr: np.ndarray
    gap_pruned: np.ndarray
    loss_before: np.ndarray
    cell: np.ndarray
    first: np.ndarray
    labels: dict[str, list[tuple[object, ...]]]
    member: dict[str, np.ndarray]


def side_by_side(runs: Sequence[RunCurve]) -> RunArrays:
    """The runs as arrays."""
    run = np.repeat(np.arange(len(runs)), [len(run.tokens) for run in runs])
    usual = usual_of(runs)
    tokens = np.concatenate([usual.tokens_of(run) for run in runs])
    loss = np.concatenate([run.loss for run in runs])
    # the noise of a loss goes with the loss, that of a score does not
    scale = np.concatenate([np.ones_like(run.loss) if run.benchmark else run.loss for run in runs])
    stderr = np.concatenate([np.zeros_like(run.loss) if run.stderr is None else run.stderr for run in runs])
    baseline = np.concatenate([run.baseline for run in runs])
    order = np.lexsort((tokens, run))
    cells: dict[tuple[object, ...], int] = {}
    cell = np.array([cells.setdefault(run.label("cell"), len(cells)) for run in runs])
    first = np.unique(cell, return_index=True)[1]
    labels, member = {}, {}
    for level in CROSSED:
        found: dict[tuple[object, ...], int] = {}
        member[level] = np.array([found.setdefault(runs[i].label(level), len(found)) for i in first])
        labels[level] = list(found)
    return RunArrays(
        runs=tuple(runs),
        usual=usual,
        run=run,
        tokens=tokens[order],
        gap=(loss - baseline)[order],
        loss=scale[order],
        stderr=stderr[order],
        gap_pruned=np.array([run.gap_pruned for run in runs]),
        loss_before=np.array([run.loss_before for run in runs]),
        cell=cell,
        first=first,
        labels=labels,
        member=member,
    )
