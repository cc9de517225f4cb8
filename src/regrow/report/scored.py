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
from regrow.planning.criteria import Budget, Criterion, Recovery
from regrow.planning.plan_spec import PlanSpec
from regrow.planning.score_criteria import ScoreGain, ScoreRecovery, ScoreTarget
from regrow.report.question import Question
from regrow.runs.record import CurvePoint, RunRecord


def records_of(law: Law, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs as the law has them: with the losses of its kind, or with the errors of its benchmark as their losses.

    Raises `InputError` for runs that lack them.
    """
    if law.benchmark is None:
        return of_loss(runs, law.loss_kind)
    if law.benchmark == MEAN and "benchmarks" in law.diagnostics:
        return _of_mean(runs, law.diagnostics["benchmarks"])
    return of_score(runs, law.benchmark)


def _of_mean(runs: Sequence[RunRecord], names: Sequence[str]) -> list[RunRecord]:
    """The pruned runs with the mean error of these benchmarks as their loss, where all of them were read."""
    parts = [{run.run: run for run in of_score(runs, name)} for name in names]
    out = []
    for key in parts[0]:
        own = [part[key] for part in parts if key in part]
        errors = [{point.tokens: point.known_loss for point in run.curve} for run in own]
        shared = sorted(set.intersection(*(set(one) for one in errors)))
        if len(own) < len(names) or not shared:
            raise InputError(
                "no reading of all the benchmarks", where=f"run {key}", hint="read them at the same tokens"
            )
        points = tuple(CurvePoint(tokens=at, loss=float(np.mean([one[at] for one in errors]))) for at in shared)
        before = float(np.mean([run.known_loss_before for run in own]))
        out.append(replace(own[0], curve=points, loss_before=before))
    return out


def shown(law: Law, losses: Any) -> Any:
    """What a reader sees, a number or an array: losses, or the scores of errors."""
    return losses if law.benchmark is None else 1 - losses


def unit(law: Law) -> str:
    """What the axis of a chart is called."""
    return "loss, nats/token" if law.benchmark is None else f"{law.target}, a fraction"


def heading(law: Law) -> str:
    """How a law is called: its family and method, and its benchmark."""
    return f"{law.family}, {law.method}" + ("" if law.benchmark is None else f", {law.benchmark}")


def score_spec(law: Law, runs: Sequence[RunRecord], base: PlanSpec, question: Question) -> PlanSpec:
    """The question to a law of scores: the scores that are given, or else those of the runs of this size, in the place
    of losses.

    Raises `InputError` where no score is given and no run of this size was asked the benchmark.
    """
    asks = replace(base, loss_before=None, loss_pruned=None, criterion=_of_scores(base.criterion))
    if question.score_before is not None or question.score_pruned is not None:
        return replace(asks, score_before=question.score_before, score_pruned=question.score_pruned)
    names = [str(name) for name in law.diagnostics.get("benchmarks", ())] or [str(law.benchmark)]
    mine = [
        run for run in runs if run.params_before == base.size and (run.family, run.method) == (law.family, law.method)
    ]
    run = next((run for run in mine if all(_start(run, name) is not None for name in names)), None)
    if run is None:
        hint = "give the scores with --score-before and --score-pruned"
        where = f"{law.family}, {law.method}"
        raise InputError(f"no run of this size was asked {law.benchmark}", where=where, hint=hint)
    before = [run.scores_before[name].value for name in names if name in run.scores_before]
    return replace(
        asks,
        score_before=float(np.mean(before)) if len(before) == len(names) else None,
        score_pruned=float(np.mean([_start(run, name) for name in names])),
    )


def _of_scores(criterion: Criterion | Budget) -> Criterion | Budget:
    """When to stop by a score: as asked, or `gain` where the question is one of losses."""
    if isinstance(criterion, Recovery):
        return ScoreRecovery(share=criterion.share)
    known = isinstance(criterion, (Budget, ScoreGain, ScoreRecovery, ScoreTarget))
    return criterion if known else ScoreGain()


def _start(run: RunRecord, name: str) -> float | None:
    """The score right after pruning."""
    return next((p.scores[name].value for p in run.curve if p.tokens == 0 and name in p.scores), None)
