"""lm-eval asks tasks over local data: its score is the one that a plain forward pass gives."""

import json
import random

import numpy as np
import pytest
import torch
import yaml

from regrow.errors import InputError
from regrow.models.load import load_model, load_tokenizer
from regrow.scores import TasksSpec

pytest.importorskip("lm_eval")

QUESTIONS = 24


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Two tasks of three and two choices, a group with a score of its own, and one that is no score."""
    folder = tmp_path_factory.mktemp("tasks")
    draw = random.Random(0)
    words = ["table", "index", "function", "the", "value", "returns", "object", "query"]
    for name, choices in (("three", 3), ("two", 2)):
        rows = [
            {"q": " ".join(draw.sample(words, 4)), "c": draw.sample(words, choices), "a": draw.randrange(choices)}
            for _ in range(QUESTIONS)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(folder / f"{name}.jsonl")},
                "cache_dir": str(folder / "datasets"),
            },
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "q",
            "doc_to_choice": "c",
            "doc_to_target": "a",
            "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in METRICS],
            "metadata": {"version": 3},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    text = {**task, "task": "text", "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "q"}
    text["metric_list"] = [{"metric": "word_perplexity"}]
    del text["doc_to_choice"]
    (folder / "text.yaml").write_text(yaml.safe_dump(text))
    both = {"group": "both", "task": ["three", "two"], "aggregate_metric_list": [{"metric": "acc"}]}
    (folder / "both.yaml").write_text(yaml.safe_dump(both))
    (folder / "loose.yaml").write_text(yaml.safe_dump({"group": "loose", "task": ["three", "two"]}))
    return folder


METRICS = ("acc", "acc_norm")


@pytest.fixture(scope="module")
def ask(tasks, tiny_model):
    from regrow.scores.harness import Harness

    model = load_model(tiny_model, dtype=torch.float32)

    def run(*names, **values):
        harness = Harness(TasksSpec(names=names, folders=(tasks,), **values), load_tokenizer(tiny_model), batch_size=8)
        return harness, harness(model)

    return run


@torch.no_grad()
def by_hand(tasks, tiny_model, name, limit=None):
    """The share of questions whose answer has the highest likelihood after the question."""
    model, tokenizer = load_model(tiny_model, dtype=torch.float32), load_tokenizer(tiny_model)
    right = []
    for line in (tasks / f"{name}.jsonl").read_text().splitlines()[:limit]:
        row = json.loads(line)
        sums = []
        for choice in row["c"]:
            asked = len(tokenizer(row["q"], add_special_tokens=False)["input_ids"])
            ids = torch.tensor([tokenizer(f"{row['q']} {choice}", add_special_tokens=False)["input_ids"]])
            logs = model(input_ids=ids).logits[0].log_softmax(-1)
            sums.append(sum(float(logs[i - 1, ids[0, i]]) for i in range(asked, ids.shape[1])))
        right.append(int(np.argmax(sums)) == row["a"])
    return sum(right) / len(right)


def test_the_score_is_that_of_a_plain_forward_pass(ask, tasks, tiny_model):
    harness, found = ask("three:acc", "two:acc", limit=20)
    for name, chance in (("three", 1 / 3), ("two", 1 / 2)):
        result = found[f"{name}:acc"]
        assert result.score.value == pytest.approx(by_hand(tasks, tiny_model, name, limit=20))
        p = result.score.value
        assert result.score.stderr == pytest.approx((p * (1 - p) / 19) ** 0.5)
        assert (result.score.questions, result.score.chance) == (20, pytest.approx(chance))
    how = harness.how(found)["two:acc"]
    assert (how["metric"], how["version"], how["shots"], how["questions"], how["limit"]) == ("acc", "3", 0, 20, 20)
    assert how["lm_eval"]


def test_a_task_of_several_metrics_is_scored_by_the_length_normalised_one(ask):
    _, found = ask("three")
    assert found["three"].metric == "acc_norm"
    assert set(found["three"].metrics) == set(METRICS)


def test_a_group_has_its_own_score_or_those_of_its_tasks(ask):
    _, found = ask("both")
    (result,) = found.values()
    assert result.score.questions == 2 * QUESTIONS
    _, parts = ask("loose:acc")
    assert list(parts) == ["three:acc", "two:acc"]
    assert result.score.value == pytest.approx(np.mean([part.score.value for part in parts.values()]))


def test_shots_are_shown_and_recorded(ask):
    _, found = ask("two", shots=2)
    assert found["two"].shots == 2


def test_asking_changes_neither_the_model_nor_the_random_state(ask, tasks, tiny_model):
    from regrow.scores.harness import Harness

    model = load_model(tiny_model, dtype=torch.float32).train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    harness = Harness(TasksSpec(names=("two",), folders=(tasks,)), load_tokenizer(tiny_model))
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first, second = harness.scores(model), harness.scores(model)
    assert first == second
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()


def test_nothing_is_printed_without_progress(ask, capfd):
    ask("two", limit=4)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("twoo", "lm-eval knows no task 'twoo'; did you mean two"),
        ("text", "task text: none of its metrics is a score"),
        ("two:f1", "two has no score called 'f1'; choose from: acc, acc_norm"),
    ],
)
def test_what_cannot_be_scored_is_said(ask, monkeypatch, name, says):
    from regrow.scores import harness

    known = harness._manager
    monkeypatch.setattr(harness, "_manager", lambda folders, only: known(folders, True))  # its own take seconds to read
    with pytest.raises(InputError, match=says):
        ask(name)


def test_data_that_are_not_there_are_said(tasks, tiny_model, tmp_path):
    from regrow.scores.harness import Harness

    task = yaml.safe_load((tasks / "two.yaml").read_text())
    task |= {"task": "gone", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "gone.jsonl")}}}
    (tmp_path / "gone.yaml").write_text(yaml.safe_dump(task))
    with pytest.raises(InputError, match=r"tasks gone: can't be loaded: .*gone\.jsonl"):
        Harness(TasksSpec(names=("gone",), folders=(tmp_path,)), load_tokenizer(tiny_model))
