"""`regrow report`: formats, plans that were asked for, hold-outs, and what users do wrong."""

from __future__ import annotations

import json

import pytest

from .conftest import one_line_error


@pytest.mark.parametrize(("name", "begins"), [("r.html", b"<!doctype html>"), ("r.md", b"# "), ("r.png", b"\x89PNG")])
def test_the_ending_of_out_is_the_format(regrow, table, law_file, tmp_path, name, begins):
    done = regrow("report", table, law_file, "--out", tmp_path / name, "--no-validate", "--json")
    assert done.code == 0
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert done.json["format"] == name.split(".")[1]


def test_a_format_given_wins(regrow, table, law_file, tmp_path):
    done = regrow("report", table, law_file, "--out", tmp_path / "body.txt", "--format", "md", "--no-validate")
    assert done.code == 0
    assert (tmp_path / "body.txt").read_text().startswith("# ")


def test_unasked_it_plans_the_largest_size_of_the_runs(regrow, table, law_file, tmp_path):
    done = regrow("report", table, law_file, "--out", tmp_path / "r.html", "--no-validate", "--json")
    (plan,) = done.json["plans"]
    assert (plan["params_before"], plan["pruning_rate"], plan["loss_before"]) == (4e6, 0.25, 3.2)
    same = regrow("plan", law_file, "--params-before", "4M", "--rate", "0.25", "--loss-before", "3.2", "--json").json
    assert plan["tokens"] == same["tokens"]
    assert plan["tokens_high"] == same["tokens_high"]


def test_plans_asked_for_stand_first(regrow, table, law_file, tmp_path):
    asked = ("--params-before", "40M", "--rate", "0.2", "--rate", "0.3", "--loss-before", "2.9", "--price", "2.5")
    done = regrow("report", table, law_file, "--out", tmp_path / "r.md", *asked, "--served-tokens", "1T", "--json")
    assert [plan["pruning_rate"] for plan in done.json["plans"]] == [0.2, 0.3]
    assert all(plan["cost_usd"] > 0 for plan in done.json["plans"])
    text = (tmp_path / "r.md").read_text()
    assert text.index("sim of 40M, depth pruned at 0.2") < text.index("### Methods and rates") < text.index("## Laws")
    assert "| Serving |" in text


def test_a_catalogue_model_is_planned_by_its_shape(regrow, table, law_file, tmp_path):
    asked = ("--model", "Llama-3.2-1B", "--rate", "0.25", "--loss-before", "2.4", "--no-validate")
    done = regrow("report", table, law_file, "--out", tmp_path / "r.html", *asked, "--json")
    (plan,) = done.json["plans"]
    assert plan["params_before"] == 1_235_814_400
    assert plan["flops_how"].startswith("exact")


def test_hold_outs_are_there_where_quick_and_gone_where_not_wanted(regrow, table, law_file, tmp_path):
    done = regrow("report", table, law_file, "--out", tmp_path / "r.md", "--json")
    assert done.json["validated"] == 3
    text = (tmp_path / "r.md").read_text()
    for hold_out in ("size", "rate", "tokens"):
        assert f"| p2 | {hold_out} |" in text
    done = regrow("report", table, law_file, "--out", tmp_path / "r.md", "--no-validate", "--json")
    assert done.json["validated"] == 0
    assert "Validation" not in (tmp_path / "r.md").read_text()


def test_one_object_on_stdout_and_words_without_json(regrow, table, law_file, tmp_path):
    done = regrow("report", table, law_file, "--out", tmp_path / "r.html", "--no-validate", "--json")
    json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    done = regrow("report", table, law_file, "--out", tmp_path / "r.html", "--no-validate")
    assert done.out.strip() == f"12 runs, 1 law and 1 plan, written to {tmp_path / 'r.html'}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--out", "r.pdf"), "no format is known for the ending '.pdf'"),
        (("--out", "r.html", "--format", "docx"), "unknown format 'docx'"),
        (("--out", "r.html", "--model", "Llama-3.1-8"), "did you mean 'Llama-3.1-8B'"),
        (("--out", "r.html", "--params-before", "40M"), "give it with --loss-before"),
        (("--out", "r.html", "--params-before", "4M", "--rate", "1.2"), "pruning rate 1.2"),
        (("--out", "r.html", "--params-before", "4M", "--model", "Llama-3.2-1B"), "give one of them"),
        (("--out", "r.html", "--gpu", "h10"), "unknown GPU 'h10'"),
        (("--out", "r.html", "--price", "-1"), "a price is not negative"),
        (("--out", "r.html", "--mfu", "40"), "MFU 40"),
        (("--out", "r.html", "--served-tokens", "many"), "not a positive number"),
    ],
)
def test_what_users_do_wrong_is_one_line(regrow, table, law_file, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    one_line_error(regrow("report", table, law_file, *arguments, "--no-validate"), says)
    assert list(tmp_path.iterdir()) == []
