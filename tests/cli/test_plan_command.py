"""`regrow plan` and `regrow plan --compare`: what they print, and what users do wrong."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from .conftest import one_line_error

ASK = ("--params-before", "4M", "--loss-before", "3.2")
#: tokens that any law of the repository's runs supports
PAID = ("--loss-pruned", "2.9", "--budget-hours", "0.1", "--price", "2.5")
LLAMA = ("--model", "Llama-3.1-8B", "--method", "depth", "--loss-before", "2.0")


@pytest.fixture(scope="module")
def laws_file(law_file, tmp_path_factory) -> Path:
    """The law of the table as depth's, and a costlier one as 2:4's and width's."""
    from regrow import load_laws, save_laws

    (law,) = load_laws(law_file)
    params = {**law.params, "D_C": 1.3 * law.params["D_C"]}
    others = [replace(law, method=method, params=params, draws=law.draws * 1.01) for method in ("width", "2:4")]
    path = tmp_path_factory.mktemp("laws") / "laws.json"
    save_laws([law, *others], path)
    return path


def test_compare_prints_the_contracts_json(regrow, laws_file):
    done = regrow("plan", laws_file, *ASK, "--compare", "--rates", "0.2,0.3", "--served-tokens", "1T", "--json")
    assert done.code == 0
    answer = done.json
    assert {(r["method"], r["pruning_rate"]) for r in answer["candidates"]} >= {("depth", 0.2), ("width", 0.3)}
    assert len(answer["candidates"]) == 5
    assert answer["frontier"] == [r for r in answer["candidates"] if r["on_frontier"]]
    assert answer["chosen"] in answer["frontier"]
    assert answer["verdict"] == answer["chosen"]["verdict"]
    assert (answer["served_tokens"], answer["sparse_speedup"], answer["serving_mfu"]) == (10**12, 1.0, 0.4)
    assert any(row["tokens"] is not None for row in answer["candidates"])
    for row in answer["candidates"]:
        if row["tokens"] is None:
            assert row["tokens_reason"]
            continue
        assert row["total_gpu_hours"] == pytest.approx(row["training_gpu_hours"] + row["serving_gpu_hours"])
        assert row["total_cost_usd"] is None


def test_compare_for_people_is_a_table_and_a_sentence(regrow, laws_file):
    done = regrow("plan", laws_file, *ASK, "--compare", "--params-after", "3M", "--price", "2")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split(":")[0] in ("trust", "rough", "cannot say")
    assert lines[1].split()[:5] == ["method", "rate", "left", "tokens", "loss"]
    assert sum(line.startswith(">") for line in lines) == 1
    assert "take" in lines[-1]
    assert "Rule: the least loss" in lines[-1]


def test_a_comparison_groups_what_it_says_of_its_rows(regrow):
    """The shipped law has one for a method that is not said: no row of its own beside the methods."""
    asked = (
        "plan",
        "--law",
        "reference",
        "--compare",
        "--model",
        "Llama-3.1-8B",
        "--loss-before",
        2.0,
        "--rates",
        "0.2,0.25",
    )
    done = regrow(*asked, "--budget-hours", 20)
    assert done.code == 0
    assert {line.split()[0] for line in done.out.splitlines()[2:7]} == {"2:4", "width", "depth"}
    reasons = [line for line in done.err.splitlines() if line.startswith("no answer: ")]
    assert len(reasons) == 1  # five rows, one reason
    assert "width at 0.251, depth at 0.244" in reasons[0]
    warnings = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert not [line for line in warnings if line.startswith("warning: depth at")]
    (more,) = [line for line in done.err.splitlines() if "more of single rows with --verbose" in line]
    count = int(more.strip("(").split()[0])
    every = regrow(*asked, "--budget-hours", 20, "--verbose").err.splitlines()
    assert len([line for line in every if line.startswith("warning: ")]) == len(warnings) + count


def test_a_law_of_far_smaller_models_names_the_reference_law(regrow, laws_file):
    ask = ("--model", "Llama-3.1-8B", "--loss-before", "2.0", "--method", "depth")
    for done in (
        regrow("plan", laws_file, *ask, "--rate", "0.25"),
        regrow("plan", laws_file, *ask, "--compare", "--rates", "0.2,0.3"),
    ):
        assert done.code == 0
        assert done.out.startswith("cannot say: the model size is ")
        assert "--law reference in place of the law file" in done.err
    assert "the runs support an answer for none of the candidates" in done.out
    near = regrow("plan", laws_file, *ASK, "--method", "depth", "--rate", "0.25")
    assert "--law reference" not in near.err


