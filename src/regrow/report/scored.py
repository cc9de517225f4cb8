"""What a report does for laws of benchmark scores: errors become scores in charts and tables, plans ask for scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.laws.observations import of_loss
from regrow.laws.pooled.scored import MEAN, of_score
from regrow.planning.criteria import Budget
from regrow.planning.plan_spec import PlanSpec
from regrow.planning.score_criteria import ScoreGain, ScoreRecovery, ScoreTarget
from regrow.runs.record import RunRecord


def records_of(law: Law, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs as the law has them: with the losses of its kind, or with the errors of its benchmark as their losses.

    Raises `InputError` for runs that lack them, and for the mean of benchmarks, which no run was asked.
    """
    if law.benchmark is None:
        return of_loss(runs, law.loss_kind)
    if law.benchmark == MEAN and "benchmarks" in law.diagnostics:
        raise InputError("the mean of the benchmarks is not drawn, they are", where=f"{law.family}, {law.method}")
    return of_score(runs, law.benchmark)


def shown(law: Law, losses: Any) -> Any:
    """What a reader sees, a number or an array: losses, or the scores of errors."""
    return losses if law.benchmark is None else 1 - losses


def unit(law: Law) -> str:
    """What the axis of a chart is called."""
    return "loss, nats/token" if law.benchmark is None else f"{law.target}, a fraction"


def heading(law: Law) -> str:
    """How a law is called: its family and method, and its benchmark."""
    return f"{law.family}, {law.method}" + ("" if law.benchmark is None else f", {law.benchmark}")


def score_spec(law: Law, runs: Sequence[RunRecord], base: PlanSpec) -> PlanSpec:
    """The question to a law of scores: the scores of the runs of this size in the place of losses.

    Raises `InputError` where no run of this size was asked the benchmark.
    """
    names = [str(name) for name in law.diagnostics.get("benchmarks", ())] or [str(law.benchmark)]
    mine = [
        run for run in runs if run.params_before == base.size and (run.family, run.method) == (law.family, law.method)
    ]
    run = next((run for run in mine if all(_start(run, name) is not None for name in names)), None)
    before = [run.scores_before[name].value for name in names if run is not None and name in run.scores_before]
    if run is None:
        raise InputError(f"no run of this size was asked {law.benchmark}", where=f"{law.family}, {law.method}")
    known = isinstance(base.criterion, (Budget, ScoreGain, ScoreRecovery, ScoreTarget))
    return replace(
        base,
        loss_before=None,
        loss_pruned=None,
        score_before=float(np.mean(before)) if len(before) == len(names) else None,
        score_pruned=float(np.mean([_start(run, name) for name in names])),
        criterion=base.criterion if known else ScoreGain(),
    )


def _start(run: RunRecord, name: str) -> float | None:
    """The score right after pruning."""
    return next((p.scores[name].value for p in run.curve if p.tokens == 0 and name in p.scores), None)
