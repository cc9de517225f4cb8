import itertools

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


@pytest.mark.parametrize("text", ["log:1", "often", "10k,,20k", "log:x", "-5"])
def test_eval_at_that_makes_no_sense(text):
    with pytest.raises(InputError):
        parse_eval_at(text, 1000)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokens": 0}, "tokens is 0"),
        ({"batch_tokens": 1000}, "not whole blocks of 256"),
        ({"schedule": "constnat"}, "did you mean 'constant'"),
        ({"precision": "fp8"}, "unknown precision"),
        ({"learning_rate": float("nan")}, "learning rate nan"),
        ({"learning_rate": -1.0}, "learning rate -1"),
        ({"micro_batch_blocks": 3}, "do not divide into micro-batches of 3"),
        ({"distill_mix": 1.5}, "distill_mix"),
        ({"warmup_tokens": -1}, "cannot be negative"),
        ({"eval_at": (-1,)}, "negative evaluation point"),
    ],
)
def test_what_cannot_be_trained(changes, says):
    with pytest.raises(InputError, match=says):
        TrainSpec(**{"tokens": 10_000, **changes})


def test_plain_data_and_back():
    spec = TrainSpec(tokens=1000, eval_at=(100, 500))
    assert TrainSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(InputError, match="did you mean 'learning_rate'"):
        TrainSpec.from_dict({"tokens": 10, "learning_rat": 1e-3})
    with pytest.raises(InputError, match="tokens"):
        TrainSpec.from_dict({})
