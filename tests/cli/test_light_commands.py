"""fit, validate, predict, plan, report, runs and import: the contract's JSON, and what users do wrong."""

import json
import math
import os

import pandas as pd
import pytest

from .conftest import one_line_error, true_loss

ASK = ("--params-before", "4M", "--rate", "0.25", "--loss-before", "3.2")


def test_fit_prints_the_contracts_json(regrow, table, tmp_path):
    done = regrow("fit", table, "--out", tmp_path / "law.json", "--draws", 30, "--json")
    assert done.code == 0
    (law,) = done.json["laws"]
    assert (law["family"], law["method"], law["form"], law["n_runs"], law["n_points"]) == ("sim", "depth", "p2", 9, 72)
    assert set(law["metrics"]) == {"r2", "huber", "asd", "mape"}
    assert law["metrics"]["r2"] > 0.99
    assert set(law["params"]) == {"alpha", "beta", "gamma", "delta", "N_C", "D_C", "E"}
    assert isinstance(law["warnings"], list)
    assert (tmp_path / "law.json").exists()


def test_fit_for_people(regrow, table):
    done = regrow("fit", table, "--draws", 20)
    assert done.code == 0
    assert "sim, depth" in done.out


def test_fit_shows_both_baselines_where_the_controls_moved(regrow, table, tmp_path):
    seen = pd.read_csv(table)
    moved = tmp_path / "moved.csv"
    drift = 0.05 * (seen.tokens / seen.tokens.max()) * (seen.method == "none")
    seen.assign(loss=seen.loss + drift).to_csv(moved, index=False)
    told = regrow("fit", moved, "--draws", 20, "--json").json
    assert [law["baseline"] for law in (*told["laws"], *told["other_baseline"])] == ["initial", "control"]
    said = regrow("fit", moved, "--draws", 20, "--out", tmp_path / "law.json")
    rows = [line.split() for line in said.out.splitlines() if line.startswith("sim, depth")]
    assert [row[3] for row in rows] == ["initial", "control"]
    assert "controls moved" in said.err
    assert [law["baseline"] for law in json.loads((tmp_path / "law.json").read_text())["laws"]] == ["initial"]


def test_predict_is_near_the_truth_and_says_when_it_extrapolates(regrow, law_file):
    done = regrow("predict", law_file, *ASK, "--tokens", "100k", "--json")
    assert done.code == 0
    answer = done.json
    assert set(answer) == {"loss", "low", "high", "level", "extrapolates"}
    assert answer["low"] <= answer["loss"] <= answer["high"]
    assert answer["loss"] == pytest.approx(true_loss(4e6, 0.25, 1e5, 3.2), rel=0.01)
    assert answer["extrapolates"] == {}
    far = regrow("predict", law_file, *ASK, "--tokens", "3M", "--json").json
    assert far["extrapolates"]["tokens"] == pytest.approx(10, rel=0.01)


def test_plan_prints_the_contracts_json_and_the_true_optimum(regrow, law_file):
    done = regrow("plan", law_file, *ASK, "--price", "2", "--json")
    assert done.code == 0
    answer = done.json
    for key in ("tokens", "tokens_low", "tokens_high", "criterion", "loss", "loss_low", "loss_high"):
        assert key in answer
    # closed form: doubling gains rate^-gamma * N^-delta * D_C * D^-beta * (1 - 2^-beta)
    scale = 0.25**1.4 * 4e6**-0.1 * 120 * (1 - 2**-0.3)
    assert answer["tokens"] == pytest.approx((scale / 0.01) ** (1 / 0.3), rel=0.4)
    assert answer["tokens_low"] <= answer["tokens"] <= answer["tokens_high"]
    assert answer["criterion"] == "gain"
    assert answer["cost_usd"] == pytest.approx(2 * answer["gpu_hours"])
    assert answer["flops"] > 0
    assert isinstance(answer["warnings"], list)


