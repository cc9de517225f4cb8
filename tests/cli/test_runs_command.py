"""`regrow runs check`: exit 0 for what is whole, 1 with the names of what is not."""

import time

from regrow.reading import repeated
from regrow.runs import CurvePoint, RunWriter

from .conftest import one_line_error


def test_check_names_what_is_not_whole_and_exits_1(regrow, make_record, tmp_path):
    curve = tuple(CurvePoint(tokens=10 * i, loss=3.0 - 0.1 * i) for i in range(3))
    for name in ("a", "b"):
        RunWriter.store(tmp_path / name, make_record(name, curve=curve, status="imported"))
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


def test_a_name_that_stands_twice_is_found_at_once_among_many():
    names = [f"run-{i}" for i in range(200_000)]
    began = time.process_time()
    assert repeated(names) is None
    assert repeated([*names, "run-7", "run-3"]) == "run-7"
    assert time.process_time() - began < 2  # all pairs would take hours
