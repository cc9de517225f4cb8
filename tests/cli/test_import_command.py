"""`regrow import`: from logs to runs to a law and a plan, what it says on the way, and what it refuses in one line."""

import json
import shutil
from pathlib import Path

import pytest

from .conftest import one_line_error

LOGS = Path(__file__).parents[2] / "examples" / "logs"
META = (
    *("--family", "llama", "--method", "depth", "--params-before", "1.2B"),
    *("--params-after", "0.9B", "--loss-before", "2.0"),
)


def state(folder, rows, name="trainer_state.json"):
    path = folder / name
    path.write_text(json.dumps({"log_history": rows}))
    return path


def test_logs_of_six_runs_become_a_law_and_a_plan(regrow, tmp_path):
    done = regrow("import", "--manifest", LOGS / "manifest.csv", "--out", tmp_path / "runs", "--json")
    assert [(run["run"][-10:], run["points"]) for run in done.json["runs"]] == [
        ("depth-0.17", 13),
        ("depth-0.33", 13),
    ] * 3
    assert regrow("runs", "check", tmp_path / "runs").code == 0
    fitted = regrow("fit", tmp_path / "runs", "--out", tmp_path / "law.json", "--draws", 40, "--json")
    (law,) = fitted.json["laws"]
    assert (law["family"], law["method"], law["n_runs"]) == ("tiny-llama", "depth", 6)
    assert law["status"] == "ok"
    assert law["metrics"]["r2"] > 0.95
    ask = ("--params-before", "3.1M", "--rate", "0.25", "--loss-before", "3.05", "--min-gain", "0.02")
    planned = regrow("plan", tmp_path / "law.json", *ask, "--json")
    assert planned.code == 0
    assert 3.05 < planned.json["loss"] < 4.5
    assert planned.json["tokens_low"] <= planned.json["tokens"] <= planned.json["tokens_high"]


def test_the_format_is_recognised_and_what_was_read_is_said_on_stderr(regrow, tmp_path):
    log = state(tmp_path, [{"step": 10, "eval_loss": 2.9}, {"step": 20, "eval_loss": 2.8}])
    done = regrow("import", log, *META, "--tokens-per-step", "1k", "--out", tmp_path / "run")
    assert done.code == 0
    assert done.out == "run: 2 checkpoints up to 20,000 tokens\n"
    assert done.err == "run: read as trainer-state; loss from 'eval_loss'; tokens: 'step' times 1,000\n"


def test_parts_of_one_run_are_merged(regrow, tmp_path):
    first = state(tmp_path, [{"step": 10, "eval_loss": 2.9}], "a.json")
    second = state(tmp_path, [{"step": 20, "eval_loss": 2.8}], "b.json")
    done = regrow("import", first, second, "--merge", *META, "--tokens-per-step", "1k", "--out", tmp_path / "run")
    assert done.out == "run: 2 checkpoints up to 20,000 tokens\n"
    assert not (tmp_path / "run" / "a").exists()


def test_runs_whose_logs_are_all_called_the_same_are_named_by_their_folders(regrow, tmp_path):
    logs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        logs.append(state(tmp_path / name, [{"step": 10, "eval_loss": 2.9}]))
    done = regrow("import", *logs, *META, "--tokens-per-step", "1k", "--out", tmp_path / "runs", "--json")
    assert [run["run"] for run in done.json["runs"]] == ["one", "two"]


def test_names_that_clash_and_folders_that_hold_a_run_are_refused_before_anything_is_written(regrow, tmp_path):
    log = state(tmp_path, [{"step": 10, "eval_loss": 2.9}], "a.json")
    other = state(tmp_path, [{"step": 10, "eval_loss": 2.9}], "b.json")
    ask = (*META, "--tokens-per-step", "1k", "--out", tmp_path / "runs")
    one_line_error(regrow("import", log, log, *ask), "two logs are called")
    (tmp_path / "runs" / "b").mkdir(parents=True)
    (tmp_path / "runs" / "b" / "run.json").write_text("{}")
    one_line_error(regrow("import", log, other, *ask), "holds a run already")
    assert not (tmp_path / "runs" / "a").exists()


