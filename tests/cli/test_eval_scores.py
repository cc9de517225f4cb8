"""`regrow eval --tasks` on any checkpoint folder, pruned ones included, and `regrow ladder tasks`."""

import importlib.util
import json

import pytest

from regrow.scores import spec

from .test_light_commands import one_line_error

needs_lm_eval = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed")


@pytest.fixture
def few_tasks(regrow, tmp_path):
    done = regrow("ladder", "tasks", "--out", tmp_path / "tasks", "--questions", "8", "--json")
    assert done.code == 0, done.err
    assert list(done.json["tasks"]) == ["ladder_continue", "ladder_word", "ladder_order"]
    return tmp_path / "tasks"


@needs_lm_eval
def test_a_pruned_checkpoint_is_scored_beside_its_loss(regrow, tiny_model, text, tmp_path):
    pruned = tmp_path / "pruned"
    assert regrow("prune", tiny_model, "--method", "2:4", "--scorer", "magnitude", "--out", pruned).code == 0
    ask = ("eval", pruned, "--tasks", "ladder", "--limit", "6")
    done = regrow(*ask, "--data", text, "--blocks", "2", "--json")
    assert done.code == 0, done.err
    assert done.json["loss"] > 0
    assert list(done.json["tasks"]) == ["ladder_continue", "ladder_word", "ladder_order"]
    word = done.json["tasks"]["ladder_word"]
    assert (word["questions"], word["limit"], word["chance"], word["shots"], word["version"]) == (6, 6, 0.25, 0, "1")
    assert word["value"] * 6 == pytest.approx(round(word["value"] * 6))
    done = regrow(*ask)
    assert done.code == 0
    assert "ladder_order" in done.out
    assert "nats/token" not in done.out


@needs_lm_eval
def test_tasks_of_ones_own_folder(regrow, tiny_model, few_tasks):
    file = few_tasks / "ladder_word.yaml"
    (few_tasks / "mine.yaml").write_text(file.read_text().replace("task: ladder_word", "task: mine"))
    done = regrow("eval", tiny_model, "--tasks", "mine", "--task-path", few_tasks, "--batch-size", "4", "--json")
    assert done.code == 0, done.err
    assert done.json["tasks"]["mine"]["questions"] == 8


def test_questions_are_the_same_wherever_they_are_written(regrow, few_tasks, tmp_path):
    assert regrow("ladder", "tasks", "--out", tmp_path / "again", "--questions", "8").code == 0
    for file in few_tasks.glob("*.jsonl"):
        assert (tmp_path / "again" / file.name).read_text() == file.read_text()
        assert len(json.loads(file.read_text().splitlines()[0])["choices"]) == 4


def test_what_cannot_be_scored_is_one_line(regrow, tiny_model, tmp_path, monkeypatch):
    one_line_error(regrow("eval", tiny_model), "neither --data nor --tasks")
    monkeypatch.setattr(spec, "find_spec", lambda name: None)
    one_line_error(regrow("eval", tiny_model, "--tasks", "ladder"), "pip install 'regrow[eval]'")
    monkeypatch.setattr(spec, "find_spec", lambda name: "there")
    for arguments, says in (
        (("--tasks", "ladder,"), "names no task"),
        (("--tasks", "ladder", "--limit", "1"), "a limit of 1"),
        (("--tasks", "ladder", "--shots", "-1"), "-1 shots"),
        (("--tasks", "mine", "--task-path", tmp_path / "nowhere"), "no such folder"),
        (("--tasks", "mine", "--batch-size", "few"), "a batch of 'few'"),
        (("--data", "ladder", "--limit", "5"), "--limit"),
    ):
        one_line_error(regrow("eval", tiny_model, *arguments), says)
