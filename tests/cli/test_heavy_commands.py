"""prune, train, eval and study on a tiny real model, by the command line."""

import os

import pytest

from .test_light_commands import one_line_error


def test_prune_train_eval_fit_by_hand(regrow, tiny_model, text, tmp_path):
    pruned, run = tmp_path / "pruned", tmp_path / "run"
    done = regrow(
        *("prune", tiny_model, "--method", "width", "--rate", "0.2", "--calibration", text, "--out", pruned, "--json")
    )
    assert done.code == 0, done.err
    assert done.json["pruning_rate"] == pytest.approx(0.2, abs=0.05)
    done = regrow(
        *("train", pruned, "--data", text, "--tokens", "2k", "--batch-tokens", "512", "--sequence-length", "64"),
        *("--held-out-blocks", "8", "--eval-at", "linear:2", "--lr", "1e-3", "--out", run, "--json"),
    )
    assert done.code == 0, done.err
    assert done.json["tokens"] == 2048
    shown = regrow("runs", "show", run, "--json").json
    assert shown["method"] == "width"
    found = regrow("eval", run / "model", "--data", text, "--blocks", 8, "--json")
    assert found.code == 0
    assert found.json["sequence_length"] == 64
    one_line_error(regrow("fit", run), "a curve needs checkpoints at 3 or more")


def test_a_dry_run_prints_the_plan_and_writes_nothing(regrow, tiny_model, tmp_path):
    done = regrow("prune", tiny_model, "--method", "2:4", "--dry-run", "--out", tmp_path / "out", "--json")
    assert done.code == 0
    assert done.json["params_after"] < done.json["params_before"]
    assert done.json["non_embedding_after"] < done.json["params_after"]
    assert done.json["memory_bytes"] > 0
    assert not (tmp_path / "out").exists()
    done = regrow("prune", tiny_model, "--method", "depth", "--rate", "0.12", "--dry-run")
    assert done.code == 0
    for says in ("layers", "non-embedding", "asked 0.1200", "tied embeddings counted once", "GB of memory"):
        assert says in done.out
    assert done.err.startswith("note: asked for rate 0.1200, nearest in whole blocks is")


def test_targets_by_count_and_by_shape(regrow, tiny_model):
    ask = ("prune", tiny_model, "--method", "width", "--dry-run", "--json")
    count = regrow(*ask, "--params", "80k").json
    assert abs(count["params_after"] - 80_000) <= 0.005 * count["params_before"]
    shape = regrow(*ask, "--shape", "hidden=28,intermediate=40").json
    assert shape["changes"] == {"hidden": [32, 28], "intermediate": [64, 40]}
    axes = regrow(*ask, "--rate", "0.05", "--axes", "intermediate").json
    assert set(axes["changes"]) == {"intermediate"}
    assert regrow(*ask, "--rate", "0.2", "--multiple-of", "4").json["changes"]["intermediate"][1] % 4 == 0


def test_one_pass_serves_many_rates_and_a_plan_is_applied(regrow, tiny_model, text, tmp_path):
    ask = ("prune", tiny_model, "--json")
    depth = ("--method", "depth", "--scorer", "perplexity", "--dry-run")
    first = regrow(
        *ask, *depth, "--shape", "layers=2", "--calibration", text, "--save-scores", tmp_path / "scores", "--seed", 3
    )
    assert first.code == 0, first.err
    assert len(first.json["dropped_layers"]) == 1
    second = regrow(*ask, *depth, "--shape", "layers=1", "--scores", tmp_path / "scores")
    assert set(first.json["dropped_layers"]) < set(second.json["dropped_layers"])
    (tmp_path / "plan.json").write_text(second.out)
    done = regrow(*ask, "--plan", tmp_path / "plan.json", "--out", tmp_path / "out")
    assert done.json["dropped_layers"] == second.json["dropped_layers"]
    assert done.json["out"] == str(tmp_path / "out")
    # the record of a pruned model is a plan too, but of the original
    record = tmp_path / "out" / "regrow_prune.json"
    one_line_error(regrow("prune", tmp_path / "out", "--plan", record, "--out", tmp_path / "b"), "another shape")
    one_line_error(regrow("prune", tiny_model, "--plan", record, "--out", tmp_path / "out"), "not empty")
    assert regrow("prune", tiny_model, "--plan", record, "--out", tmp_path / "out", "--overwrite").code == 0
    width = ("--method", "width", "--rate", "0.2", "--scores", tmp_path / "scores")
    one_line_error(regrow("prune", tiny_model, *width, "--out", tmp_path / "b"), "the scores hold perplexity")


def test_a_search_lists_what_it_tried(regrow, tiny_model, text):
    done = regrow(
        *("prune", tiny_model, "--method", "width", "--rate", "0.2", "--axes", "hidden,intermediate,kv_heads"),
        *("--search", 2, "--calibration", text, "--dry-run"),
    )
    assert done.out.count("tried hidden") == 2
    assert "which parts go is decided by" not in done.out