def test_budgets_compare_what_they_pay_for(regrow, laws_file):
    ask = ("plan", laws_file, *ASK, "--compare", "--rates", "0.2,0.3", "--method", "depth", "--json")
    hours = regrow(*ask, "--budget-hours", "0.001").json
    assert hours["criterion"] == "budget"
    assert [row["training_gpu_hours"] for row in hours["candidates"]] == pytest.approx([0.001] * 2)
    money = regrow(*ask, "--budget-usd", "0.002", "--price", "2").json
    assert [r["tokens"] for r in money["candidates"]] == pytest.approx([r["tokens"] for r in hours["candidates"]])


def test_a_model_of_the_catalogue_is_pruned_in_whole_blocks(regrow, laws_file):
    ask = ("--model", "SmolLM2-135M", "--loss-before", "2.9", "--rate", "0.25", "--method", "depth")
    answer = regrow("plan", laws_file, *ask, "--json").json
    assert answer["params_after"] == 102_654_144
    assert answer["pruning_rate"] == pytest.approx(1 - 102_654_144 / 134_515_008)
    assert answer["flops_how"].startswith("exact for the pruned shape at context 4096")


@pytest.mark.parametrize(("teacher", "size"), [("8B", 8e9), ("SmolLM2-360M", None)])
def test_a_teacher_costs_its_forward_pass(regrow, laws_file, teacher, size):
    ask = ("plan", laws_file, *ASK, "--method", "depth", "--rate", "0.25", "--json")
    alone, taught = regrow(*ask).json, regrow(*ask, "--teacher", teacher).json
    from regrow.arch import find_architecture

    forward = 2 * size if size else find_architecture(teacher).forward_flops_per_token(4096)
    assert taught["flops"] - alone["flops"] == pytest.approx(forward * alone["tokens"])
    assert "teacher" in taught["flops_how"]


def test_the_utilisation_is_measured_on_runs(regrow, laws_file, tmp_path):
    from regrow.runs import CurvePoint, RunRecord, RunWriter

    run = RunRecord(
        run="a",
        family="sim",
        method="depth",
        params_before=4_000_000,
        params_after=3_000_000,
        pruning_rate=0.25,
        loss_before=3.2,
        curve=tuple(CurvePoint(tokens=10**7 * i, loss=3.3, seconds=5.0 * i) for i in range(3)),
        details={"device": "NVIDIA L4", "devices": 1},
    )
    RunWriter.store(tmp_path / "a", run)
    ask = ("plan", laws_file, *ASK, "--method", "depth", "--rate", "0.25", "--mfu-from", tmp_path)
    answer = regrow(*ask, "--gpu", "l4", "--json").json
    assert answer["mfu"] == pytest.approx(2e6 * 6 * 3e6 / 121e12)
    assert answer["mfu_how"] == "measured on 1 run (a)"
    assert answer["gpu_hours"] == pytest.approx(answer["tokens"] / 2e6 / 3600)
    one_line_error(regrow(*ask), "ran on NVIDIA L4, not on NVIDIA H100 SXM")
    one_line_error(regrow(*ask, "--gpu", "l4", "--mfu", "0.3"), "--mfu and --mfu-from")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--rates", "0.2,high"), "'0.2,high' is no rate"),
        (("--rates", "0.2,1.2"), "pruning rate 1.2"),
        (("--rates", ","), "no pruning rates"),
        (("--rates", "0.2", "--method", "depth"), "one candidate"),
        (("--rate", "0.2"), "--rate with --compare"),
        (("--served-tokens", "-5"), "not a positive number"),
        (("--served-tokens", "0"), "not a positive number"),
        (("--params-after", "5M"), "5M parameters after pruning a model of 4M"),
        (("--sparse-speedup", "0.5"), "sparse speed-up"),
        (("--serving-mfu", "2"), "MFU 2"),
        (("--price", "-1"), "a price is not negative"),
        (("--gpu", "h1000"), "did you mean 'h100'"),
        (("--teacher", "Lama-3.1-8B"), "did you mean 'Llama-3.1-8B'"),
        (("--budget-hours", "-1"), "positive number"),
        (("--budget-usd", "5"), "needs the price"),
        (("--budget-hours", "1", "--criterion", "gain"), "--budget-hours with --criterion gain"),
        (("--target", "3.4", "--max-slope", "0.1"), "--max-slope and --target belong to different criteria"),
        (("--criterion", "target"), "--criterion target without --target"),
        (("--criterion", "gian", "--target", "3.4"), "did you mean 'gain'"),
        (("--criterion", "target", "--target", "1.0"), "no candidate can be planned: depth"),
        (("--method", "dept"), "did you mean 'depth'"),
        (("--family", "llama"), "unknown family 'llama'"),
        (("--mfu-from", "nowhere"), "no run folders here"),
    ],
)
def test_bad_comparisons_are_one_line(regrow, laws_file, arguments, says):
    one_line_error(regrow("plan", laws_file, *ASK, "--compare", *arguments), says)


