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
    if planned.json["tokens"] is None:  # few draws of a flat curve: the runs may support a bound only
        assert planned.json["tokens_reason"].startswith(("less than", "more than"))
        assert planned.json["verdict"] == "cannot say"
    else:
        assert 3.05 < planned.json["loss"] < 4.5


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


def test_a_table_of_several_runs_is_chosen_from_or_split(regrow, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("model,tokens,eval_loss\nsmall/a,10,2.4\nsmall/a,30,2.3\nlarge,20,2.2\nlarge,40,2.1\n")
    one_line_error(regrow("import", table, *META, "--out", tmp_path / "r"), "2 runs in one table: 'model'", "--split")
    chosen = regrow("import", table, *META, "--where", "model=large", "--out", tmp_path / "one")
    assert chosen.out == "one: 2 checkpoints up to 40 tokens\n"
    done = regrow("import", table, *META, "--split", "model", "--out", tmp_path / "runs", "--json")
    assert [(run["run"], run["points"]) for run in done.json["runs"]] == [("small-a", 2), ("large", 2)]
    assert regrow("runs", "check", tmp_path / "runs").code == 0
    one_line_error(
        regrow("import", table, table, *META, "--split", "model", "--out", tmp_path / "x"), "takes one table"
    )


def test_parameters_are_read_from_the_models(regrow, tmp_path):
    log = state(tmp_path, [{"step": 10, "eval_loss": 2.4}])
    about = ("--family", "llama", "--loss-before", "2.0", "--tokens-per-step", "1k")
    sizes = {}
    for name, more in (
        ("control", ("--method", "none")),
        ("sparse", ("--method", "2:4")),
        ("depth", ("--method", "depth", "--rate", "0.25")),
    ):
        done = regrow("import", log, *about, "--model", "Llama-3.2-1B", *more, "--out", tmp_path / name)
        assert done.code == 0, done.err
        run = regrow("runs", "show", tmp_path / name, "--json").json
        sizes[name] = (run["params_before"], run["params_after"])
    before, half = 1_235_814_400, 16 * (2048 * (2 * 2048 + 2 * 512) + 3 * 2048 * 8192) // 2
    assert sizes == {"control": (before, before), "sparse": (before, before - half), "depth": (before, 926_860_800)}
    both = ("--model", "Llama-3.2-1B", "--params-before", "1B", "--method", "none")
    one_line_error(
        regrow("import", log, *about, *both, "--out", tmp_path / "x"), "--model and --params-before together"
    )
    lacking = ("--model", "Llama-3.2-1B", "--method", "depth")
    one_line_error(regrow("import", log, *about, *lacking, "--out", tmp_path / "x"), "--params-after missing")


def test_the_formats_are_listed(regrow):
    from regrow.cli.importing import FORMATS
    from regrow.runs.importers import FORMATS as REGISTRY

    assert ", ".join(REGISTRY) == FORMATS
    assert [row["format"] for row in regrow("import", "--as", "list", "--json").json["formats"]] == list(REGISTRY)
    assert len(regrow("import", "--as", "list").out.splitlines()) == len(REGISTRY)
