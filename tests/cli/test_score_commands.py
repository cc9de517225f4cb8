"""Benchmark scores on the command line: from a table to tokens until a score, and bad input in one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from .conftest import one_line_error


def error(tokens: float, start: float) -> float:
    return 0.28 + (start - 0.28) * (1 + tokens / 2e8) ** -0.5


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """One size, three runs, two benchmarks; no losses."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "run": f"r{rate}", "family": "sim", "method": "depth", "params_before": 8e9,
            "params_after": 8e9 * (1 - rate), "tokens": tokens,
            **{f"score:{name}": round(1 - error(tokens, start + rate) + 0.003 * rng.standard_normal(), 4)
               for name, start in (("mmlu", 0.4), ("gsm8k", 0.5))},
            **{f"score_before:{name}": 0.72 for name in ("mmlu", "gsm8k")},
            "score_questions:mmlu": 14_000, "score_chance:mmlu": 0.25,
        }
        for rate in (0.15, 0.25, 0.3)
        for tokens in (0, 10**8, 3 * 10**8, 10**9, 3 * 10**9, 10**10)
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_from_a_table_to_tokens(regrow, scores, tmp_path) -> None:
    fitted = regrow("fit", scores, "--score", "mmlu", "--out", tmp_path / "law.json", "--json").json
    assert [law["target"] for law in fitted["laws"]] == ["score:mmlu"]
    asked = ["--score-before", 0.72, "--score-pruned", 0.35]
    answer = regrow("plan", tmp_path / "law.json", *asked, "--target", 0.66, "--json").json
    true = 2e8 * ((0.65 - 0.28) / (1 - 0.66 - 0.28)) ** 2
    assert answer["tokens_low"] < true < (answer["tokens_high"] or np.inf)
    assert answer["tokens"] == pytest.approx(true, rel=0.5)
    assert answer["score"] == pytest.approx(0.66, abs=1e-3)
    at = ["--params-before", "8B", "--rate", 0.3, "--tokens", "1B"]
    found = regrow("predict", tmp_path / "law.json", *asked, *at, "--json").json
    assert found["score"] == pytest.approx(1 - error(1e9, 0.65), abs=0.03)
    assert found["low"] < found["score"] < found["high"]
    assert found["target"] == "score:mmlu"
    one_line_error(regrow("plan", tmp_path / "law.json", *asked, "--target", 0.79), "never reached", "0.720")
    one_line_error(regrow("plan", tmp_path / "law.json", *asked, "--target", 70), "divide by 100")
    one_line_error(regrow("plan", tmp_path / "law.json", "--loss-before", 2.0), "--score-before")
    one_line_error(regrow("plan", tmp_path / "law.json", *asked, "--max-slope", 0.1), "criterion of scores")
    one_line_error(regrow("plan", tmp_path / "law.json", "--compare", *asked), "--compare with laws of scores")
    one_line_error(regrow("predict", tmp_path / "law.json", *at, "--loss-before", 2.0), "--score-before")
    one_line_error(regrow("predict", tmp_path / "law.json", *at), "the parent's score is missing")


def test_several_benchmarks_and_their_mean(regrow, scores, tmp_path) -> None:
    done = regrow("fit", scores, "--score", "all", "--out", tmp_path / "law.json")
    assert done.code == 0
    for name in ("score:mmlu", "score:gsm8k", "score:mean"):
        assert name in done.out
    one_line_error(regrow("plan", tmp_path / "law.json", "--score-before", 0.7), "--score", "mmlu", "mean")
    answer = regrow("plan", tmp_path / "law.json", "--score", "mean", "--score-before", 0.72, "--json").json
    assert answer["target"] == "score:mean"
    results = regrow("validate", scores, "--hold-out", "tokens", "--score", "mmlu,gsm8k", "--json").json["results"]
    assert {r["target"] for r in results} == {"score:mmlu", "score:gsm8k", "score:mean"}
    assert all(r["mae"] < 0.02 for r in results)
    assert "errors in points" in regrow("validate", scores, "--hold-out", "tokens", "--score", "all").out


def test_a_table_of_scores_is_listed_and_not_fitted_as_losses(regrow, scores) -> None:
    assert regrow("runs", "list", scores).code == 0
    for command in ("fit", "validate", "report"):
        more = ["--out", "x.html"] if command == "report" else []
        one_line_error(regrow(command, scores, *more), "no losses are known", "--score")
    one_line_error(regrow("fit", scores, "--score", "mmul"), "did you mean 'mmlu'")


def test_a_law_of_losses_needs_the_loss_before(regrow, law_file) -> None:
    at = ["--params-before", "1M", "--rate", 0.25]
    one_line_error(regrow("plan", law_file, *at), "loss before")
    one_line_error(regrow("predict", law_file, *at, "--tokens", "100k"), "--loss-before is missing")
    one_line_error(regrow("plan", law_file, *at, "--score-before", 0.7), "law of losses")


def test_a_report_of_scores_is_planned_as_plan_does(regrow, scores, tmp_path) -> None:
    law = tmp_path / "law.json"
    regrow("fit", scores, "--score", "all", "--out", law)
    asked = ("--score", "mmlu", "--score-before", 0.72, "--score-pruned", 0.35, "--target", 0.66)
    plan = regrow("plan", law, *asked, "--json").json
    told = regrow("report", law, *asked, "--out", tmp_path / "r.html", "--json").json
    assert told["plans"] == [plan]
    assert told["laws"] == 1
    page = (tmp_path / "r.html").read_text()
    assert f"mmlu: {plan['score']:.3f} after" in page
    assert "gsm8k" not in page
    # without a law file the scores are fitted
    fitted = regrow(
        "report", scores, "--score", "mmlu,gsm8k", "--no-validate", "--out", tmp_path / "r.md", "--json"
    ).json
    assert {one["target"] for one in fitted["plans"]} == {"score:mmlu", "score:gsm8k", "score:mean"}
    assert fitted["plans"][0]["target"] == "score:mean"
    one_line_error(regrow("report", law, *asked[2:], "--out", tmp_path / "r.md"), "3 benchmarks that it may be of")
    one_line_error(regrow("report", law, "--loss-before", 2.0, "--out", tmp_path / "r.md"), "give --score-before")


def test_the_warnings_of_several_plans_name_the_benchmark(regrow, scores, tmp_path) -> None:
    done = regrow("report", scores, "--score", "all", "--no-validate", "--min-gain", 0.001, "--out", tmp_path / "r.md")
    begins = {line.removeprefix("warning: ").split(": ")[0] for line in done.err.splitlines() if "at 0." in line}
    assert begins <= {f"at 0.25, {name}" for name in ("mmlu", "gsm8k", "mean")}
    assert begins
