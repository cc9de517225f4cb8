"""The ladder's questions come from held-out text, have one right answer, and are the same wherever they are made."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

from regrow.errors import InputError
from regrow.ladder import find_corpus
from regrow.ladder.questions import CHOICES, KINDS, QUESTIONS, orders, passages
from regrow.ladder.tasks import make_tasks, task_folder


@pytest.fixture(scope="module")
def documents():
    return pd.read_parquet(find_corpus("ladder", "held_out"))["text"].tolist()


@pytest.fixture(scope="module", params=KINDS)
def made(request, documents):
    return request.param, KINDS[request.param](documents, count=QUESTIONS)


def test_a_thousand_questions_of_four_choices_with_the_answer_anywhere(made):
    _, questions = made
    assert len(questions) == QUESTIONS
    assert all(len(set(question.choices)) == CHOICES for question in questions)
    places = Counter(question.answer for question in questions)
    assert all(200 < places[place] < 300 for place in range(CHOICES))
    assert len({(question.context, question.choices) for question in questions}) == QUESTIONS


def test_the_answer_stands_in_the_held_out_text_and_the_wrong_ones_do_not(made, documents):
    _, questions = made
    text = "\n".join(documents)
    for question in questions[:60]:
        for place, choice in enumerate(question.choices):
            assert (f"{question.context} {choice}" in text) == (place == question.answer)


def test_the_same_text_and_seed_give_the_same_questions(made, documents):
    name, questions = made
    again = KINDS[name](documents, count=20)
    assert again == questions[:20]
    assert KINDS[name](documents, count=20, seed=1) != again


def test_passages_do_not_overlap():
    text = " ".join(f"word{number}" if number % 7 else "plain" for number in range(200))
    text = text.translate(str.maketrans("0123456789", "abcdefghij"))
    found = passages([text], context=5, following=3, seed=0)
    words = [word for passage in found for word in (*passage.context.split(), *passage.following)]
    assert Counter(words) <= Counter(text.split())
    assert len(found) == 200 // 8


def test_more_questions_than_the_text_gives_are_refused():
    with pytest.raises(InputError, match="gives 0 questions of orders, not 5; ask for at most 0"):
        orders(["too short"], count=5)


def test_task_files_name_their_questions(tmp_path):
    files = make_tasks(tmp_path / "tasks", questions=20)
    group = yaml.safe_load((tmp_path / "tasks" / "ladder.yaml").read_text())
    assert group["task"] == list(files) == list(KINDS)
    for name, file in files.items():
        task = yaml.safe_load(file.read_text())
        assert task["task"] == name
        assert len(Path(task["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()) == 20


def test_the_cache_holds_them_once_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path))
    assert task_folder(["arc_easy", "ladders"]) is None
    folder = task_folder(["arc_easy", "ladder_word:acc"])
    assert folder is not None
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert task_folder(["ladder"]) == folder
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="can't write the tasks"):
        task_folder(["ladder"])
