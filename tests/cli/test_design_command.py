"""`regrow design`: the JSON, the study files that `regrow study` reads, the next run, and what users do wrong."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from regrow.study import StudySpec

from .conftest import one_line_error

ASK = ("--target", "20M", "--rate", "0.25", "--candidate", "1M,2M,4M", "--tokens", "100k,400k,1.6M")
BUDGET = ("--budget-flops", "6e14", "--context", "256")


def test_design_prints_a_study_and_what_it_costs(regrow):
    done = regrow("design", *ASK, *BUDGET, "--price", "2", "--json")
    assert done.code == 0
    answer = done.json
    assert answer["flops"] <= 6e14
    assert answer["cost_usd"] == pytest.approx(2 * answer["gpu_hours"])
    assert 1 < answer["factor_exact"] <= answer["factor"] <= answer["factor_bent"]
    assert answer["factor"] < answer["grid"]["factor"]
    assert answer["grid"]["flops"] == pytest.approx(6e14)
    assert sum(run["repeats"] for run in answer["runs"]) == answer["n_runs"]
    assert answer["target"]["flops"] == pytest.approx(6 * 20e6 * 0.75 * answer["target"]["tokens"])
    assert answer["before"] is None
    assert answer["files"] == []


def test_design_for_people(regrow):
    done = regrow("design", *ASK, *BUDGET)
    assert done.code == 0
    assert "known to within x/÷" in done.out
    assert "A grid of 9 equal runs" in done.out
    assert "stated prior" in done.out


def test_the_files_are_studies_of_the_runs_proposed(regrow, warm_workers, tmp_path):
    ladder = ("--candidate", "tiny-llama-0.2m", "--candidate", "tiny-llama-0.3m,tiny-llama-0.6m@3.1")
    done = regrow(
        "design", "--target", "tiny-llama-3m", "--rate", "0.25", *ladder, "--budget-flops", "2e13", "--context", "256",
        "--family", "tiny-llama", "--out", tmp_path / "study.yaml", "--json",
    )  # fmt: skip
    assert done.code == 0
    assert "fill in" not in done.err
    answer = done.json
    cells = [cell for path in answer["files"] for cell in StudySpec.from_yaml(path).cells()]
    assert sum(cell.prune is not None for cell in cells) == answer["n_runs"]
    assert sorted(cell.model for cell in cells if cell.prune is None) == sorted(
        {run["model"] for run in answer["runs"]}
    )
    tokens = sum(run["repeats"] * round(run["tokens"]) for run in answer["runs"])
    assert sum(cell.train.tokens for cell in cells if cell.prune is not None) == tokens
    shown = regrow("study", answer["files"][-1], "--out", tmp_path / "study", "--dry-run", "--json")
    assert shown.code == 0
    assert shown.json["missing"]


def test_sizes_alone_are_to_be_filled_in(regrow, tmp_path):
    done = regrow("design", *ASK, *BUDGET, "--no-controls", "--out", tmp_path / "deep" / "study.yaml")
    assert done.code == 0
    assert "fill in before you run them: family, FILL-IN-" in done.err
    assert f"regrow study {tmp_path / 'deep' / 'study'}" in done.out
    files = sorted((tmp_path / "deep").glob("*.yaml"))
    assert files
    assert not any(yaml.safe_load(path.read_text())["controls"] for path in files)


def test_the_next_runs_after_those_made(regrow, law_file, table):
    done = regrow("design", law_file, "--runs", table, "--next", "2", *ASK, *BUDGET, "--json")
    assert done.code == 0
    answer = done.json
    assert 1 <= len(answer["runs"]) <= 2
    factors = [answer["before"], *(run["factor_after"] for run in answer["runs"])]
    assert all(after < before for before, after in pairwise(factors))
    assert "9 runs already made" in answer["assumes"]
    assert answer["family"] == "sim"
    people = regrow("design", law_file, "--runs", table, "--next", "1", *ASK, *BUDGET)
    assert "then x/÷" in people.out
    assert "(now x/÷" in people.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*ASK[2:], *BUDGET), "--target or --params-before"),
        ((*ASK, *BUDGET, "--params-before", "3M"), "--target or --params-before"),
        ((*ASK[:4], *BUDGET), "--candidate is missing"),
        (ASK, "exactly one"),
        ((*ASK, "--budget-hours", "1e-9"), "least study"),
        ((*ASK, "--budget-hours", "-1"), "budget of -1"),
        ((*ASK, *BUDGET, "--gpu", "h1000"), "did you mean"),
        ((*ASK, *BUDGET, "--method", "deep"), "did you mean 'depth'"),
        ((*ASK, *BUDGET, "--rates", "0.1;0.2"), "--rates"),
        ((*ASK, *BUDGET, "--price", "-2"), "price"),
        ((*ASK, *BUDGET, "--discrepancy", "-1"), "discrepancy"),
        ((*ASK, *BUDGET, "--next", "1"), "give the law and its runs"),
        ((*ASK, *BUDGET, "--runs", "nowhere"), "nowhere"),
        (("nowhere.json", *ASK, *BUDGET), "no such law file"),
        (("--target", "Llama-9", *ASK[2:], *BUDGET), "unknown model"),
        (("--target", "20M", "--rate", "0.25", "--candidate", "1M@x", *BUDGET), "is not a number"),
        (("--target", "20M", "--rate", "0.25", "--candidate", "1M,2M", *BUDGET), "2 model sizes"),
    ],
)
def test_what_users_do_wrong_is_one_line(regrow, arguments, said):
    done = regrow("design", *arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert said in done.err


def test_a_folder_that_cannot_be_written_is_one_line(regrow, tmp_path):
    (tmp_path / "file").write_text("")
    done = regrow("design", *ASK, *BUDGET, "--out", tmp_path / "file" / "study.yaml")
    assert done.code == 2
    assert "can't write here" in done.err


def test_a_memory_target_makes_the_rate(regrow):
    from regrow.arch import catalog
    from regrow.footprint import MemoryTarget, shape_for_memory

    ask = ("design", "--target", "Qwen2.5-7B", "--candidate", "1M,2M,4M", "--tokens", "100k,400k,1.6M", *BUDGET[:2])
    answer = regrow(*ask, "--max-memory", "12GB", "--context", "16k", "--json").json
    target = MemoryTarget(max_memory="12GB", context=16000)
    assert answer["target"]["pruning_rate"] == shape_for_memory(catalog()["Qwen2.5-7B"], "depth", target).rate
    one_line_error(regrow(*ask, "--max-memory", "12GB", "--rate", "0.25"), "a rate and a memory target")
    sized = ("design", "--target", "20M", *ask[3:], "--max-memory", "12GB")
    one_line_error(regrow(*sized), "a memory target for a size")


def test_the_default_form_designs_and_says_what_only_the_target_tells(regrow, tmp_path):
    runs = Path(__file__).parents[2] / "studies" / "ladder-llama.jsonl"
    law = tmp_path / "law.json"
    assert regrow("fit", str(runs), "--form", "regrowth", "--draws", "100", "--out", str(law)).code == 0
    ask = [
        "design", str(law), "--target", "tiny-llama-3m", "--rate", "0.25", "--candidate",
        "tiny-llama-0.2m,tiny-llama-0.3m", "--budget-flops", "5e12", "--context", "256", "--loss-before", "3.4",
        "--method", "depth",
    ]  # fmt: skip
    known = regrow(*ask, "--loss-pruned", "4.4", "--json").json
    assert known["of_target"]["factor_least"] < known["factor"] < known["before"]
    assert known["of_target"]["factor_without_gap"] is None
    assert known["factor_bent"] is None
    assert known["runs"]
    assert "evaluate it once" in regrow(*ask).out


def test_what_a_design_would_ignore_is_refused(regrow):
    known = ("design", "--target", "tiny-llama-3m", "--candidate", "tiny-llama-0.2m,tiny-llama-0.3m,tiny-llama-0.6m")
    budget = ("--budget-flops", "5e12", "--context", "256")
    asked = regrow(*known, *budget, "--method", "2:4", "--rate", "0.25")
    one_line_error(asked, "2:4: pruning rate 0.25", "the pattern removes 0.457 of this model: leave the rate out")
    read = regrow(*known, *budget, "--rate", "0.25", "--loss-pruned", "4.4")
    one_line_error(read, "no law that reads it")
