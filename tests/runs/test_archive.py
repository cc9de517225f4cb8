"""An archive gives back exactly the runs it was made of, and says which line is not one."""

import json

import pytest

from regrow.errors import InputError
from regrow.runs import CurvePoint, RunRecord, RunWriter, read_archive, read_runs, write_archive
from regrow.runs.archive import merge_runs
from regrow.runs.store import RunWarning


def run(name, **changes):
    values = {
        "run": name,
        "family": "f",
        "method": "2:4",
        "params_before": 100,
        "params_after": 60,
        "pruning_rate": 0.4,
        "loss_before": 2.0,
        "spec": {"train": {"tokens": 10, "eval_at": [0, 10]}},
        "seed": 3,
        "objective": "cross-entropy",
        "schedule": "constant",
        "details": {"hardware": {"device": "cpu", "cores": 2}, "seconds": 1.5},
        "curve": (
            CurvePoint(tokens=0, loss=4.0),
            CurvePoint(tokens=10, loss=1 / 3, train_loss=2.5, lr=1e-3, seconds=1.5, loss_averaged=0.1),
        ),
    }
    return RunRecord(**{**values, **changes})


def test_runs_come_back_as_they_were(tmp_path):
    runs = [run("b"), run("a", status="imported", seed=None, objective=None)]
    write_archive(runs, tmp_path / "runs.jsonl")
    assert read_archive(tmp_path / "runs.jsonl") == runs
    assert read_runs(tmp_path / "runs.jsonl") == runs


def test_an_archive_says_what_the_folders_say(tmp_path):
    for name in ("a", "b"):
        RunWriter.store(tmp_path / "study" / name, run(name))
    folders = read_runs(tmp_path / "study")
    write_archive(folders, tmp_path / "runs.jsonl")
    assert read_runs(tmp_path / "runs.jsonl") == folders


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda line: line[: len(line) // 2], "line 2: not a run"),
        (
            lambda line: json.dumps({**json.loads(line), "format": 2}),
            "format 2, written by a newer regrow; upgrade",
        ),
        (
            lambda line: json.dumps({**json.loads(line), "spec": {"train": {"tokens": 11}}}),
            "line 2: its spec was changed",
        ),
        (lambda line: json.dumps({**json.loads(line), "loss_before": -1}), "loss_before is -1"),
        (lambda line: "[1]", "line 2: not a run"),
    ],
)
def test_a_line_that_is_not_a_run_is_named(tmp_path, spoil, complaint):
    path = tmp_path / "runs.jsonl"
    write_archive([run("a"), run("b")], path)
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{spoil(second)}\n")
    with pytest.raises(InputError) as error:
        read_archive(path)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.warns(RunWarning, match="left out: ") as warned:  # the others are read
        assert [one.run for one in read_runs(path)] == ["a"]
    assert complaint in str(warned[0].message)


def test_an_empty_archive_is_said_to_be_empty(tmp_path):
    (tmp_path / "runs.jsonl").write_text("")
    with pytest.raises(InputError, match="archive is empty"):
        read_runs(tmp_path / "runs.jsonl")


def test_archives_are_merged_by_name_and_a_finished_run_wins():
    old, begun, ended = run("a"), run("b", status="running", curve=()), run("b")
    assert merge_runs([old, begun], [ended, run("c")]) == [old, ended, run("c")]
    assert merge_runs([ended], [begun]) == [ended]
    with pytest.raises(InputError, match="two runs called 'a' have different specs"):
        merge_runs([old], [run("a", spec={"train": {"tokens": 11}})])
