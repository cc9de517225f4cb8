"""Errors in one line, and what a wrong name is taken for."""

import pytest

from regrow.errors import InputError, nearest, one_of
from regrow.ladder.assets import find_model


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("lr", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("batch", "batch_tokens"),
        ("Liger", "liger"),
        ("ligr", "liger"),
        ("zzz", None),
    ],
)
def test_the_nearest_choice_is_by_initials_then_beginning_then_spelling(value, meant):
    assert nearest(value, ["liger", "batch_tokens", "learning_rate", "seed"]) == meant


def test_a_wrong_choice_is_answered_with_the_nearest_and_all():
    with pytest.raises(InputError, match=r"unknown key 'lr'; did you mean 'learning_rate'\? choose from: liger, learn"):
        one_of("lr", ["liger", "learning_rate"], what="key")
    assert one_of("liger", ["liger"], what="key") == "liger"


def test_a_ladder_model_that_is_spelled_wrong_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"did you mean 'tiny-llama-0.2m'"):
        find_model("tiny-llama-02m")
    for other in ("gpt2", "./tiny-llama-02m", "owner/tiny-llama-02m", "tinyllama-pruned-by-depth"):
        assert find_model(other) == other
    (tmp_path / "tiny-llama-02m").mkdir()
    assert find_model("tiny-llama-02m") == "tiny-llama-02m"
