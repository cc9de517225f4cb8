"""Trends of laws with known coefficients, and D* over sizes and rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regrow.laws import Setting, fit
from regrow.laws.simulate import simulate
from regrow.planning import Gain, PlanSpec, check_trends, plan
from regrow.planning.curves import Curves
from regrow.planning.information import log_optimal_tokens
from regrow.planning.solve import MOST, optimal_tokens
from regrow.planning.trends import tokens_for_gain

#: natural units; at 1e9 parameters, rate 0.25 and 1e9 tokens the gap is 0.8 nats, of which tokens close 0.4
TRUTH = {"alpha": 0.0, "beta": 0.45, "gamma": -1.3, "delta": 0.2, "N_C": 0.0}
TRUTH |= {"D_C": 0.4 * 0.25**-1.3 * 1e9**0.2 * 1e9**0.45, "E": 0.4 * 0.25**-1.3 * 1e9**0.2}
TOKENS = np.geomspace(1e8, 1e10, 12)


def runs(*, sizes=(0.5e9, 1e9, 2e9), rates=(0.15, 0.25, 0.35), params=TRUTH, run_noise=0.004, point_noise=0.002):
    return simulate(
        params, sizes=sizes, rates=rates, tokens=TOKENS, loss_before=lambda n: 1.8 + 0.9 * (n / 1e9) ** -0.25,
        run_noise=run_noise, point_noise=point_noise,
    )  # fmt: skip


def test_trends_of_a_lawful_law_and_of_a_lawless_one() -> None:
    (law,) = fit(runs(), draws=20)
    assert all(t.holds for t in check_trends(law)), check_trends(law)
    (backwards,) = fit(runs(params=TRUTH | {"gamma": 0.5, "E": TRUTH["E"] / 10, "D_C": TRUTH["D_C"] / 10}), draws=20)
    found = {t.name: t.holds for t in check_trends(backwards)}
    assert found["loss rises with rate"] is False
    assert found["D* rises with rate"] is False
    assert found["loss falls with tokens"] is True


def test_trends_that_cannot_be_judged_are_not() -> None:
    (law,) = fit(runs(rates=(0.25,), sizes=(1e9,)), draws=5)
    found = {t.name: t.holds for t in check_trends(law)}
    assert found["loss rises with rate"] is found["D* falls with size"] is None
    assert found["loss falls with tokens"] is True


def test_tokens_for_gain_matches_the_closed_form() -> None:
    (law,) = fit(runs(run_noise=0, point_noise=0), draws=3)
    got = tokens_for_gain(law, Setting(params_before=[1e9, 2e9], pruning_rate=0.25, loss_before=2.5), min_gain=0.01)
    closed = 1e9 * (0.4 * np.array([1, 2**-0.2]) * (1 - 2**-0.45) / 0.01) ** (1 / 0.45)
    np.testing.assert_allclose(got[0], closed, rtol=1e-3)
    assert got.shape == (4, 2)


def test_tokens_for_gain_at_its_ends() -> None:
    (law,) = fit(runs(), draws=3)
    x = Setting(params_before=1e9, pruning_rate=0.25, loss_before=2.5)
    assert np.all(tokens_for_gain(law, x, min_gain=1e9) == 1)
    assert np.all(np.isinf(tokens_for_gain(law, x, min_gain=1e-30)))


@pytest.mark.parametrize(("coefficient", "ends"), [(30.0, False), (300.0, True)])
def test_there_is_one_limit_of_tokens_wherever_it_is_asked(make_law, coefficient: float, ends: bool) -> None:
    """A flat law's D* of 1e17 tokens was a number in one place and none in another."""
    params = {"alpha": 0.5, "beta": 0.1, "gamma": -1.0, "delta": 0.0, "N_C": 0.0, "D_C": coefficient, "E": 0.1}
    law = make_law(params=params, draws=np.array([list(params.values())] * 3))
    x = Setting(params_before=1e9, pruning_rate=0.25, loss_before=2.0)
    closed = (0.25 * coefficient * (1 - 2**-0.1) / 0.01) ** 10
    assert (closed > MOST) == ends
    expected = np.inf if ends else pytest.approx(closed, rel=1e-9)
    assert optimal_tokens(Gain(), Curves(law, x))[0] == expected
    assert tokens_for_gain(law, x, min_gain=0.01)[0] == expected
    assert np.exp(log_optimal_tokens(law.formula, law.theta[None, :], x, min_gain=0.01))[0] == expected
    law = replace(law, ranges={**law.ranges, "tokens": (1e6, 1e17)})  # a plan asks for runs that support it
    answer = plan(law, PlanSpec(params_before=1e9, pruning_rate=0.25, loss_before=2.0))
    assert answer.tokens is None if ends else answer.tokens == expected
