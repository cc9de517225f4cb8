"""Forms: formulas against their definition, derivatives against finite differences, scaling there and back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.errors import InputError
from regrow.laws.forms import FORMS, find_form
from regrow.laws.setting import Reference, Setting

X = {"params_before": 3e9, "pruning_rate": 0.3, "tokens": 5e9, "loss_before": 2.1}
N1 = 3e9 * 0.7
GAP = math.exp(0.1) * (3 / 7) ** 0.8 * 3000**-0.2
EXPONENT = 0.4 * GAP**-0.1 * 3000**0.05
# parameters in natural units and the formula written out once more, by hand
KNOWN = {
    "p2": (
        {"alpha": 0.3, "beta": 0.4, "gamma": -1.2, "delta": 0.1, "N_C": 90.0, "D_C": 4e4, "E": 3.0},
        2.1 + 0.3**1.2 * 3e9**-0.1 * (90 / 3e9**0.3 + 4e4 / 5e9**0.4 + 3),
    ),
    "p2_odds": (
        {"alpha": 0.3, "beta": 0.4, "gamma": -1.2, "delta": 0.1, "N_C": 90.0, "D_C": 4e4, "E": 3.0},
        2.1 + (0.3 / 0.7) ** 1.2 * 3e9**-0.1 * (90 / 3e9**0.3 + 4e4 / 5e9**0.4 + 3),
    ),
    "p2_shifted": (
        {"alpha": 0.3, "beta": 0.4, "gamma": -1.2, "delta": 0.1, "N_C": 90.0, "D_C": 4e4, "E": 3.0, "D_s": 2e9},
        2.1 + 0.3**1.2 * 3e9**-0.1 * (90 / 3e9**0.3 + 4e4 / 7e9**0.4 + 3),
    ),
    "p2_counts": (
        {"alpha": 0.3, "beta": 0.4, "gamma": -1.2, "delta": 0.1, "N_C": 90.0, "D_C": 4e4, "E": 3.0}
        | {"E0": 1.7, "A": 100.0, "a": 0.3},
        1.7 + 100 / 3e9**0.3 + 0.3**1.2 * 3e9**-0.1 * (90 / 3e9**0.3 + 4e4 / 5e9**0.4 + 3),
    ),
    "chinchilla": (
        {"alpha": 0.34, "beta": 0.28, "E": 1.69, "A": 406.4, "B": 410.7},
        1.69 + 406.4 / N1**0.34 + 410.7 / 5e9**0.28,
    ),
    # the gap right after pruning is not given: exp(0.1 + 0.8 ln(3/7)) 3000^-0.2
    "regrowth": (
        {
            "level": 0.1,
            "level_gap": 0.2,
            "pace": 2e8,
            "pace_refitted": 0.7,
            "exponent": 0.4,
            "exponent_gap": -0.1,
            "pace_rate": -1.1,
            "pace_batch": 0.6,
            "exponent_size": 0.05,
        }
        | {"end": 0.02, "end_lost": 0.03, "drift": 0.03, "drift_tokens": 1e9, "gap": 0.1, "gap_rate": 0.8}
        # what a run does not say is as usual
        | {"gap_size": -0.2, "usual_refitted": 1.0, "usual_rate": 3e-4, "usual_batch": 1e6},
        2.1 * (1 + 0.03 * 5 / 6)
        + math.exp(0.1 + 0.2 * (GAP - 1)) * GAP * (1 + 5e9 / (EXPONENT * 2e8)) ** -EXPONENT
        + (0.02 - 0.03 * math.log(0.7)) * 2.1 * (1 - (1 + 5e9 / (EXPONENT * 2e8)) ** -EXPONENT),
    ),
    "compression": (
        {"alpha": 1.1, "beta": 0.6, "gamma": 3e8},
        2.1**1.1 * 1.3**0.6 * math.exp(3e8 * math.log1p(1 / (5e9 + 1))),
    ),
    "sparse": (
        {"b_S": 0.7, "b_N": 0.25, "b_D": 0.2, "a_S": 16.8, "c_S": 45.0, "a_D": 6.9e8, "c": 0.65},
        (16.8 * 0.7**0.7 + 45) * N1**-0.25 + (6.9e8 / 5e9) ** 0.2 + 0.65,
    ),
}
REF = Reference(params_before=1.5e9, tokens=3e9, pruning_rate=0.25)
NATURAL = Reference()


def inputs(ref: Reference = NATURAL, tokens: float = X["tokens"]) -> Setting:
    values = {**X, "tokens": tokens}
    return Setting(ref, **{k: np.array([v, v * (0.9 if k == "pruning_rate" else 1.1)]) for k, v in values.items()})


def natural(name: str) -> np.ndarray:
    params, _ = KNOWN[name]
    return np.array([[params[p] for p in find_form(name).names]])


def test_every_form_is_checked_here() -> None:
    assert set(KNOWN) == set(FORMS)


@pytest.mark.parametrize("name", FORMS)
def test_formula_by_hand(name: str) -> None:
    form = find_form(name)
    got = form.value(form.from_natural(natural(name), Reference()), inputs())[0, 0]
    assert got == pytest.approx(KNOWN[name][1], rel=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_scaled_inputs_give_the_same_loss(name: str) -> None:
    form = find_form(name)
    scaled = form.from_natural(natural(name), REF)
    np.testing.assert_allclose(form.to_natural(scaled, REF), natural(name), rtol=1e-12)
    plain = form.value(form.from_natural(natural(name), Reference()), inputs())
    np.testing.assert_allclose(form.value(scaled, inputs(REF)), plain, rtol=1e-11)


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_jacobian_against_finite_differences(name: str, data: st.DataObject) -> None:
    form = find_form(name)
    theta = form.from_natural(natural(name), REF)
    factor = data.draw(st.lists(st.floats(0.5, 1.5), min_size=theta.size, max_size=theta.size))
    theta = theta * np.array(factor)
    x = inputs(REF)
    value, jacobian = form.value_and_jacobian(theta, x)
    assert jacobian is not None
    assert jacobian.shape == (1, theta.size, 2)
    np.testing.assert_allclose(value, form.value(theta, x), rtol=1e-14)
    for i in range(theta.size):
        step = np.zeros_like(theta)
        step[0, i] = 1e-6 * max(abs(theta[0, i]), 1e-3)
        numeric = (form.value(theta + step, x) - form.value(theta - step, x)) / (2 * step[0, i])
        np.testing.assert_allclose(jacobian[:, i], numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", FORMS)
def test_slope_against_finite_differences(name: str) -> None:
    form = find_form(name)
    theta = form.from_natural(natural(name), REF)
    up, down = (form.value(theta, inputs(REF, X["tokens"] * f)) for f in (math.exp(1e-5), math.exp(-1e-5)))
    np.testing.assert_allclose(form.slope(theta, inputs(REF)), (up - down) / 2e-5, rtol=1e-5)


def test_loss_right_after_pruning_is_finite_where_the_form_says_so() -> None:
    for form in FORMS.values():
        theta = form.from_natural(natural(form.name), REF)
        with np.errstate(divide="ignore", over="ignore"):
            value = form.value(theta, inputs(REF, 0.0))
        assert np.isfinite(value).all() != form.diverges_at_zero, form.name


def test_unknown_form_suggests() -> None:
    with pytest.raises(InputError, match="did you mean 'chinchilla'"):
        find_form("chincilla")
