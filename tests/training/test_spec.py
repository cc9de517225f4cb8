import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.errors import InputError
from regrow.training import TrainSpec, default_milestones, parse_eval_at


@given(tokens=st.integers(1, 10**7), batch=st.integers(1, 50), milestones=st.lists(st.integers(0, 10**7), max_size=5))
def test_milestones_are_whole_steps_and_end_at_the_last(tokens, batch, milestones):
    spec = TrainSpec(tokens=tokens, batch_tokens=batch * 8, sequence_length=8, eval_at=tuple(milestones))
    steps = spec.milestone_steps
    assert steps[0] == 0
    assert steps[-1] == spec.steps
    assert list(steps) == sorted(set(steps))
    # what was asked for is never trained less: rounded up, not floored
    assert spec.steps * spec.batch_tokens >= tokens > (spec.steps - 1) * spec.batch_tokens


def test_default_milestones_are_even_in_the_logarithm():
    found = default_milestones(320_000, 6)
    assert found[0] == 10_000
    assert found[-1] == 320_000
    ratios = [b / a for a, b in itertools.pairwise(found)]
    assert max(ratios) / min(ratios) < 1.001


def test_eval_at_as_people_write_it():
    assert parse_eval_at("10k,50k,1M", 10**6) == (10_000, 50_000, 1_000_000)
    assert parse_eval_at("linear:4", 1000) == (250, 500, 750, 1000)
    assert parse_eval_at("log:2", 3200) == (100, 3200)


def test_tasks_are_asked_at_every_milestone_or_where_they_are_wanted():
    plain = TrainSpec(tokens=8000, batch_tokens=1000, sequence_length=100, eval_at=(2000, 4000))
    assert plain.scored_steps == frozenset()
    assert replace(plain, tasks=("a",)).scored_steps == {0, 2, 4, 8}
    wanted = replace(plain, tasks=("a",), tasks_at=(2900,), task_limit=50, task_shots=2)
    assert wanted.scored_steps == {0, 3, 8}
    assert wanted.milestone_steps == (0, 2, 3, 4, 8)
    assert TrainSpec.from_dict(wanted.to_dict()) == wanted
    assert not any(key.startswith("task") for key in plain.to_dict())
    assert wanted.cooled_down(4, 2000).tasks == ()


@pytest.mark.parametrize("text", ["log:1", "often", "10k,,20k", "log:x", "-5"])
def test_eval_at_that_makes_no_sense(text):
    with pytest.raises(InputError):
        parse_eval_at(text, 1000)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokens": 0}, "tokens is 0"),
        ({"tasks": ("a", "a")}, "'a' is named twice"),
        ({"task_limit": 50}, "without tasks"),
        ({"tasks_at": (50,)}, "without tasks"),
        ({"batch_tokens": 1000}, "not whole blocks of 256"),
        ({"schedule": "constnat"}, "did you mean 'constant'"),
        ({"precision": "fp8"}, "unknown precision"),
        ({"learning_rate": float("nan")}, "learning rate nan"),
        ({"learning_rate": -1.0}, "learning rate -1"),
        ({"micro_batch_blocks": 3}, "do not divide into micro-batches of 3"),
        ({"distill_mix": 1.5}, "distill_mix"),
        ({"warmup_tokens": -1}, "cannot be negative"),
        ({"eval_at": (-1,)}, "negative evaluation point"),
        ({"decay_tokens": 100}, "decay_tokens is 100; part of the tokens, with schedule wsd"),
        ({"schedule": "wsd", "decay_tokens": 20_000}, "decay_tokens is 20000"),
        ({"schedule": "wsd", "cooldown_tokens": 5000}, "branches off a constant rate"),
        ({"cooldown_tokens": 2048}, "a cool-down of one step cools nothing"),
        ({"cooldown_at": (4096,)}, "cooldown_at without cooldown_tokens"),
        ({"average": "ema:1"}, "'ema:1' is not an average; write ema:0.99 or last:5"),
        ({"average": "last:2.5"}, "is not an average"),
        ({"lora_rank": -1}, "must be positive"),
        ({"lora_alpha": 8.0}, "must be positive"),
        ({"attention": "falsh"}, "did you mean 'flash'"),
    ],
)
def test_what_cannot_be_trained(changes, says):
    with pytest.raises(InputError, match=says):
        TrainSpec(**{"tokens": 10_000, **changes})


def test_options_of_today_do_not_rename_the_runs_of_yesterday():
    first = {"tokens", "batch_tokens", "sequence_length", "learning_rate", "schedule", "warmup_tokens", "eval_at"}
    first |= {"held_out_blocks", "seed", "weight_decay", "betas", "max_grad_norm", "precision", "micro_batch_blocks"}
    first |= {"save_every_tokens", "distill_temperature", "distill_mix"}
    assert TrainSpec(tokens=1000).to_dict().keys() == first
    spec = TrainSpec(tokens=9000, cooldown_tokens=5000, cooldown_at=(9000,), average="last:3")
    assert spec.to_dict().keys() - first == {"cooldown_tokens", "cooldown_at", "average"}
    assert TrainSpec.from_dict(spec.to_dict()) == spec


def test_a_cool_down_ends_at_its_milestone():
    spec = TrainSpec(tokens=20_480, eval_at=(4096, 8192), cooldown_tokens=5000)
    assert spec.milestone_steps == (0, 2, 4, 10)
    assert spec.cooldowns == {1: 4, 7: 10}  # three steps each; the milestone at two steps is too early
    assert TrainSpec(tokens=20_480, eval_at=(8192,), cooldown_tokens=5000, cooldown_at=(8000,)).cooldowns == {1: 4}


def test_plain_data_and_back():
    spec = TrainSpec(tokens=1000, eval_at=(100, 500))
    assert TrainSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(InputError, match="did you mean 'learning_rate'"):
        TrainSpec.from_dict({"tokens": 10, "learning_rat": 1e-3})
    with pytest.raises(InputError, match="tokens"):
        TrainSpec.from_dict({})