def test_options_of_compare_need_it(regrow, laws_file):
    one_line_error(
        regrow(
            "plan", laws_file, *ASK, "--method", "depth", "--rate", "0.2", "--rates", "0.2", "--served-tokens", "1T"
        ),
        "--rates, --served-tokens without --compare",
    )


def test_laws_that_cannot_plan_are_one_line(regrow, law_file, tmp_path):
    from regrow import load_laws, save_laws

    (law,) = load_laws(law_file)
    held = {"unsupported": {"pruning_rate": "the runs show one rate"}}
    save_laws([replace(law, status="failed"), replace(law, family="qwen", diagnostics=held)], tmp_path / "laws.json")
    ask = ("plan", tmp_path / "laws.json", *ASK)
    one_line_error(regrow(*ask, "--rate", "0.2"), "2 laws fit", "give the family")
    one_line_error(regrow(*ask, "--rate", "0.2", "--family", "sim"), "failed to fit")
    one_line_error(regrow(*ask, "--rate", "0.2", "--family", "lama"), "unknown family")
    one_line_error(regrow(*ask, "--rate", "0.6", "--family", "qwen"), "the runs show one rate", "would support it")
    one_line_error(regrow(*ask, "--compare"), "laws of 2 families", "qwen, sim")


def test_the_command_itself_starts_and_answers(law_file):
    """In its own process, with what only the entry point does; bytecode off, as nothing may be written here."""
    ask = ["plan", str(law_file), *ASK, "--rate", "0.25", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "regrow.cli.main", *ask],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert json.loads(done.stdout)["tokens"] > 0


def test_the_law_that_is_shipped_answers_without_any_run(regrow):
    ask = ("--model", "Llama-3.1-8B", "--loss-before", 2.0)
    told = regrow("plan", "--law", "reference", *ask, "--loss-pruned", 2.9, "--json")
    assert told.code == 0
    # an answer, or a bound with the reason; the lower end of the interval in either case
    assert told.json["tokens_low"] < (told.json["tokens"] or 1e8)
    assert told.json["tokens"] or told.json["tokens_reason"].startswith("more than")
    assert told.json["verdict"] in ("rough", "cannot say")
    assert any("rests on" in warning for warning in told.json["warnings"])
    guessed = regrow("plan", "--law", "reference", *ask, "--method", "depth", "--rate", 0.25, "--json")
    assert any("it would narrow the interval" in warning for warning in guessed.json["warnings"])
    for wrong in (("law.json", "--law", "reference"), ()):
        refused = regrow("plan", *wrong, *ask)
        assert refused.code == 2
        assert "--law reference" in refused.err


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("target", ("--target", "3.6")),
        ("slope", ("--max-slope", "0.5")),
        ("recovery", ("--share", "0.6", "--loss-pruned", "5.0")),
        ("gain", ("--min-gain", "0.03")),
        ("gain", ()),
    ],
)
def test_the_criterion_follows_from_its_option(regrow, laws_file, name, options):
    ask = ("plan", laws_file, *ASK, "--method", "depth", "--rate", "0.25", *options)
    alone, named = (regrow(*ask, *more, "--json").json for more in ((), ("--criterion", name)))
    assert alone["criterion"] == name
    assert alone == named


