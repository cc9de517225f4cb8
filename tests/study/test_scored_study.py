"""A study's recipe names tasks: its cells record scores, the parent's are read once, and hashes without tasks stay."""

from dataclasses import replace

import pytest

from regrow.errors import InputError
from regrow.scores import spec as scores_spec
from regrow.study import StudySpec
from regrow.study.cell import run_cell

from .conftest import small_study


def test_cells_record_scores_and_read_the_parents_once(tiny_model, text, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    study = small_study(tiny_model, text)
    study = replace(study, train=replace(study.train, tasks=("ladder_word",), tasks_at=(1000,), task_limit=6))
    study.check()
    from regrow.scores.harness import Harness

    asked = []
    scores = Harness.scores
    monkeypatch.setattr(Harness, "scores", lambda self, model: asked.append(1) or scores(self, model))
    records = [run_cell(cell, tmp_path / cell.name, shared=tmp_path / "shared") for cell in study.cells()]
    assert len(asked) == 1 + 3 * len(records)
    assert all(record.scores_before == records[0].scores_before != {} for record in records)
    assert all(sum(bool(point.scores) for point in record.curve) == 3 for record in records)
    assert records[0].curve[0].scores == records[0].scores_before  # the control


def test_tasks_in_a_file(tiny_model, text):
    recipe = {"tokens": "2k", "batch_tokens": 512, "sequence_length": 64, "tasks": "ladder", "tasks_at": ["1k"]}
    content = {"models": str(tiny_model), "family": "tiny", "data": str(text), "held_out": str(text)}
    plain = {key: value for key, value in recipe.items() if not key.startswith("task")}
    asked, before = (StudySpec.from_dict({**content, "train": each}) for each in (recipe, plain))
    assert (asked.train.tasks, asked.train.tasks_at) == (("ladder",), (1000,))
    assert not {cell.hash for cell in asked.cells()} & {cell.hash for cell in before.cells()}


def test_lm_eval_is_missed_before_anything_runs(tiny_model, text, monkeypatch):
    study = small_study(tiny_model, text)
    study = replace(study, train=replace(study.train, tasks=("ladder",)))
    monkeypatch.setattr(scores_spec, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install 'regrow"):
        study.check()
