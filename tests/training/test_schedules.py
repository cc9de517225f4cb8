"""Schedules against transformers' own, and the rule for a learning rate."""

import math

import pytest
import torch
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from regrow.training.learning_rate import GPT3_RATES, default_learning_rate, probe_grid
from regrow.training.schedules import decay, rate_factor


def _rates(scheduler, steps):
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("warm_up", [0, 3])
def test_constant_and_cosine_are_transformers_own(warm_up):
    weight = torch.nn.Parameter(torch.zeros(1))
    constant = get_constant_schedule_with_warmup(torch.optim.SGD([weight], lr=1.0), warm_up)
    cosine = get_cosine_schedule_with_warmup(torch.optim.SGD([weight], lr=1.0), warm_up, 12)
    for kind, theirs in (("constant", constant), ("cosine", cosine)):
        ours = [rate_factor(kind, s, steps=12, warm_up_steps=warm_up) for s in range(12)]
        assert ours == pytest.approx(_rates(theirs, 12), abs=1e-12)


def test_warm_up_stable_decay():
    rates = [rate_factor("wsd", s, steps=20, warm_up_steps=4, decay_steps=8) for s in range(21)]
    assert rates[:5] == [0, 0.25, 0.5, 0.75, 1]
    assert rates[4:13] == [1] * 9  # the first step of the decay is still whole
    assert rates[14] == pytest.approx(1 - math.sqrt(2 / 8))
    assert rates[20] == 0
    assert rates[12:] == sorted(rates[12:], reverse=True)
    assert [decay(i, 4) for i in (0, 1, 4, 9)] == [1, 0.5, 0, 0]


def test_the_rule_is_half_of_gpt3s_rate_and_falls_with_size():
    for params, rate in GPT3_RATES:
        assert default_learning_rate(round(params)) == pytest.approx(rate / 2, rel=0.01)
    assert default_learning_rate(200_000) == 3e-4
    sizes = [10**k for k in range(5, 13)]
    rates = [default_learning_rate(n) for n in sizes]
    assert rates == sorted(rates, reverse=True)


def test_the_grid_is_geometric_around_its_centre():
    assert probe_grid(1e-3, count=3, ratio=4) == (2.5e-4, 1e-3, 4e-3)