def test_the_recipe_of_the_planned_run_moves_the_tokens(regrow):
    """The same from the command as from Python: a tenth of the rate takes ten times the tokens."""
    model = ("--law", "reference", *LLAMA, "--rate", "0.25", "--loss-pruned", "2.9")
    asked = ("plan", *model, "--min-gain", "0.02", "--json")
    usual, slow = regrow(*asked), regrow(*asked, "--lr", "3e-5", "--batch-tokens", "1024")
    assert slow.json["tokens"] == pytest.approx(10 * usual.json["tokens"], rel=1e-3)
    assert slow.json["others"] == {"learning_rate": 3e-5, "batch_tokens": 1024.0}
    assert any(w.startswith("the recipe takes 10 times") for w in slow.json["warnings"])
    said = ("predict", *model, "--tokens", "1M")
    again = regrow(*said, "--scorer", "sparsegpt")
    assert float(again.out.split()[0]) > float(regrow(*said).out.split()[0])
    assert "the recipe takes 10 times" in regrow(*said, "--lr", "3e-5").err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--lr", "0"), "a learning rate of 0"),
        (("--batch-tokens", "many"), "--batch-tokens"),
        (("--scorer", "guess"), "unknown scorer 'guess'"),
    ],
)
def test_a_recipe_that_no_run_has_is_one_line(regrow, options, says):
    for command in (("plan",), ("predict", "--tokens", "1M")):
        done = regrow(*command, "--law", "reference", *LLAMA, "--rate", "0.25", *options)
        one_line_error(done, says)


def test_a_law_that_does_not_read_the_recipe_refuses_it(regrow, laws_file):
    done = regrow("plan", laws_file, *ASK, "--method", "depth", "--rate", "0.25", "--lr", "1e-4")
    one_line_error(done, "--lr with a law of the form")


def test_the_version_is_printed_by_the_command_and_the_module(regrow):
    from regrow import __version__

    assert regrow("--version").out == f"regrow {__version__}\n"
    command = [sys.executable, "-m", "regrow", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"regrow {__version__}\n"


def test_models_of_the_ladder_are_named_as_in_other_commands(regrow, laws_file):
    ask = ("--method", "depth", "--rate", "0.25", "--loss-before", "3.2", "--model")
    plan = regrow("plan", laws_file, *ask, "tiny-llama-3m", "--json").json
    tokens = plan["tokens"]
    predicted = regrow("predict", laws_file, *ask, "tiny-llama-3m", "--tokens", repr(tokens), "--json").json
    assert plan["params_before"] == pytest.approx(3.1e6, rel=0.05)
    assert predicted["loss"] == pytest.approx(plan["loss"], rel=1e-7)  # predict reads whole tokens
    for command in (("plan", laws_file), ("predict", laws_file, "--tokens", "1M")):
        one_line_error(regrow(*command, *ask, "tiny-lama-3m"), "did you mean 'tiny-llama-3m'")
        one_line_error(regrow(*command, *ask, "Lama-3.1-8B"), "did you mean 'Llama-3.1-8B'")


def test_a_prediction_needs_one_model(regrow, laws_file):
    ask = ("predict", laws_file, "--method", "depth", "--rate", "0.25", "--loss-before", "3.2", "--tokens", "1M")
    one_line_error(regrow(*ask), "no model")
    one_line_error(regrow(*ask, "--model", "tiny-llama-3m", "--params-before", "3M"), "--model and --params-before")


def test_a_plan_is_a_short_block(regrow):
    done = regrow("plan", "--law", "reference", *LLAMA, "--rate", "0.25", *PAID)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith(("rough: ", "cannot say: "))
    said = {line[2:17].strip(): line[17:].strip() for line in lines[1:]}
    assert said["model"] == "Llama-3.1-8B of 8.03B parameters"
    # 32 blocks of 218,112,000 parameters: nine of them are 0.244 of 8,030,261,248
    assert said["pruning"] == "depth at a rate of 0.244: 9 of 32 blocks go"
    assert "8 would be 0.217 (--layers 24)" in said["nearest shapes"]
    assert "10 would be 0.272 (--layers 22)" in said["nearest shapes"]
    assert said["parameters"] == "8.03B -> 6.07B"
    assert said["loss"].startswith("2.000 before -> 2.900 right after pruning -> ")
    assert "perplexity 7.39 -> " in said["at the end"]
    assert len([line for line in done.err.splitlines() if line.startswith("warning: ")]) == 1


def test_the_block_and_json_say_the_same(regrow):
    ask = ("plan", "--law", "reference", *LLAMA, "--layers", "24", *PAID)
    words, data = regrow(*ask).out, regrow(*ask, "--json").json
    assert data["removed"] == "8 of 32 blocks"
    assert data["pruning_rate"] == pytest.approx(8 * 218_112_000 / 8_030_261_248)
    assert data["gap"] == pytest.approx(data["loss"] - 2.0)
    assert data["perplexity"] == pytest.approx(math.exp(data["loss"]))
    for text in (f"{data['loss']:.3f} at the end", f"gap {data['gap']:+.3f}", f"rate of {data['pruning_rate']:.3g}"):
        assert text in words


def test_widths_are_named_and_several_rates_give_a_plan_each(regrow):
    ask = ("plan", "--law", "reference", "--model", "Llama-3.1-8B", "--method", "width", "--loss-before", "2.0")
    one = regrow(*ask, "--shape", "hidden=4096,intermediate=10752", "--json").json
    assert one["removed"] == "feed-forward neurons 14,336 -> 10,752"
    assert one["params_after"] == 8_030_261_248 - 32 * 3 * 4096 * (14_336 - 10_752)
    two = regrow(*ask, "--rate", "0.2", "--rate", "0.3", "--json").json["plans"]
    assert [plan["pruning_rate"] for plan in two] == pytest.approx([0.2, 0.3], abs=0.005)
    assert regrow(*ask, "--rate", "0.2", "--rate", "0.3").out.count("Llama-3.1-8B of 8.03B") == 2
    assert regrow(*ask, "--rate", "0.2,0.3", "--json").json["plans"] == two
    one_line_error(regrow(*ask, "--rate", "0.2,x"), "--rate: '0.2,x' is no rate")
    one_line_error(regrow(*ask, "--rate", "0.2,1.3"), "pruning rate 1.3")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--layers", "24", "--rate", "0.25"), "a rate and a shape"),
        (("--layers", "24", "--shape", "layers=24"), "--layers and --shape"),
        (("--layers", "40"), "layers=40: the model has 32"),
        (("--shape", "hidden=3000"), "hidden for depth pruning; depth takes layers"),
        (("--shape", "24"), "'24' is not a shape"),
        (("--rate", "0.2", "--rate", "1.2"), "pruning rate 1.2"),
    ],
)
def test_shapes_that_contradict_are_one_line(regrow, arguments, says):
    one_line_error(regrow("plan", "--law", "reference", *LLAMA, *arguments), says)


