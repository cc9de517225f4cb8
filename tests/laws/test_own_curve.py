"""The law of one run: what its curve says, and what it leaves open."""

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws.own_curve import ALONE, fit_curve

TOKENS = np.linspace(50_000, 1_000_000, 20)


def curve(tokens, floor=3.0, gap=40.0, beta=0.35, shift=20_000.0):
    return floor + gap * (np.asarray(tokens, dtype=float) + shift) ** -beta


def read(law, tokens):
    return law.loss(ALONE.at(tokens))


def test_a_curve_without_noise_is_followed_far_ahead():
    law = fit_curve(TOKENS[:10], curve(TOKENS[:10]))
    assert read(law, TOKENS) == pytest.approx(curve(TOKENS), abs=5e-3)
    assert law.loss_draws(ALONE.at(TOKENS)).shape == (400, 20)


def test_the_same_curve_gives_the_same_law():
    one, two = (fit_curve(TOKENS, curve(TOKENS)) for _ in range(2))
    assert np.array_equal(one.draws, two.draws)


def test_a_longer_curve_says_more():
    def width(count):
        noise = 0.003 * np.random.default_rng(0).standard_normal(20)
        law = fit_curve(TOKENS[:count], (curve(TOKENS) + noise)[:count])
        low, high = law.interval(ALONE.at(1e6))
        return float(high - low)

    assert width(5) > 2 * width(10) > 2 * width(15)


def test_intervals_of_many_curves_cover_as_often_as_they_say():
    """Ninety in a hundred, on curves whose exponent, floor, shift and noise all differ."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(60):
        beta, shift, floor = rng.uniform(0.1, 0.8), 10 ** rng.uniform(3, 5), rng.uniform(2, 3.5)
        first, last = (TOKENS[[0, -1]] + shift) ** -beta
        gap, noise = rng.uniform(0.2, 1.0) / (first - last), 10 ** rng.uniform(-3.3, -2)
        losses = curve(TOKENS, floor, gap, beta, shift) + noise * rng.standard_normal(20)
        law = fit_curve(TOKENS[:10], losses[:10])
        low, high = law.interval(ALONE.at(TOKENS[-1]))
        inside += bool(low <= losses[-1] <= high)
    assert 49 <= inside <= 60  # 0.9 +- 2.2 standard deviations below; above it is not wrong


@pytest.mark.parametrize(
    ("tokens", "losses", "says"),
    [
        (TOKENS[:4], curve(TOKENS[:4]), "4 evaluations so far"),
        (np.append(0.0, TOKENS[:4]), curve(TOKENS[:5]), "4 evaluations so far"),
        (TOKENS[10:16], curve(TOKENS[10:16]), "span a factor of 1.5"),
        (TOKENS, 3 + TOKENS / 1e6, "does not fall"),
        (TOKENS, np.append(curve(TOKENS[:19]), np.nan), "not finite"),
    ],
)
def test_what_says_nothing(tokens, losses, says):
    with pytest.raises(InputError, match=says):
        fit_curve(tokens, losses)