def test_plan_for_people_is_a_short_block(regrow, law_file):
    done = regrow("plan", law_file, *ASK)
    assert done.code == 0
    assert "\n  tokens " in done.out
    assert "doubling" in done.out


def test_plan_takes_a_model_of_the_catalogue(regrow, law_file):
    done = regrow(
        "plan",
        law_file,
        "--model",
        "Qwen2.5-0.5B",
        "--rate",
        "0.2",
        "--loss-before",
        "2.5",
        "--method",
        "depth",
        "--json",
    )
    assert done.code == 0
    assert done.json["params_before"] == 494_032_768
    assert any("model size" in warning for warning in done.json["warnings"])


def test_validate_scores_held_out_sizes(regrow, table):
    done = regrow("validate", table, "--hold-out", "size", "--form", "p2", "--json")
    assert done.code == 0
    (result,) = done.json["results"]
    assert {"family", "method", "form", "hold_out", "mape", "max_ape", "asd", "coverage"} <= set(result)
    assert result["mape"] < 0.015


def test_runs_list_show_export(regrow, table, tmp_path):
    listed = regrow("runs", "list", table, "--json").json["runs"]
    assert len(listed) == 12
    assert regrow("runs", "list", table).code == 0
    one = tmp_path / "one.csv"
    rows = pd.read_csv(table)
    rows[rows["run"] == rows["run"].iloc[-1]].to_csv(one, index=False)
    shown = regrow("runs", "show", one, "--json").json
    assert len(shown["curve"]) == 8
    assert regrow("runs", "show", one).code == 0
    exported = regrow("runs", "export", table, "--out", tmp_path / "t.parquet", "--json").json
    assert exported["rows"] == 96
    assert regrow("fit", tmp_path / "t.parquet", "--draws", 10).code == 0
    archived = regrow("runs", "export", table, "--out", tmp_path / "t.jsonl", "--json").json
    assert archived == {"out": str(tmp_path / "t.jsonl"), "rows": 96, "runs": 12}
    assert regrow("runs", "list", tmp_path / "t.jsonl", "--json").json["runs"] == listed
    assert regrow("runs", "export", table, "--out", tmp_path / "none" / "t.jsonl").code == 2
    assert regrow("runs", "show", table).code == 2


def test_report_writes_one_file(regrow, table, law_file, tmp_path):
    done = regrow("report", table, law_file, "--out", tmp_path / "r.html", "--json")
    assert done.code == 0
    assert "<html" in (tmp_path / "r.html").read_text()


def test_json_has_no_nan(regrow, table):
    text = regrow("fit", table, "--draws", 10, "--json").out
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def changed(table, tmp_path, change):
    rows = pd.read_csv(table)
    path = tmp_path / "changed.csv"
    change(rows).to_csv(path, index=False)
    return path