def test_a_shape_needs_a_model(regrow, laws_file):
    one_line_error(regrow("plan", laws_file, *ASK, "--method", "depth", "--layers", "3"), "a shape without a model")


MEMORY = ("--max-memory", "12GB", "--context", "8k", "--batch", "4")


def test_a_memory_target_plans_the_largest_shape_that_fits(regrow):
    ask = ("plan", "--law", "reference", *LLAMA, *MEMORY)
    answer = regrow(*ask, "--json").json
    # 8.03B parameters in bf16; 32 blocks with 8 KV heads of 128 channels
    per_block = 2 * 218112000 + 2 * 8 * 128 * 2 * 8000 * 4
    blocks = int((12e9 - 2 * (8030261248 - 32 * 218112000)) // per_block)
    memory = answer["memory"]
    assert answer["params_after"] == 8030261248 - (32 - blocks) * 218112000
    assert memory["total"] == memory["weights"] + memory["cache"] <= memory["max_memory"] == 12e9
    assert memory["cache"] == blocks * 2 * 8 * 128 * 2 * 8000 * 4
    # the training sequence is not the served one
    assert "at context 4096" in answer["flops_how"]
    assert "at context 1000" in regrow(*ask, "--training-context", "1k", "--json").json["flops_how"]
    block = regrow(*ask).out
    assert f"memory         {memory['total'] / 1e9:.3g} GB of 12 GB: weights" in block
    assert "8,000 tokens x 4" in block


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--rate", "0.2", *MEMORY), "a rate and a memory target"),
        (("--batch", "4"), "--batch without --max-memory"),
        (("--max-memory", "12GB", "--batch", "2.5"), "--batch: '2.5' is not a whole number"),
        (("--training-context", "1k"), "--training-context without --max-memory"),
        (("--max-memory", "12XB"), "'12XB' is no amount of memory"),
        (("--max-memory", "1GB"), "its embeddings alone take 2.1 GB in bf16"),
        (("--max-memory", "1TB"), "nothing to prune"),
        (("--compare", "--rates", "0.2,0.3", *MEMORY), "rates beside memory or parameters of a token"),
        (("--context", "0"), "'0' is not a positive number"),
    ],
)
def test_a_memory_target_that_cannot_be_is_one_line(regrow, more, says):
    one_line_error(regrow("plan", "--law", "reference", *LLAMA, *more), says)


