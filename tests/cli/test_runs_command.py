"""`regrow runs check`: exit 0 for what is whole, 1 with the names of what is not."""

from regrow.runs import CurvePoint, RunRecord, RunWriter

from .conftest import one_line_error


def store(folder, name):
    run = RunRecord(
        run=name,
        family="f",
        method="depth",
        params_before=100,
        params_after=80,
        pruning_rate=0.2,
        loss_before=2.0,
        curve=tuple(CurvePoint(tokens=10 * i, loss=3.0 - 0.1 * i) for i in range(3)),
        status="imported",
    )
    RunWriter.store(folder / name, run)


def test_check_names_what_is_not_whole_and_exits_1(regrow, tmp_path):
    store(tmp_path, "a")
    store(tmp_path, "b")
    done = regrow("runs", "check", tmp_path)
    assert done.code == 0
    assert done.out == "2 runs: 2 done; 0 with something wrong\n"
    (tmp_path / "b" / "DONE").write_text("")
    done = regrow("runs", "check", tmp_path, "--json")
    assert done.code == 1
    assert done.json["whole"] is False
    assert [len(run["problems"]) for run in done.json["runs"]] == [0, 1]
    assert "error: " in done.err
    assert "1 of 2 runs are not whole" in done.err
    assert "b: DONE is of nothing" in regrow("runs", "check", tmp_path).out
    one_line_error(regrow("runs", "check", tmp_path / "nowhere"), "no such folder")