def test_bad_tables_are_one_line(regrow, table, tmp_path):
    one_line_error(regrow("fit", tmp_path / "nowhere.csv"), "no such file")
    one_line_error(regrow("fit", changed(table, tmp_path, lambda t: t.iloc[:0])), "no rows")
    one_line_error(regrow("fit", changed(table, tmp_path, lambda t: t.drop(columns="loss_before"))), "loss_before")
    one_line_error(regrow("fit", changed(table, tmp_path, lambda t: t.assign(loss=math.nan))), "loss is nan in row 1")
    (tmp_path / "empty.csv").write_text("")
    one_line_error(regrow("fit", tmp_path / "empty.csv"), "empty")
    (tmp_path / "binary.csv").write_bytes(os.urandom(200))
    one_line_error(regrow("fit", tmp_path / "binary.csv"))
    (tmp_path / "fake.parquet").write_text("no")
    one_line_error(regrow("fit", tmp_path / "fake.parquet"), "not a CSV or Parquet table")
    one_line_error(regrow("fit", tmp_path), "no runs in this folder")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fit", "TABLE", "--form", "p3"), "p3"),
        (("fit", "TABLE", "--baseline", "contrl"), "control"),
        (("fit", "TABLE", "--draws", "0"), "0 draws"),
        (("fit", "TABLE", "--out", "/proc/nowhere/law.json"), "law.json"),
        (("validate", "TABLE", "--hold-out", "sizes"), "did you mean 'size'"),
        (("predict", "LAW", *ASK, "--tokens", "many"), "not a positive number"),
        (("predict", "LAW", *ASK, "--tokens", "1M", "--method", "dept"), "did you mean 'depth'"),
        (("predict", "LAW", *ASK, "--tokens", "1M", "--family", "other"), "unknown family 'other'"),
        (("predict", "LAW", *ASK, "--tokens", "1M", "--level", "1.5"), "level"),
        (("predict", "LAW", "--params-before", "4M", "--loss-before", "3", "--tokens", "1M"), "--rate is missing"),
        (("plan", "LAW", "--params-before", "4M", "--rate", "1", "--loss-before", "3"), "rate"),
        (("plan", "LAW", "--params-before", "4M", "--rate", "0", "--loss-before", "3"), "rate"),
        (("plan", "LAW", "--params-before", "4M", "--rate", "-0.1", "--loss-before", "3"), "rate"),
        (("plan", "LAW", "--params-before", "4M", "--rate", "0.2", "--loss-before", "nan"), "loss"),
        (("plan", "LAW", "--rate", "0.2", "--loss-before", "3"), "needs one model"),
        (
            ("plan", "LAW", "--model", "Lama-3.1-8B", "--rate", "0.2", "--loss-before", "3"),
            "did you mean 'Llama-3.1-8B'",
        ),
        (("plan", "LAW", *ASK, "--gpu", "h10"), "h100"),
        (("plan", "LAW", *ASK, "--price", "-2"), "price"),
        (("plan", "LAW", *ASK, "--criterion", "gian"), "did you mean 'gain'"),
        (("plan", "LAW", *ASK, "--criterion", "target", "--target", "1.0"), "floor"),
        (("plan", "TABLE", *ASK), "law"),
        (("plan", "nowhere.json", *ASK), "no such law file"),
        (("report", "--out", "r.html"), "no runs and no law given"),
        (("report", "TABLE", "--out", "/proc/nowhere/r.html"), "can't write here"),
        (("runs", "list", "nowhere"), "no such file"),
        (("study", "nowhere.yaml"), "no such study file"),
        (("demo", "--tokens", "some"), "not a positive number"),
    ],
)
def test_what_users_do_wrong_is_one_line(regrow, table, law_file, arguments, says):
    real = [{"TABLE": table, "LAW": law_file}.get(a, a) for a in arguments]
    one_line_error(regrow(*real), says)


def trainer_state(tmp_path, history):
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": history}))
    return path


META = (
    *("--family", "llama", "--method", "depth", "--params-before", "1.2B"),
    *("--params-after", "0.9B", "--loss-before", "2.0"),
)


def test_a_trainer_log_becomes_a_run(regrow, tmp_path):
    log = trainer_state(
        tmp_path,
        [
            {"step": 10, "loss": 3.0},
            {"step": 10, "eval_loss": 2.9},
            {"step": 20, "eval_loss": 2.5},
        ],
    )
    done = regrow(
        "import", log, "--as", "trainer-state", *META, "--tokens-per-step", "1k", "--out", tmp_path / "run", "--json"
    )
    assert done.code == 0
    shown = regrow("runs", "show", tmp_path / "run", "--json").json
    assert [(p["tokens"], p["loss"]) for p in shown["curve"]] == [(10_000, 2.9), (20_000, 2.5)]
    assert shown["pruning_rate"] == pytest.approx(0.25)