def test_methods_are_compared_within_the_same_memory(regrow):
    ask = ("plan", "--law", "reference", "--model", "Llama-3.1-8B", "--loss-before", "2.0", *MEMORY)
    done = regrow(*ask, "--compare")
    assert done.code == 0
    assert "refused: 2:4: --max-memory: 2:4 leaves zeros in dense matrices" in done.err
    rows = {row["method"]: row for row in regrow(*ask, "--compare", "--json").json["candidates"]}
    assert set(rows) == {"depth", "width"}
    alone = regrow(*ask, "--method", "width", "--json").json
    assert rows["width"]["memory"] == alone["memory"]
    assert rows["width"]["pruning_rate"] == alone["pruning_rate"]


MIXTURE = ("--model", "Qwen3-30B-A3B", "--loss-before", "2.0", "--active-params", "2.5B")


def test_the_parameters_of_a_token_make_the_rate(regrow):
    answer = regrow("plan", "--law", "reference", "--method", "depth", *MIXTURE, "--json").json
    assert answer["active_params_before"] == 3_353_032_704
    assert answer["active_params_after"] == pytest.approx(2.5e9, rel=0.01)
    assert answer["target_active_params"] == 2_500_000_000
    assert answer["removed"] == "15 of 48 blocks"
    one_line_error(regrow("plan", "--law", "reference", *LLAMA, "--active-params", "2B"), "the model has no experts")
    size = ("--params-before", "8B", "--method", "depth", "--loss-before", "2.0", "--active-params", "2B")
    one_line_error(regrow("plan", "--law", "reference", *size), "parameters of a token without a model")
    both = ("plan", "--law", "reference", "--method", "depth", *MIXTURE, "--rate", "0.2")
    one_line_error(regrow(*both), "a rate and parameters of a token")
    dry = regrow("prune", "Qwen3-30B-A3B", "--method", "depth", "--active-params", "2.5B", "--dry-run", "--json").json
    assert dry["active_params_after"] == answer["active_params_after"]
    of = ("--target", "Qwen3-30B-A3B", "--candidate", "500M@2.6,1B@2.5,3B@2.3", "--budget-hours", "200")
    study = ("design", *of, "--loss-before", "2")
    designed = regrow(*study, "--active-params", "2.5B", "--json").json
    assert designed["target"]["pruning_rate"] == answer["pruning_rate"]
    one_line_error(regrow(*study, "--active-params", "2.5B", "--rate", "0.2"), "a rate and parameters of a token")


def test_a_method_without_runs_takes_the_loss_right_after_pruning(regrow):
    ask = ("--law", "reference", "--params-before", "100M", "--rate", "0.25", "--loss-before", "2.8")
    for name in ("experts", "depth+width", "4:8"):
        method = ("--method", name)
        one_line_error(regrow("plan", *ask, *method), f"no run was pruned by {name}, and the loss right after pruning")
        one_line_error(regrow("predict", *ask, *method, "--tokens", "1M"), "give it as --loss-pruned")
    known = ("--loss-pruned", "3.6", "--budget-hours", "0.001")
    answer = regrow("plan", *ask, *known, "--method", "experts", "--json").json
    assert answer["method"] == "experts"
    note = "no run was pruned by experts: this is the law over 2:4, depth and width"
    assert any(warning.startswith(f"{note}; how methods differ widens the interval") for warning in answer["warnings"])
    assert answer["verdict"] == "rough"
    others = [regrow("plan", *ask, *known, "--method", method, "--json").json for method in ("depth", "width")]
    assert min(o["loss"] for o in others) - 0.02 < answer["loss"] < max(o["loss"] for o in others) + 0.02
    said = regrow("predict", *ask, "--method", "experts", "--loss-pruned", "3.6", "--tokens", "1M")
    assert said.code == 0
    assert note in said.err
    # the rate of a pattern without runs follows from a shape, not from the runs of other methods
    no_rate = ("--params-before", "100M", "--method", "4:8", "--loss-before", "2.8", "--loss-pruned", "3.6")
    one_line_error(regrow("plan", "--law", "reference", *no_rate), "4:8 pruning needs a pruning rate")
    one_line_error(regrow("predict", "--law", "reference", *no_rate, "--tokens", "1M"), "--rate is missing")


