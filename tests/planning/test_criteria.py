"""D* against closed forms, and what is said where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.laws.setting import Setting
from regrow.planning import Gain, Recovery, Slope, Target, criterion_from
from regrow.planning.curves import Curves
from regrow.planning.solve import FEWEST, crossings, optimal_tokens

SETTING = Setting(params_before=8e9, pruning_rate=0.25, loss_before=2.0)


def scale(law: Law) -> np.ndarray:
    """A = rho^-gamma * N0^-delta of the law and of every draw, these fanned out as the law says outside its sizes."""
    theta = with_point(law)
    fan = law.variance_inflation(SETTING)
    return SETTING.pruning_rate ** -theta[:, 2] * SETTING.params_before ** -theta[:, 3] * np.append(1.0, fan)


def with_point(law: Law) -> np.ndarray:
    return np.vstack([list(law.params.values()), law.draws])


@pytest.mark.parametrize("min_gain", [0.5, 0.01, 1e-4])
def test_gain_is_the_closed_form_on_the_law_and_on_every_draw(make_law, min_gain: float) -> None:
    law = make_law()
    theta = with_point(law)
    beta, d_c = theta[:, 1], theta[:, 5]
    truth = (scale(law) * d_c * (1 - 2**-beta) / min_gain) ** (1 / beta)
    np.testing.assert_allclose(optimal_tokens(Gain(min_gain=min_gain), Curves(law, SETTING)), truth, rtol=1e-8)


def test_slope_is_the_closed_form(make_law) -> None:
    law = make_law()
    theta = with_point(law)
    beta, d_c = theta[:, 1], theta[:, 5]
    truth = (scale(law) * d_c * beta * 1e6 / 1e-4) ** (1 / (beta + 1))
    np.testing.assert_allclose(optimal_tokens(Slope(max_slope=1e-4), Curves(law, SETTING)), truth, rtol=1e-6)


def test_target_is_the_closed_form(make_law) -> None:
    law = make_law()
    theta = with_point(law)
    alpha, beta, n_c, d_c, e = (theta[:, i] for i in (0, 1, 4, 5, 6))
    floor = SETTING.loss_before + scale(law) * (n_c * SETTING.params_before**-alpha + e)
    truth = (scale(law) * d_c / (2.3 - floor)) ** (1 / beta)
    np.testing.assert_allclose(optimal_tokens(Target(loss=2.3), Curves(law, SETTING)), truth, rtol=1e-7)


@pytest.mark.parametrize("loss_pruned", [None, 6.0])
def test_recovery_closes_the_share_it_says(make_law, loss_pruned: float | None) -> None:
    curves = Curves(make_law(), SETTING)
    criterion = Recovery(share=0.9, loss_pruned=loss_pruned)
    tokens = optimal_tokens(criterion, curves)[0]
    floor = curves.floor()[0, 0]
    start = loss_pruned if loss_pruned is not None else curves.loss(np.array([1e6]))[0, 0]
    assert (curves.loss(np.array([tokens]))[0, 0] - floor) / (start - floor) == pytest.approx(0.1, rel=1e-9)
    assert ("6" if loss_pruned else "fewest tokens fitted, 1M") in criterion.describe(curves)


def test_a_shifted_law_starts_flat_and_its_last_crossing_counts(make_law) -> None:
    params = {**make_law().params, "D_s": 1e7}
    law = make_law(form="p2_shifted", params=params)
    curves = Curves(law, SETTING)
    tokens = optimal_tokens(Gain(min_gain=0.01), curves)[0]
    gain = Gain(min_gain=0.01).measure(curves.point(), np.array([1.0, tokens / 1.01, tokens * 1.01]))[0]
    assert gain[0] < 0.01 < gain[1]
    assert gain[2] < 0.01
    assert tokens > 1e8


@settings(deadline=None, max_examples=50)
@given(min_gain=st.floats(1e-5, 1.0), factor=st.floats(1.01, 10.0))
def test_asking_for_more_gain_stops_sooner(min_gain: float, factor: float) -> None:
    grid = np.logspace(0, 16, 257)
    curves = np.array([2 + 50 * grid**-0.6])
    gains = curves - (2 + 50 * (2 * grid) ** -0.6)
    found = [crossings(grid, gains, np.array([g]))[0] for g in (min_gain, min_gain * factor)]
    assert found[1] < found[0]


def test_met_at_once_never_met_and_undefined_are_told_apart() -> None:
    grid = np.logspace(0, 4, 9)
    measure = np.array([np.full(9, 0.1), np.full(9, 3.0), np.full(9, np.nan), np.geomspace(10, 0.1, 9)])
    found = crossings(grid, measure, np.ones(4))
    assert found[0] == FEWEST
    assert np.isinf(found[1])
    assert np.isinf(found[2])
    assert found[3] == pytest.approx(100.0)


def test_a_target_under_the_floor_is_refused_with_the_floor(make_law) -> None:
    with pytest.raises(InputError, match=r"unreachable.*floor here is 2\.0114"):
        Target(loss=2.01).threshold(Curves(make_law(), SETTING))


def test_recovery_needs_something_to_recover(make_law) -> None:
    with pytest.raises(InputError, match="nothing to recover"):
        Recovery(loss_pruned=2.0).threshold(Curves(make_law(), SETTING))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("gian", {}, "did you mean 'gain'"),
        ("gain", {"min_gain": 0.0}, "positive number of nats"),
        ("gain", {"min_gain": float("nan")}, "positive number of nats"),
        ("gain", {"share": 0.9}, "share is not for the criterion 'gain'"),
        ("slope", {}, "needs max_slope"),
        ("recovery", {"share": 1.0}, "between 0 and 1"),
        ("target", {"loss": -1.0}, "positive number of nats"),
        ("budget", {}, "exactly one"),
        ("budget", {"usd": 1.0, "gpu_hours": 1.0}, "exactly one"),
        ("budget", {"usd": -5.0}, "positive number"),
    ],
)
def test_bad_criteria_are_one_line(name: str, options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        criterion_from(name, **options)


def test_options_left_out_keep_their_defaults() -> None:
    assert criterion_from("gain", min_gain=None) == Gain(min_gain=0.01)