def test_width_looks_for_a_shape_where_it_has_text(regrow, tiny_model, text, tmp_path):
    ask = ("prune", tiny_model, "--method", "width", "--rate", "0.2", "--axes", "hidden,intermediate,kv_heads")
    outlined = regrow(*ask, "--dry-run").out
    assert "text will choose among hidden/intermediate/KV heads" in outlined
    assert "text will choose" not in regrow(*ask, "--search", 1, "--dry-run").out
    measured = regrow(*ask, "--calibration", text, "--dry-run", "--save-scores", tmp_path / "scores")
    assert measured.out.count("tried hidden") == outlined.split("KV heads ")[-1].count(", ") + 1 == 3
    # scores alone take the rule's shape, the first
    by_scores = regrow(*ask, "--scores", tmp_path / "scores", "--dry-run", "--json").json
    assert by_scores["changes"] == regrow(*ask, "--dry-run", "--json").json["changes"]
    one_line_error(regrow(*ask, "--scores", tmp_path / "scores", "--search", 3, "--dry-run"), "needs text")


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        ("--method width", "no rate given"),
        ("--rate 0.2", "--method: no method given"),
        ("--method width --rate 0.2", "--out: no output folder"),
        ("--method width --rate 0 --dry-run", "rate 0.0 is not between 0 and 1"),
        ("--method width --rate 0.2 --search 0 --dry-run", "search"),
        ("--method depth --rate 0.2 --search 2 --dry-run", "search given with depth"),
        ("--method depth --rate 0.2 --scorer angular --iterative --dry-run", "iterative"),
        ("--method depth --rate 0.2 --scores nowhere --dry-run", "nowhere: not a scores file"),
        ("--plan nowhere --out x", "nowhere: can't read it"),
        ("--plan nowhere --rate 0.2 --out x", "rate given with a plan"),
        ("--method width --rate 0.2 --params 80k", "rate and params given together"),
        ("--method width --params many --dry-run", "--params"),
        ("--method width --params 9B --dry-run", "9B parameters asked of a model that has"),
        ("--method width --params 1 --dry-run", "nearest rates: 0."),
        ("--method width --rate 1e-7 --dry-run", "nearest rates: 0."),
        ("--method depth --rate 0.12 --strict --dry-run", "nearest rates: 0."),
        ("--method depth --rate 0.999 --dry-run", "nearest rates: 0."),
        ("--method depth --shape layers=3 --dry-run", "the whole model"),
        ("--method width --shape hidden=30 --dry-run", "nearest: 28 and 32"),
    ],
)
def test_targets_that_cannot_be_are_one_line(regrow, tiny_model, ask, says):
    one_line_error(regrow("prune", tiny_model, *ask.split()), says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "nowhere"}, "nowhere"),
        ({"rate": "0"}, "rate"),
        ({"rate": "1"}, "rate"),
        ({"rate": "-0.1"}, "rate"),
        ({"rate": "nan"}, "rate"),
        ({"method": "widht"}, "did you mean 'width'"),
        ({"scorer": "magic"}, "scorer"),
        ({"out": "/proc/nowhere/out"}, "/proc/nowhere/out"),
        ({"calibration": "nowhere.txt"}, "nowhere.txt"),
    ],
)
def test_what_cannot_be_pruned_is_one_line(regrow, tiny_model, text, tmp_path, change, says):
    ask = {"method": "width", "rate": "0.2", "calibration": text, "out": tmp_path / "out", **change}
    model = ask.pop("model", tiny_model)
    done = regrow("prune", model, *(part for key, value in ask.items() for part in (f"--{key}", value)))
    one_line_error(done, says)


def test_a_missing_model_is_said_before_missing_text(regrow, tiny_model, tmp_path):
    ask = ("--method", "depth", "--rate", "0.2", "--out", tmp_path / "out")
    one_line_error(regrow("prune", tmp_path / "nowhere", *ask), "no such model folder")
    one_line_error(regrow("prune", tiny_model, *ask), "--calibration", "ladder")


def test_a_corrupt_model_is_one_line(regrow, tiny_model, text, tmp_path):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").write_bytes(os.urandom(1000))
    for command in (
        ("prune", broken, "--method", "2:4", "--scorer", "magnitude", "--out", tmp_path / "a"),
        ("train", broken, "--data", text, "--tokens", "1k", "--sequence-length", "64", "--out", tmp_path / "b"),
        ("eval", broken, "--data", text),
    ):
        one_line_error(regrow(*command), "broken")


def test_a_study_by_its_file(regrow, warm_workers, tiny_model, text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        f"models: ['{tiny_model}']\nfamily: tiny\nmethods: ['2:4']\ndata: '{text}'\nheld_out: '{text}'\n"
        "train: {tokens: 1k, batch_tokens: 512, sequence_length: 64, held_out_blocks: 4}\n"
    )
    shown = regrow("study", path, "--dry-run", "--json").json
    assert len(shown["missing"]) == 2
    done = regrow("study", path, "--workers", 1, "--json")
    assert done.code == 0, done.err
    assert len(done.json["ran"]) == 2
    assert set(regrow("study", path, "--json").json["skipped"]) == set(done.json["ran"])
    one_line_error(regrow("study", path, "--engine", "lokal"), "did you mean 'local'")


def test_a_study_whose_cells_fail_says_so_and_exits_1(regrow, warm_workers, text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("models: [nowhere]\nfamily: t\nmethods: [depth]\nrates: [0.2]\ntrain: {tokens: 1k}\n")
    done = regrow("study", path, "--workers", 1)
    assert done.code == 1
    assert "2 of 2 cells failed" in done.err