def test_a_mix_of_depth_and_width_is_planned_by_the_middle_one(regrow):
    ask = ("plan", "--law", "reference", "--model", "SmolLM2-360M", "--method", "depth+width", "--loss-before", "2.6")
    answer = regrow(*ask, "--loss-pruned", "4.5", "--max-memory", "600MB", "--json").json
    assert answer["memory"]["total"] <= 600e6
    assert answer["removed"].startswith("6 of 32 blocks, hidden channels 960 -> ")
    assert any("the shape is that of the middle one" in warning for warning in answer["warnings"])
    at_rate = regrow(*ask, "--loss-pruned", "4.5", "--rate", "0.3", "--json").json
    assert at_rate["pruning_rate"] == pytest.approx(0.3, abs=0.006)
    one_line_error(regrow(*ask, "--loss-pruned", "4.5", "--layers", "20"), "depth+width has no sizes to set")
    mixed = ("design", "--target", "8B", "--method", "depth+width", "--rate", "0.2", "--candidate", "1B,3B")
    one_line_error(regrow(*mixed, "--budget-hours", "9"), "studies do not prune by depth+width")


def test_a_memory_target_needs_a_model_and_a_method(regrow):
    size = ("plan", "--law", "reference", "--params-before", "8B", "--loss-before", "2.0", "--max-memory", "12GB")
    one_line_error(regrow(*size), "a memory target without a model")
    model = ("plan", "--law", "reference", "--model", "Llama-3.1-8B", "--loss-before", "2.0", "--max-memory", "12GB")
    one_line_error(regrow(*model), "depth, width and experts make a model smaller")


def test_turns_are_compared_with_one_step(regrow):
    ask = ("plan", "--law", "reference", "--method", "depth", "--model", "tiny-llama-0.2m", "--loss-before", "3.877")
    answer = regrow(*ask, "--stages", "0.25,0.5", "--stage-tokens", "200k", "--json").json
    one, (first, second) = answer["stages"]["one"], answer["stages"]["turns"]
    assert one["tokens"] == 200_000 == first["tokens"] + second["tokens"]
    # whole blocks: 3 and 6 of 8 go
    assert (first["pruning_rate"], second["pruning_rate"]) == pytest.approx((0.245, 0.490), abs=1e-3)
    assert answer["pruning_rate"] == one["pruning_rate"] == second["pruning_rate"]
    said = regrow(*ask, "--stages", "0.25,0.5", "--stage-tokens", "200k").out
    assert "one step, and turns with as many tokens in all:" in said
    assert "turns minus one step" in said
    one_line_error(regrow(*ask, "--stages", "0.5,0.25"), "the rates of stages must rise")
    one_line_error(regrow(*ask, "--stages", "0.25,0.5", "--rate", "0.3"), "--stages with --rate")
    one_line_error(regrow(*ask, "--rate", "0.3", "--stage-tokens", "1M"), "--stage-tokens without --stages")
    one_line_error(regrow(*ask, "--stages", "0.25,0.5"), "give them with --stage-tokens")
    unseen = ("plan", "--law", "reference", "--method", "depth+width", *ask[5:], "--loss-pruned", "4.9")
    one_line_error(
        regrow(*unseen, "--stages", "0.25,0.5", "--stage-tokens", "200k"),
        "no run was pruned by depth+width, so what its first pruning costs at once is not known",
    )


def test_a_plan_is_compared_with_training_from_scratch(regrow):
    curve = "E=1.5,A=40,alpha=0.3,B=400,beta=0.4"
    ask = ("plan", "--law", "reference", "--method", "depth", "--params-before", "1M", "--loss-before", "3.0")
    ask = (*ask, "--rate", "0.5", "--loss-pruned", "4.0", "--target", "3.4", "--compare-scratch", curve)
    answer = regrow(*ask, "--json").json
    assert answer["scratch"]["params"] == answer["params_after"]
    assert answer["scratch"]["break_even"] > 0
    assert answer["scratch"]["lead"] == pytest.approx(answer["scratch"]["scratch_loss"] - answer["loss"])
    said = regrow(*ask).out
    assert "pruned at 0.5, or trained from scratch:" in said
    assert f"curve from scratch: stated: {curve}" in said
    one_line_error(regrow(*ask[:-1], "none.csv"), "no such table")
