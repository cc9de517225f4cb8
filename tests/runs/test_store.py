"""A run on disk is whole or says what is missing; one broken run never hides another."""

import json
from functools import partial

import pytest

from regrow.errors import InputError
from regrow.runs import CurvePoint, RunWriter, read_run, read_runs, to_table
from regrow.runs.store import CURVE_FILE, DONE_FILE, RUN_FILE, RunWarning, is_done


@pytest.fixture
def record(make_record):
    """`record(name, **changes)` with a spec."""
    return partial(make_record, spec={"tokens": 10})


@pytest.fixture
def write(record):
    """`write(folder, name, points, **changes)`: a run begun in a folder, so many evaluations in."""

    def begin(folder, name="r", points=3, **changes):
        writer = RunWriter.open(folder, record(name, **changes))
        for i in range(points):
            writer.append(CurvePoint(tokens=10 * i, loss=3.0 - 0.1 * i, lr=1e-3))
        return writer

    return begin


def test_what_is_written_is_read(write, tmp_path):
    finished = write(tmp_path / "r").finish(details={"device": "cpu"})
    assert read_run(tmp_path / "r") == finished
    assert finished.status == "done"
    assert is_done(tmp_path / "r", spec_hash=finished.hash)
    assert not is_done(tmp_path / "r", spec_hash="another")


def test_missing_numbers_stay_missing(write, tmp_path):
    write(tmp_path / "r", points=1)
    line = json.loads((tmp_path / "r" / CURVE_FILE).read_text())
    assert "train_loss" not in line
    assert read_run(tmp_path / "r").curve[0].train_loss is None


def test_an_unfinished_run_reads_as_running(write, tmp_path):
    write(tmp_path / "r")
    assert read_run(tmp_path / "r").status == "running"
    assert not is_done(tmp_path / "r")


def test_a_torn_last_line_is_dropped_and_reported(write, tmp_path):
    write(tmp_path / "r")
    with (tmp_path / "r" / CURVE_FILE).open("a") as stream:
        stream.write('{"tokens": 30, "lo')
    with pytest.warns(RunWarning, match="torn last line"):
        run = read_run(tmp_path / "r")
    assert [p.tokens for p in run.curve] == [0, 10, 20]


def test_a_broken_line_in_the_middle_is_an_error(write, tmp_path):
    write(tmp_path / "r")
    path = tmp_path / "r" / CURVE_FILE
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "nonsense", lines[2]]) + "\n")
    with pytest.raises(InputError, match="line 2 is not an evaluation"):
        read_run(tmp_path / "r")


def test_a_second_run_needs_resume_and_the_same_spec(write, record, tmp_path):
    write(tmp_path / "r")
    with pytest.raises(InputError, match="holds a run already"):
        RunWriter.open(tmp_path / "r", record())
    with pytest.raises(InputError, match="another spec"):
        RunWriter.open(tmp_path / "r", record(spec={"tokens": 11}), resume=True)
    again = RunWriter.open(tmp_path / "r", record(), resume=True)
    assert [p.tokens for p in again.record.curve] == [0, 10, 20]
    again.rewind(10)
    assert [p.tokens for p in read_run(tmp_path / "r").curve] == [0, 10]


def test_a_broken_run_does_not_hide_the_others(write, tmp_path):
    write(tmp_path / "a", "a").finish()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / RUN_FILE).write_text('{"run": "b"')
    with pytest.warns(RunWarning, match="left out"):
        runs = read_runs(tmp_path)
    assert [run.run for run in runs] == ["a"]


def test_tables_and_folders_give_the_same_runs(write, tmp_path):
    write(tmp_path / "study" / "a", "a").finish()
    to_table(read_runs(tmp_path / "study")).to_csv(tmp_path / "t.csv", index=False)
    to_table(read_runs(tmp_path / "study")).to_parquet(tmp_path / "t.parquet", index=False)
    for path in ("t.csv", "t.parquet"):
        (run,) = read_runs(tmp_path / path)
        assert [(p.tokens, p.loss) for p in run.curve] == [(0, 3.0), (10, 2.9), (20, 2.8)]


def test_one_name_for_two_runs_is_refused(write, tmp_path):
    write(tmp_path / "x" / "a", "a").finish()
    write(tmp_path / "y" / "a", "a").finish()
    with pytest.raises(InputError, match="two runs are called 'a'"):
        read_runs(tmp_path / "x", tmp_path / "y")


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"run,loss\n"])
def test_files_that_are_no_runs(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_runs(path)


def test_paths_that_are_no_runs(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_runs(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no runs in this folder"):
        read_runs(tmp_path)


def test_an_unwritable_folder_is_said(record, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write here"):
        RunWriter.open(tmp_path / "file" / "run", record())


def test_done_is_written_last(write, tmp_path, monkeypatch):
    writer = write(tmp_path / "r")
    seen = []
    update = RunWriter.update
    monkeypatch.setattr(
        RunWriter,
        "update",
        lambda self, **c: (seen.append((tmp_path / "r" / DONE_FILE).exists()), update(self, **c)),
    )
    writer.finish()
    assert seen == [False]
    assert (tmp_path / "r" / DONE_FILE).exists()


def test_a_run_of_a_newer_format_says_to_upgrade(tmp_path, record):
    RunWriter.store(tmp_path / "run", record("a"))
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(InputError, match="format 2, written by a newer regrow; upgrade regrow"):
        read_run(tmp_path / "run")
