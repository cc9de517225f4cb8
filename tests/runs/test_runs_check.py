"""A folder that is whole is said to be; each way to break it is named."""

import json
import struct

import pytest

from regrow.errors import InputError
from regrow.runs import CurvePoint, RunRecord, RunWriter, read_finished
from regrow.runs.check import check_runs
from regrow.runs.store import CURVE_FILE, DONE_FILE, RUN_FILE, RunWarning


@pytest.fixture
def run(make_record):
    """`run(folder, name, finish, **spec)`: a run of two batches of 10 tokens with a checkpoint of one tensor."""

    def make(folder, name="r", finish=True, **changes):
        spec = {"train": {"tokens": 15, "batch_tokens": 10, "eval_at": [10]}, **changes}
        writer = RunWriter.open(folder, make_record(name, spec=spec))
        for i in range(3 if finish else 2):
            writer.append(CurvePoint(tokens=10 * i, loss=3.0 - 0.1 * i, seconds=float(i)))
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text("{}")
        header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        (folder / "model" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
        return writer.finish() if finish else writer.record

    return make


def test_a_whole_folder_is_whole(run, tmp_path):
    run(tmp_path / "runs" / "a", "a")
    run(tmp_path / "runs" / "b", "b", finish=False)
    RunWriter.store(tmp_path / "runs" / "c", RunRecord(**{**vars(run(tmp_path / "x", "c")), "status": "imported"}))
    found = {one.run: one for one in check_runs(tmp_path)}
    assert {name: one.state for name, one in found.items()} == {
        "runs/a": "done",
        "runs/b": "unfinished",
        "runs/c": "done",
        "x": "done",
    }
    assert not any(one.problems for one in found.values())


def test_cells_that_a_study_lists_and_nobody_ran_are_missing(run, tmp_path):
    done = run(tmp_path / "runs" / "a", "a")
    cells = [{"name": "a", "hash": done.hash}, {"name": "b", "hash": "1" * 16}]
    (tmp_path / "study.json").write_text(json.dumps({"cells": cells}))
    assert [(one.run, one.state, one.problems) for one in check_runs(tmp_path)] == [
        ("runs/a", "done", ()),
        ("b", "missing", ()),
    ]
    cells[0]["hash"] = "2" * 16
    (tmp_path / "study.json").write_text(json.dumps({"cells": cells}))
    assert "the study lists 2222222222222222" in check_runs(tmp_path)[0].problems[0]


def edit_run(folder, **changes):
    path = folder / RUN_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_curve(folder, change):
    path = folder / CURVE_FILE
    path.write_text(change(path.read_text()))


BROKEN = {
    "run.json is missing": lambda f: (f / RUN_FILE).unlink(),
    "not a run record": lambda f: (f / RUN_FILE).write_text('{"spec": {'),
    "one of them was changed": lambda f: edit_run(f, spec={"train": None}),
    "DONE is of nothing": lambda f: (f / DONE_FILE).write_text(""),
    "DONE is of 0123": lambda f: (f / DONE_FILE).write_text("0123\n"),
    "the status is 'running'": lambda f: edit_run(f, status="running"),
    "DONE is missing": lambda f: (f / DONE_FILE).unlink(),
    "curve.jsonl can't be read": lambda f: (f / CURVE_FILE).unlink(),
    "line 3: torn": lambda f: edit_curve(f, lambda text: text[:-9]),
    "line 2: not an evaluation": lambda f: edit_curve(f, lambda text: text.replace('{"tokens": 10', '{"tokns": 10')),
    "line 3: 10 tokens after 10": lambda f: edit_curve(f, lambda text: text.replace(": 20", ": 10")),
    "line 3: 0.5 seconds after 1.0": lambda f: edit_curve(f, lambda text: text.replace(": 2.0}", ": 0.5}")),
    "the loss at 10 tokens is -2.9": lambda f: edit_curve(f, lambda text: text.replace(" 2.9", " -2.9")),
    "a reading at 25 tokens, where batches are of 10": lambda f: edit_curve(f, lambda t: t.replace(": 20", ": 25")),
    "no reading at 10 tokens": lambda f: edit_curve(f, lambda t: "".join(t.splitlines(True)[::2])),
    "no reading at 20 tokens": lambda f: edit_curve(f, lambda t: "".join(t.splitlines(True)[:2])),
    "holds no checkpoint": lambda f: (f / "model" / "model.safetensors").unlink(),
    "bytes of": lambda f: (f / "model" / "model.safetensors").open("ab").write(b"x"),
    "is not a safetensors file": lambda f: (f / "model" / "model.safetensors").write_bytes(b"x"),
}


@pytest.mark.parametrize("says", BROKEN)
def test_what_is_broken_is_named_and_the_others_stay_whole(run, tmp_path, says):
    run(tmp_path / "a", "a")
    run(tmp_path / "b", "b")
    BROKEN[says](tmp_path / "a")
    broken, whole = check_runs(tmp_path)
    assert not whole.problems
    assert any(says in problem for problem in broken.problems), broken.problems


def test_folders_without_runs(tmp_path):
    with pytest.raises(InputError, match="no runs in this folder"):
        check_runs(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        check_runs(tmp_path / "nowhere")
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(InputError, match="not a study's list of cells"):
        check_runs(tmp_path)


def test_what_is_fitted_leaves_out_what_is_still_going(run, tmp_path):
    run(tmp_path / "a", "a", finish=False)
    with pytest.raises(InputError, match="the one run has not finished"):
        read_finished(tmp_path)
    run(tmp_path / "b", "b")
    with pytest.warns(RunWarning, match="left out, not finished: 1 of 2 runs"):
        assert [r.run for r in read_finished(tmp_path)] == ["b"]


def test_what_a_study_no_longer_asks_for_is_not_fitted(run, tmp_path):
    asked = run(tmp_path / "runs" / "a", "a")
    run(tmp_path / "runs" / "b", "b")
    (tmp_path / "study.json").write_text(json.dumps({"cells": [{"name": "a", "hash": asked.hash}]}))
    with pytest.warns(RunWarning, match="no cells of the study as it is now: 1 of 2 runs"):
        assert [r.run for r in read_finished(tmp_path)] == ["a"]
    assert [r.run for r in read_finished(tmp_path / "runs" / "b")] == ["b"]
