"""Scores are fractions with a noise that their number of questions allows; records, archives and tables carry them."""

import json
import math

import pandas as pd
import pytest

from regrow.errors import InputError
from regrow.runs import CurvePoint, RunWriter, Score, from_table, read_archive, read_run, to_table, write_archive
from regrow.runs.scores import largest_stderr


def scored(make_record, name="r"):
    curve = (
        CurvePoint(tokens=0, loss=4.0, scores={"mmlu": Score(value=0.26, stderr=0.0139, questions=1000, chance=0.25)}),
        CurvePoint(tokens=10, loss=3.5),
        CurvePoint(tokens=20, loss=3.0, scores={"mmlu": Score(value=0.5, questions=1000, chance=0.25)}),
    )
    return make_record(name, curve=curve, scores_before={"mmlu": Score(value=0.72, questions=1000, chance=0.25)})


def test_the_largest_error_is_that_of_right_and_wrong_answers():
    answers = [1.0] * 30 + [0.0] * 70
    mean = sum(answers) / 100
    spread = math.sqrt(sum((a - mean) ** 2 for a in answers) / 99 / 100)
    assert largest_stderr(0.3, 100) == pytest.approx(spread)
    assert largest_stderr(0.3, 1) is None
    assert largest_stderr(0.3, None) is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"value": 47.8}, r"looks like a percentage; scores are fractions: divide by 100 \(0.478\)"),
        ({"value": 100}, r"divide by 100 \(1\)"),
        ({"value": 101.0}, "fractions from 0 to 1"),
        ({"value": -0.1}, "a score is -0.1"),
        ({"value": math.nan}, "a score is nan; give a number from 0 to 1"),
        ({"value": "high"}, "a score is high"),
        ({"value": 0.5, "chance": 25}, r"the score of guessing is 25.*0.25"),
        ({"value": 0.5, "questions": 0}, "0 questions"),
        ({"value": 0.5, "stderr": -1.0}, "the standard error is -1"),
        ({"value": 0.5, "stderr": 0.05, "questions": 1000}, "0.05 and 1000 questions contradict"),
        ({"value": 1.0, "stderr": 0.01, "questions": 1000}, "contradict"),
    ],
)
def test_what_is_no_score_is_refused(values, says):
    with pytest.raises(InputError, match=says):
        Score(**values)


def test_a_smaller_error_than_that_of_right_and_wrong_is_taken():
    assert Score(value=0.5, stderr=0.004, questions=1000).stderr == 0.004  # graded answers


def test_a_run_folder_and_an_archive_carry_scores(make_record, tmp_path):
    run = scored(make_record)
    RunWriter.store(tmp_path / "run", run)
    found = read_run(tmp_path / "run")
    assert found.curve == run.curve
    assert found.scores_before == run.scores_before
    assert found.hash == run.hash
    write_archive([run], tmp_path / "runs.jsonl")
    (found,) = read_archive(tmp_path / "runs.jsonl")
    assert (found.curve, found.scores_before) == (run.curve, run.scores_before)


def test_a_run_without_scores_is_written_as_before(make_record, tmp_path):
    RunWriter.store(tmp_path / "run", make_record("r", curve=(CurvePoint(tokens=0, loss=3.0),)))
    assert (tmp_path / "run" / "curve.jsonl").read_text() == '{"tokens": 0, "loss": 3.0}\n'
    assert "scores_before" not in json.loads((tmp_path / "run" / "run.json").read_text())
    assert not [c for c in to_table([read_run(tmp_path / "run")]).columns if c.startswith("score")]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_carries_scores_and_empty_cells_are_not_known(make_record, tmp_path, suffix):
    run = scored(make_record)
    table = to_table([run, make_record("other", curve=(CurvePoint(tokens=0, loss=3.0),))])
    path = tmp_path / f"runs.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path, index=False)
    found, other = from_table(pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path))
    assert found.curve == run.curve
    assert found.scores_before == run.scores_before
    assert "score:mmlu" not in found.details
    assert not other.curve[0].scores
    assert not other.scores_before


def rows(**changes):
    values = {"run": "a", "family": "f", "method": "depth", "params_before": 100, "params_after": 80}
    values |= {"tokens": [0, 10], "loss": [3.0, 2.5], "loss_before": 2.0, "score:x": [0.3, 0.4], **changes}
    return pd.DataFrame(values)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"score:x": [0.3, 47.8]}, r"table, row 2: score:x is 47.8, which looks like a percentage.*0.478"),
        ({"score:x": [-0.2, 0.4]}, "row 1: score:x is -0.2"),
        ({"score:x": [math.inf, 0.4]}, "row 1: score:x is inf"),
        ({"score:x": ["high", 0.4]}, "row 1: score:x is high"),
        ({"score_before:x": 72}, r"score_before:x is 72, which looks like a percentage.*0.72"),
        ({"score_before:x": [0.7, 0.8]}, r"run a: score_before:x changes within the run \(0.7, 0.8\)"),
        ({"score_before:y": 0.7}, "score_before:y stands without score:y"),
        ({"score_questions:x": [1000, 500]}, r"score_questions:x changes within the run.*same questions"),
        ({"score_questions:x": [10.5, 10.5]}, "row 1: score_questions:x is 10.5; give the number of questions"),
        ({"score_questions:x": 1000, "score_stderr:x": [0.01, 0.2]}, "10 tokens, score:x.*contradict"),
        ({"score:": 0.5}, "names no benchmark"),
    ],
)
def test_a_table_of_impossible_scores_is_refused_by_name(changes, says):
    with pytest.raises(InputError, match=says):
        from_table(rows(**changes))


def test_scores_of_several_benchmarks_keep_their_names():
    (run,) = from_table(rows(**{"score:MMLU Pro": [0.1, math.nan], "score_before:MMLU Pro": 0.7}))
    assert [sorted(point.scores) for point in run.curve] == [["MMLU Pro", "x"], ["x"]]
    assert run.scores_before == {"MMLU Pro": Score(value=0.7)}
