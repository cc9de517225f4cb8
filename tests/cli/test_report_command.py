"""`regrow report`: formats, plans that were asked for, hold-outs, and what users do wrong."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from pathlib import Path

import pytest

from regrow.laws import fit
from regrow.laws.files import as_saved
from regrow.report import write_report
from regrow.report.answers import answer
from regrow.runs import read_runs

from .conftest import one_line_error

ROOT = Path(__file__).parents[2]


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
    places = [text.index(part) for part in ("sim of 40M, depth at a rate of 0.2", "### Methods and rates", "## Laws")]
    assert places == sorted(places)
    assert "| Serving |" in text
    assert "Each row is trained to a D\\* of its own" in text


#: a question with most of plan's options; --compare has options of its own
ASKED = ("--params-before", "40M", "--rate", "0.25", "--loss-before", "2.9", "--price", "2.5", "--gpu", "a100")
ASKED = (*ASKED, "--mfu", "0.35", "--target", "3.6", "--level", "0.8", "--context", "2048", "--teacher", "60M")


@pytest.mark.parametrize("asked", [ASKED, (*ASKED[:6], "--min-gain", "0.0001")], ids=["an answer", "none"])
def test_plan_and_report_give_the_same_answer_everywhere(regrow, table, law_file, tmp_path, asked):
    plan = regrow("plan", law_file, *asked, "--json").json
    printed = regrow("plan", law_file, *asked).out
    html, markdown = tmp_path / "r.html", tmp_path / "r.md"
    told = regrow("report", table, law_file, *asked, "--no-validate", "--out", html, "--json").json
    assert told["plans"] == [plan]
    shown = regrow("report", table, law_file, *asked, "--no-validate", "--out", markdown)
    assert shown.out.startswith(printed)
    page, text = (" ".join(unescape(path.read_text()).replace("\\", "").split()) for path in (html, markdown))
    card = page[page.index('id="answer"') : page.index('id="planner"')]
    for line in printed.splitlines()[1:]:
        name, fact = re.split(r"  +", line.strip(), maxsplit=1)
        assert f"| {name} | {fact} |" in text, line
        if name not in ("loss", "at the end", "why", "law"):  # the page sets these out in a table and in sentences
            assert fact in card, line
    assert plan["verdict_because"].lower() in card.lower()
    assert (plan["next_run"] or "").lower() in card.lower()
    assert ("Cannot say yet" in card) is (plan["verdict"] == "cannot say")
    for name in ("loss", "loss_before", "loss_start", "loss_low", "loss_high", "gap"):
        if plan[name] is not None:
            assert f"{plan[name]:.3f}" in card, name


def test_the_commands_of_the_docs_front_page_agree(regrow, tmp_path):
    """docs/index.md once planned 3.1M parameters, and its report headlined another model."""
    page = (ROOT / "docs" / "index.md").read_text().replace("\\\n", " ")
    lines = [shlex.split(line)[1:] for line in page.splitlines() if line.startswith("regrow ")]
    at = {"law.json": tmp_path / "law.json", "report.html": tmp_path / "report.html"}
    fit, plan, report = [[at.get(word, ROOT / word if "/" in word else word) for word in line] for line in lines[:3]]
    assert (fit[0], plan[0], report[0]) == ("fit", "plan", "report")
    regrow(*fit)
    assert regrow(*report, "--json").json["plans"] == [regrow(*plan, "--json").json]
    assert (tmp_path / "report.html").stat().st_size < 300_000


def test_the_page_of_a_study_weighs_no_more_than_the_limit(regrow, tmp_path):
    """A page as `regrow demo` writes it: 32 runs, three methods, the largest size held out, and a comparison."""
    every = read_runs(ROOT / "studies" / "ladder-llama.jsonl")
    cells = {(r.method, r.params_before, f"{r.pruning_rate:.2f}"): r for r in every if r.pruning_rate < 0.4}
    runs = list(cells.values())
    largest = max(run.params_before for run in runs)
    fitted = [run for run in runs if run.params_before < largest]
    laws = [as_saved(law) for law in fit(fitted, form="regrowth")]
    found, out = answer(laws, runs), tmp_path / "report.html"
    unseen = [run for run in runs if run.params_before == largest]
    write_report(fitted, laws, found.plans, out=out, held_out=unseen, comparisons=found.comparisons)
    assert len(runs) >= 31
    assert len(laws) == 3
    assert len(found.comparisons) == 1
    assert out.stat().st_size < 300_000


def test_report_takes_every_option_of_plan():
    from typer.main import get_command

    from regrow.cli.main import build_app

    commands = get_command(build_app(["plan", "report"])).commands
    plan, report = ({opt for param in commands[name].params for opt in param.opts} for name in ("plan", "report"))
    assert plan - report == {"law"}  # a law file is one of the PATHs


def test_a_shape_is_planned_as_plan_does(regrow, table, law_file, tmp_path):
    asked = ("--model", "Llama-3.2-1B", "--layers", "12", "--loss-before", "2.4")
    (plan,) = regrow("report", table, law_file, *asked, "--no-validate", "--out", tmp_path / "r.html", "--json").json[
        "plans"
    ]
    assert plan == regrow("plan", law_file, *asked, "--json").json
    assert plan["removed"] == "4 of 16 blocks"


def test_a_recipe_is_planned_as_plan_does(regrow, tmp_path):
    asked = ("--law", "reference", "--params-before", "20M", "--rate", "0.25", "--loss-before", "2.9", "--lr", "1e-4")
    asked = (*asked, "--batch-tokens", "16k", "--scorer", "least-squares", "--method", "width")
    done = regrow("report", *asked, "--out", tmp_path / "r.html", "--json")
    assert done.json["plans"] == [regrow("plan", *asked, "--json").json]


def test_the_law_that_is_shipped_needs_no_runs(regrow, tmp_path):
    asked = ("--law", "reference", "--params-before", "20M", "--rate", "0.25", "--loss-before", "2.9")
    done = regrow("report", *asked, "--out", tmp_path / "r.html", "--json")
    assert done.json["runs"] == 0
    assert done.json["plans"] == [regrow("plan", *asked, "--json").json]


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
    assert done.out.endswith(f"\n12 runs, 1 law and 1 plan, written to {tmp_path / 'r.html'}\n")
    assert done.out.startswith(("trust: ", "rough: ", "cannot say: "))


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
        (("--out", "r.html", "--served-tokens", "1T", "--rate", "0.25"), "--served-tokens compares two candidates"),
        (("--out", "r.html", "--compare", "--rate", "0.25"), "give two rates (--rate 0.25 --rate 0.35)"),
        (("--out", "r.html", "--no-compare", "--rates", "0.2,0.3"), "rates without a comparison"),
        (("--out", "r.html", "--rate", "0.25", "--layers", "12", "--model", "Llama-3.2-1B"), "give one of them"),
        (("--out", "r.html", "--layers", "12", "--params-before", "4M"), "a shape without a model"),
        (("--out", "r.html", "--method", "width"), "no run was pruned by width"),
        (("--out", "r.html", "--target", "3", "--share", "0.9"), "belong to different criteria"),
    ],
)
def test_what_users_do_wrong_is_one_line(regrow, table, law_file, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    one_line_error(regrow("report", table, law_file, *arguments, "--no-validate"), says)
    assert list(tmp_path.iterdir()) == []


TURNS = ("--stages", "0.25,0.5", "--stage-tokens", "200k")
SCRATCH = ("--rate", "0.5", "--loss-pruned", "4.0", "--target", "3.4")
SCRATCH = (*SCRATCH, "--compare-scratch", "E=1.5,A=40,alpha=0.3,B=400,beta=0.4")


@pytest.mark.parametrize("more", [TURNS, SCRATCH], ids=["in turns", "from scratch"])
def test_turns_and_training_from_scratch_are_as_plan_has_them(regrow, tmp_path, more):
    asked = ("--law", "reference", "--method", "depth", "--params-before", "1M", "--loss-before", "3.0", *more)
    plan, printed = regrow("plan", *asked, "--json").json, regrow("plan", *asked).out
    assert regrow("report", *asked, "--out", tmp_path / "r.html", "--json").json["plans"] == [plan]
    said = regrow("report", *asked, "--out", tmp_path / "r.md")
    assert said.out.startswith(printed)
    text = (tmp_path / "r.md").read_text().replace("\\", "")
    assert printed.splitlines()[-1].strip().lower() in text.lower()
    page = (tmp_path / "r.html").read_text()
    assert ('id="stages"' in page) is ("stages" in plan)
    assert ('id="scratch"' in page) is ("scratch" in plan)
    assert regrow("report", *asked, "--out", tmp_path / "r.png").code == 0


def test_report_refuses_what_plan_refuses_of_turns(regrow, tmp_path):
    ask = ("report", "--law", "reference", "--params-before", "1M", "--loss-before", "3.0", "--out", tmp_path / "r.md")
    one_line_error(regrow(*ask, "--stages", "0.5,0.25"), "the rates of stages must rise")
    one_line_error(regrow(*ask, *TURNS, "--rate", "0.3"), "--stages with --rate")
    one_line_error(regrow(*ask, *TURNS, "--score-before", "0.7"), "--stages with --score-before")
    one_line_error(regrow(*ask, "--stage-tokens", "1M"), "--stage-tokens without --stages")
    one_line_error(regrow(*ask, "--rate", "0.3", "--compare-scratch", "none.csv"), "no such table")
    one_line_error(regrow(*ask, "--rate", "0.3", "--score-before", "0.7"), "scores asked of laws of losses")


def test_a_method_without_runs_is_planned_as_plan_does(regrow, tmp_path):
    at = {"runs": ROOT / "studies" / "ladder-llama.jsonl", "law": tmp_path / "law.json"}
    regrow("fit", at["runs"], "--form", "regrowth", "--draws", 40, "--out", at["law"])
    asked = ("--method", "experts", "--params-before", "3M", "--rate", "0.25", "--loss-before", "3.05")
    asked = (*asked, "--loss-pruned", "3.4")
    plan = regrow("plan", at["law"], *asked, "--json").json
    told = regrow("report", at["law"], *asked, "--out", tmp_path / "r.html", "--json").json
    assert told["plans"] == [plan]
    assert "tiny-llama, experts" in (tmp_path / "r.html").read_text()
