"""A run that reads scores on its way trains exactly as one that does not, and records what it read."""

import pytest
from safetensors.torch import load_file

from regrow.errors import InputError
from regrow.ladder.tasks import make_tasks
from regrow.models.load import load_model, load_tokenizer
from regrow.runs import read_run
from regrow.training.post_train import post_train
from regrow.training.spec import TrainSpec

pytest.importorskip("lm_eval")

ASKED = {"tasks": ("ladder_order",), "tasks_at": (1024,), "task_limit": 8}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    make_tasks(folder, questions=12)
    return folder


@pytest.fixture(scope="module")
def run(tiny_model, sparse_model, text, tasks):
    def train(out, *, tasks_asked, model=sparse_model, **options):
        spec = TrainSpec(
            tokens=2048,
            batch_tokens=512,
            sequence_length=64,
            held_out_blocks=4,
            learning_rate=1e-2,
            eval_at=(512,),
            **(ASKED if tasks_asked else {}),
        )
        return post_train(str(model), data=str(text), spec=spec, out=out, task_folders=(tasks,), **options)

    return train


def weights(out):
    return load_file(out / "model" / "model.safetensors")


def test_scores_are_recorded_and_change_nothing(run, tasks, tiny_model, tmp_path):
    from regrow.scores import TasksSpec
    from regrow.scores.harness import Harness

    record = run(tmp_path / "scored", tasks_asked=True)
    assert [point.tokens for point in record.curve if point.scores] == [0, 1024, 2048]
    assert read_run(tmp_path / "scored") == record
    how = record.details["tasks"]["ladder_order"]
    assert (how["questions"], how["limit"], how["metric"], how["shots"]) == (8, 8, "acc", 0)
    harness = Harness(TasksSpec(names=("ladder_order",), limit=8, folders=(tasks,)), load_tokenizer(tiny_model))
    assert harness.scores(load_model(tmp_path / "scored" / "model")) == record.curve[-1].scores
    assert harness.scores(load_model(tiny_model)) == record.scores_before

    plain = run(tmp_path / "plain", tasks_asked=False)
    assert not plain.scores_before
    assert "tasks" not in plain.details
    losses = {point.tokens: point.loss for point in record.curve}
    assert {point.tokens: losses[point.tokens] for point in plain.curve} == {p.tokens: p.loss for p in plain.curve}
    one, other = weights(tmp_path / "scored"), weights(tmp_path / "plain")
    assert all((one[name] == other[name]).all() for name in one)


def test_a_run_that_died_goes_on_with_its_scores(run, dying, tmp_path):
    whole = run(tmp_path / "whole", tasks_asked=True)
    record = dying(
        lambda on_progress: run(tmp_path / "broken", tasks_asked=True, on_progress=on_progress, resume=True), 1024
    )
    assert [point.scores for point in record.curve] == [point.scores for point in whole.curve]
    assert record.details["tasks"] == whole.details["tasks"]


def test_a_parent_that_is_not_here_has_no_scores(run, sparse_model, tmp_path):
    import json
    import shutil

    copy = tmp_path / "pruned"
    shutil.copytree(sparse_model, copy)
    prune_file = copy / "regrow_prune.json"
    prune_file.write_text(json.dumps(json.loads(prune_file.read_text()) | {"model": str(tmp_path / "gone")}))
    record = run(tmp_path / "run", tasks_asked=True, model=copy, loss_before=7.0)
    assert record.scores_before == {}
    assert record.curve[-1].scores


def test_an_unpruned_control_is_its_own_parent(run, tiny_model, tmp_path):
    record = run(tmp_path / "run", tasks_asked=True, model=tiny_model)
    assert record.scores_before == record.curve[0].scores


def test_an_unknown_task_is_said_before_training(tiny_model, text, tasks, tmp_path, monkeypatch):
    from regrow.scores import harness

    known = harness._manager
    monkeypatch.setattr(harness, "_manager", lambda folders, only: known(folders, True))
    spec = TrainSpec(tokens=512, batch_tokens=512, sequence_length=64, held_out_blocks=4, tasks=("ladder_ordr",))
    with pytest.raises(InputError, match="no task 'ladder_ordr'; did you mean ladder_order"):
        post_train(str(tiny_model), data=str(text), spec=spec, out=tmp_path / "run", task_folders=(tasks,))
    assert not (tmp_path / "run").exists()