def test_imports_that_cannot_be_trusted(regrow, tmp_path):
    steps = [{"step": 10, "eval_loss": 2.9}]
    ask = ("--as", "trainer-state", *META, "--out", tmp_path / "run")
    one_line_error(regrow("import", trainer_state(tmp_path, steps), *ask), "--tokens-per-step")
    only_train = trainer_state(tmp_path, [{"step": 10, "loss": 2.9}])
    one_line_error(regrow("import", only_train, *ask, "--tokens-per-step", "1k"), "no held-out loss")
    perplexities = trainer_state(tmp_path, [{"step": 10, "eval_loss": 290.0}])
    one_line_error(regrow("import", perplexities, *ask, "--tokens-per-step", "1k"), "145.0 times --loss-before")
    one_line_error(regrow("import", tmp_path / "nowhere", *ask), "no such file")
    one_line_error(
        regrow("import", trainer_state(tmp_path, steps), "--as", "wandb-cvs", *META, "--out", "x"), "wandb-csv"
    )
    (tmp_path / "bad.json").write_text("[]")
    one_line_error(regrow("import", tmp_path / "bad.json", *ask), "not a trainer_state.json")


def test_csv_logs_with_their_own_column_names(regrow, tmp_path):
    log = tmp_path / "log.csv"
    pd.DataFrame({"seen": [1e6, 2e6], "val": [2.9, 2.7]}).to_csv(log, index=False)
    done = regrow(
        *("import", log, "--as", "csv", *META, "--loss-column", "val", "--tokens-column", "seen"),
        *("--out", tmp_path / "run", "--json"),
    )
    assert [(run["run"], run["points"]) for run in done.json["runs"]] == [("run", 2)]


def test_predict_takes_a_list_of_tokens(regrow, law_file):
    every = regrow("predict", law_file, *ASK, "--tokens", "100k,3M", "--json").json["predictions"]
    alone = [regrow("predict", law_file, *ASK, "--tokens", n, "--json").json for n in ("100k", "3M")]
    assert every == [{"tokens": n, **one} for n, one in zip((100_000, 3_000_000), alone, strict=True)]
    shown = regrow("predict", law_file, *ASK, "--tokens", "100k,200k,3M")
    rows = [line.split() for line in shown.out.splitlines()]
    assert [row[0] for row in rows[:4]] == ["tokens", "100k", "200k", "3M"]
    assert [row[1] for row in (rows[1], rows[3])] == [f"{one['loss']:.4f}" for one in alone]
    assert shown.err.splitlines() == [
        "warning: extrapolates: the number of tokens is 10 times above the largest fitted, 300k"
    ]
    one_line_error(regrow("predict", law_file, *ASK, "--tokens", "100k,many"), "--tokens", "'many'")


def test_what_is_no_news_is_not_said(regrow, law_file):
    """301,000 tokens are 1.003 times the largest fitted: true in the JSON, and no warning."""
    asked = ("predict", law_file, *ASK, "--tokens", "301k")
    assert regrow(*asked, "--json").json["extrapolates"]["tokens"] > 1
    assert regrow(*asked).err == ""


def test_a_folder_in_a_laws_place_and_a_law_in_the_runs_place_are_named(regrow, law_file, tmp_path):
    one_line_error(regrow("plan", tmp_path, *ASK), "a folder, not a law file", f"regrow fit {tmp_path} --out law.json")
    for command in ("fit", "validate"):
        one_line_error(regrow(command, law_file), "a JSON file (a law?), not a table of runs")


def test_the_table_of_a_fit_is_readable_in_a_pipe(regrow, table):
    """Fourteen parameters once made it wider than 200 columns; what is as usual is not a column either."""
    said = regrow("fit", table, "--form", "regrowth", "--draws", 10)
    head = said.out.splitlines()[0].split("  ")
    names = [name.strip() for name in head if name.strip()]
    assert names == ["family, method", "form", "status", "runs", "R^2", "MAPE", "pace", "exponent", "end"]
    assert max(map(len, said.out.splitlines())) < 100
    assert "more parameters with --verbose or --json" in said.err
    every = regrow("fit", table, "--form", "regrowth", "--draws", 10, "--verbose")
    assert {"baseline", "loss", "ASD", "gap_rate"} <= set(every.out.splitlines()[0].split())
    assert "--verbose" not in every.err