def test_a_training_loss_warns_and_marks(regrow, tmp_path):
    log = state(tmp_path, [{"step": 10, "loss": 2.9}])
    done = regrow("import", log, *META, "--tokens-per-step", "1k", "--train-loss", "--out", tmp_path / "run")
    assert done.code == 0
    assert "warning:" in done.err
    assert regrow("runs", "show", tmp_path / "run", "--json").json["spec"]["loss_is"] == "train"


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        ("[]", ("--as", "trainer-state"), "not a trainer_state.json"),
        (
            '{"log_history": [{"step": 1, "loss": 2.5}]}',
            (),
            "there are: step, loss; name it with --loss-column; 'loss'",
        ),
        ('{"log_history": [{"step": 1, "eval_loss": 9.0}]}', ("--tokens-per-step", "1k"), "say --unit perplexity"),
        ('{"log_history": [{"step": 1, "eval_loss": 2.5}]}', (), "give --tokens-per-step"),
        ('{"log_history": []}', ("--tokens-per-step", "1k"), "there are: none"),
        ("tokens,eval_loss\n-1,2.5\n", (), "is negative"),
        ("tokens,step,eval_loss\n9,1,2.5\n8,2,2.5\n", (), "tokens fall from 9 to 8"),
        ("tokens,eval_loss\n9,2.5\n", ("--as", "trainer_state"), "did you mean 'trainer-state'"),
        ("tokens,eval_loss\n9,2.5\n", ("--unit", "nat"), "did you mean 'nats'"),
        ("tokens,eval_loss\n9,2.5\n", ("--unit", "bits-per-byte"), "give both"),
        ("tokens,eval_loss\n9,2.5\n", ("--step-column", "stp"), "no column 'stp'"),
        ("tokens,eval_loss\n9,2.5\n", ("--train-loss", "--loss-column", "eval_loss"), "both name the loss"),
        ("", (), "the file is empty"),
        ("Dear all,\nthe loss was 2.1.\n", (), "not a log of a known format"),
    ],
)
def test_what_is_refused_is_one_line(regrow, tmp_path, content, more, says):
    (tmp_path / "log").write_text(content)
    one_line_error(regrow("import", tmp_path / "log", *META, *more, "--out", tmp_path / "run"), says)
    assert not (tmp_path / "run").exists()


def test_folders_and_manifests_that_are_refused(regrow, tmp_path):
    (tmp_path / "empty").mkdir()
    out = ("--out", tmp_path / "run")
    one_line_error(regrow("import", tmp_path / "empty", *META, *out), "no log in this folder")
    for kind in ("trainer-state", "tensorboard", "wandb-run", "llama-factory", "megatron", "csv", "parquet"):
        one_line_error(regrow("import", tmp_path / "empty", "--as", kind, *META, *out), str(tmp_path / "empty"))
    one_line_error(regrow("import", "--manifest", tmp_path / "no.csv", *out), "no such file")
    one_line_error(regrow("import", tmp_path, "--manifest", tmp_path / "no.csv", *out), "--manifest and LOG together")
    for option in (("--unit", "bits"), ("--merge",), ("--as", "csv"), ("--resets", "continue")):
        asked = regrow("import", "--manifest", LOGS / "manifest.csv", *option, *out)
        one_line_error(asked, f"--manifest and {option[0]} together")
    one_line_error(regrow("import", *META, *out), "no log to import")
    one_line_error(regrow("import", tmp_path, "--family", "f", *out), "--method, --params-before")
    shutil.copytree(LOGS, tmp_path / "logs")
    text = (LOGS / "manifest.csv").read_text().splitlines()
    units = [f"{line},{unit}" for line, unit in zip(text, ["unit", *["nats"] * 5, "bits"], strict=True)]
    (tmp_path / "logs" / "manifest.csv").write_text("\n".join(units))
    one_line_error(regrow("import", "--manifest", tmp_path / "logs" / "manifest.csv", *out), "mixed units: bits, nats")
