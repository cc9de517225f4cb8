"""A run that prunes and trains in turns: stored with its stages, read by laws as its first."""

from __future__ import annotations

import pytest

from regrow.errors import InputError
from regrow.laws.observations import observe
from regrow.runs import CurvePoint, RunRecord, from_table, to_table
from regrow.runs.archive import read_archive, write_archive
from regrow.runs.stages import Stage
from regrow.runs.store import RunWriter, read_run
from regrow.runs.turns import stage_runs

STAGES = (
    Stage(pruning_rate=0.25, params_after=75, tokens=0, loss_start=3.0, loss_pruned=3.5),
    Stage(pruning_rate=0.5, params_after=50, tokens=200, loss_start=3.2, loss_pruned=4.2),
)
RUN = RunRecord(
    run="turns",
    family="tiny",
    method="depth",
    params_before=100,
    params_after=50,
    pruning_rate=0.5,
    loss_before=3.0,
    curve=tuple(CurvePoint(tokens=t, loss=v) for t, v in ((0, 3.5), (100, 3.3), (200, 3.2), (300, 3.9), (400, 3.6))),
    stages=STAGES,
)


def test_stages_are_stored_and_read(tmp_path):
    RunWriter.store(tmp_path / "run", RUN)
    assert read_run(tmp_path / "run").stages == STAGES
    write_archive([RUN], tmp_path / "runs.jsonl")
    (back,) = read_archive(tmp_path / "runs.jsonl")
    assert back == RUN
    assert "depth at 0.25, then 0.5" in str(back)
    plain = RunRecord.from_dict({**RUN.to_dict(), "stages": []}, RUN.curve)
    assert "stages" not in plain.to_dict()


def test_each_stage_counts_its_own_tokens():
    one, two = stage_runs(RUN)
    assert (one.pruning_rate, one.params_after, one.start_loss) == (0.25, 75, 3.5)
    assert [(p.tokens, p.loss) for p in one.curve] == [(0, 3.5), (100, 3.3), (200, 3.2)]
    assert (two.pruning_rate, two.params_after, two.start_loss, two.loss_before) == (0.5, 50, 4.2, 3.0)
    assert [(p.tokens, p.loss) for p in two.curve] == [(100, 3.9), (200, 3.6)]
    assert STAGES[1].damage == pytest.approx(1.0)


def test_laws_read_the_first_stage():
    (seen,) = observe([RUN])
    assert seen.x.pruning_rate.tolist() == [0.25] * 3
    assert seen.loss.tolist() == [3.5, 3.3, 3.2]


def test_a_table_names_later_stages_apart():
    runs = from_table(to_table([RUN]))
    assert [(run.run, run.method, run.pruning_rate) for run in runs] == [
        ("turns-stage1", "depth", 0.25),
        ("turns-stage2", "depth, stage 2", 0.5),
    ]
    assert runs[1].loss_pruned == 4.2


def test_stages_that_do_not_rise_are_no_record():
    with pytest.raises((InputError, ValueError)):
        RunRecord.from_dict({**RUN.to_dict(), "stages": [vars(STAGES[1]), vars(STAGES[0])]}, RUN.curve)
