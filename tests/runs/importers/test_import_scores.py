"""Benchmark scores in logs and in lm-eval's results: names, checkpoints, percentages, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regrow.errors import InputError
from regrow.runs.importers import import_log, import_manifest

from .import_samples import FORMATS, spec


def state(folder: Path, **columns) -> Path:
    """A Trainer's history with these held-out columns, evaluated at five steps of 1,000 tokens each."""
    rows = []
    for number, step in enumerate((0, 100, 200, 300, 400)):
        values = {name: value(number) if callable(value) else value for name, value in columns.items()}
        rows.append({"step": step, "eval_loss": 3 - 0.1 * number, "num_input_tokens_seen": 1000 * step, **values})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer_state.json"
    path.write_text(json.dumps({"log_history": rows, "global_step": 400}))
    return path


def results(folder: Path, step: str, value: float, *, model: str = "m", task: str = "arc") -> Path:
    path = folder / step / "results_2026.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "results": {task: {"acc,none": value, "acc_stderr,none": 0.02}},
        "versions": {task: 1}, "n-shot": {task: 0}, "n-samples": {task: {"original": 900, "effective": 400}},
        "model_name": model,
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "name",
    ["eval/arc_easy/acc", "eval_arc_easy_acc", "eval/arc_easy/acc,none", "val/arc_easy_acc", "test.arc_easy.acc"],
)
def test_a_score_is_known_by_its_name(tmp_path, name: str) -> None:
    run = import_log(state(tmp_path, **{name: lambda n: 0.3 + 0.02 * n}), spec())
    assert [point.scores["arc_easy"].value for point in run.curve] == pytest.approx([0.3, 0.32, 0.34, 0.36, 0.38])
    assert [point.tokens for point in run.curve] == [0, 100_000, 200_000, 300_000, 400_000]
    assert f"5 scores of arc_easy from {name!r}" in run.details["import_notes"]


@pytest.mark.parametrize(
    "name", ["eval_accuracy", "eval/mean_token_accuracy", "train/arc_easy/acc", "eval_rewards/accuracies", "eval/acc"]
)
def test_an_accuracy_of_tokens_or_of_the_training_text_is_none(tmp_path, name: str) -> None:
    assert not import_log(state(tmp_path, **{name: 0.4}), spec()).has_scores


def test_of_several_metrics_the_usual_one_is_the_score_with_its_error(tmp_path) -> None:
    columns = {"eval/arc/acc": 0.3, "eval/arc/acc_norm": 0.35, "eval/arc/acc_norm_stderr": 0.01}
    run = import_log(state(tmp_path, **columns), spec())
    assert (run.curve[0].scores["arc"].value, run.curve[0].scores["arc"].stderr) == (0.35, 0.01)


def test_percentages_of_a_log_are_divided_and_said(tmp_path) -> None:
    run = import_log(state(tmp_path, **{"eval/mmlu/acc": 47.8}), spec())
    assert run.curve[0].scores["mmlu"].value == pytest.approx(0.478)
    assert any("in percent: divided by 100" in note for note in run.details["import_notes"])


def test_what_cannot_be_a_score_is_left_out_and_the_losses_stay(tmp_path) -> None:
    run = import_log(state(tmp_path, **{"eval/mmlu/acc": -3.0}), spec())
    assert not run.has_scores
    assert len(run.curve) == 5
    assert any("left out, the scores 'eval/mmlu/acc'" in note for note in run.details["import_notes"])


def test_scores_in_rows_of_their_own_find_their_tokens(tmp_path) -> None:
    rows = []
    for step in (0, 100, 200, 300):
        rows.append({"step": step, "eval_loss": 3.0 - step / 1000, "num_input_tokens_seen": 1000 * step})
        rows.append({"step": step, "eval/arc/acc": 0.3 + step / 1000})
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": rows, "global_step": 300}))
    run = import_log(tmp_path / "trainer_state.json", spec())
    assert [(p.tokens, round(p.scores["arc"].value, 3)) for p in run.curve] == [
        (0, 0.3), (100_000, 0.4), (200_000, 0.5), (300_000, 0.6)
    ]  # fmt: skip


def test_results_of_checkpoints_join_the_log_of_their_run(tmp_path) -> None:
    log = state(tmp_path / "out")
    for step, value in (("checkpoint-0", 0.3), ("checkpoint-200", 0.4), ("checkpoint-400", 0.5)):
        results(tmp_path / "evals", step, value)
    parent = results(tmp_path, "parent", 0.6)
    run = import_log([log, tmp_path / "evals"], spec(scores_before=str(parent)))
    assert {p.tokens: p.scores["arc"].value for p in run.curve if p.scores} == {0: 0.3, 200_000: 0.4, 400_000: 0.5}
    assert run.curve[2].scores["arc"].questions == 400
    assert all(point.loss is not None for point in run.curve)
    assert run.scores_before["arc"].value == 0.6
    assert run.details["tasks"]["arc"] == {"metric": "acc", "version": "1", "shots": 0}


def test_results_alone_are_a_run_of_scores(tmp_path) -> None:
    for step, value in (("step_0", 0.3), ("iter_0000500", 0.4), ("global_step1000", 0.5)):
        results(tmp_path, step, value)
    run = import_log(tmp_path, spec(loss_before=None, tokens_per_step=2000))
    assert [(p.tokens, p.loss, p.scores["arc"].value) for p in run.curve] == [
        (0, None, 0.3), (1_000_000, None, 0.4), (2_000_000, None, 0.5)
    ]  # fmt: skip
    assert not run.has_losses


def test_the_step_in_the_models_path_goes_before_the_folders(tmp_path) -> None:
    results(tmp_path, "checkpoint-7", 0.4, model="out/checkpoint-300")
    assert import_log(tmp_path, spec(loss_before=None, tokens_per_step=10)).curve[0].tokens == 3000


def test_a_real_file_is_read() -> None:
    run = import_log(FORMATS / "lm-eval", spec(loss_before=None, tokens_per_step=1024))
    assert run.curve[0].tokens == 196_608
    assert run.curve[0].scores["ladder_word"].value == 0.6
    assert run.curve[0].scores["ladder_word"].questions == 40


def test_a_manifest_names_the_parents_scores(tmp_path) -> None:
    state(tmp_path / "out")
    results(tmp_path, "parent", 0.6)
    head = "path,run,family,method,params_before,params_after,loss_before,scores_before"
    (tmp_path / "m.csv").write_text(f"{head}\nout/trainer_state.json,r,f,depth,1.2B,.9B,2,parent\n")
    assert import_manifest(tmp_path / "m.csv")[0].scores_before["arc"].value == 0.6


def test_what_does_not_say_enough_is_one_line(tmp_path) -> None:
    lost = results(tmp_path / "a", "final", 0.4)
    with pytest.raises(InputError, match="do not say which checkpoint"):
        import_log(lost, spec(loss_before=None, tokens_per_step=10))
    results(tmp_path / "b", "checkpoint-50", 0.4)
    with pytest.raises(InputError, match="nothing tells how many tokens step 50 is; give --tokens-per-step"):
        import_log(tmp_path / "b", spec(loss_before=None))
    results(tmp_path / "b", "again/checkpoint-50", 0.4)
    with pytest.raises(InputError, match="two results of arc at step 50"):
        import_log(tmp_path / "b", spec(loss_before=None, tokens_per_step=10))
    with pytest.raises(InputError, match="--loss-before missing"):
        import_log(state(tmp_path / "c"), spec(loss_before=None))
