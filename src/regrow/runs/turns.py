"""The stages of a run that prunes and trains in turns, each as a run of its own."""

from __future__ import annotations

from dataclasses import replace

from regrow.runs.record import RunRecord


def stage_runs(record: RunRecord) -> list[RunRecord]:
    """Each stage as a run of its own, tokens counted from its pruning; the record itself where it has no stages.

    All of them are measured from the unpruned model: its size and its loss are `params_before` and `loss_before`, and
    the rate is what is gone by then. Later stages start from a model that was trained in between.
    """
    if not record.stages:
        return [record]
    ends = [*(stage.tokens for stage in record.stages[1:]), None]
    runs = []
    for number, (stage, end) in enumerate(zip(record.stages, ends, strict=True), 1):
        inside = [p for p in record.curve if p.tokens > stage.tokens and (end is None or p.tokens <= end)]
        first = next((p for p in record.curve if p.tokens == stage.tokens == 0), None)
        curve = [replace(p, tokens=p.tokens - stage.tokens) for p in inside]
        runs.append(
            replace(
                record,
                run=f"{record.run}-stage{number}",
                params_after=stage.params_after,
                pruning_rate=stage.pruning_rate,
                loss_pruned=stage.loss_pruned,
                curve=tuple(curve if first is None else [first, *curve]),
                stages=(),
            )
        )
    return runs
