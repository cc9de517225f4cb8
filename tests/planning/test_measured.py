import numpy as np
import pytest

from regrow.planning.measured import measured_tokens

TOKENS = np.geomspace(6e3, 4e6, 33)


def _power(scale: float, beta: float, tokens: np.ndarray = TOKENS) -> np.ndarray:
    return scale * tokens**-beta


def _truth(scale: float, beta: float, min_gain: float) -> float:
    """D* of B D^-beta in closed form: B (1 - 2^-beta) D^-beta = min_gain."""
    return (scale * (1 - 2**-beta) / min_gain) ** (1 / beta)


def test_a_power_law_without_noise_gives_its_closed_form():
    found = measured_tokens(TOKENS, _power(20.0, 0.5))
    assert found.tokens == pytest.approx(_truth(20.0, 0.5, 0.01), rel=0.02)
    assert found.passed == 1
    assert found.low <= found.tokens <= found.high


def test_a_constant_does_not_matter():
    once, twice = (measured_tokens(TOKENS, _power(20.0, 0.5) + shift) for shift in (0.0, 3.0))
    assert once.tokens == pytest.approx(twice.tokens, rel=1e-3)


def test_the_interval_covers_the_truth_and_the_noise_is_found():
    rng = np.random.default_rng(0)
    truth, inside, noise = _truth(20.0, 0.5, 0.01), [], []
    for seed in range(40):
        found = measured_tokens(TOKENS, _power(20.0, 0.5) + 0.003 * rng.standard_normal(len(TOKENS)), seed=seed)
        inside.append(found.low <= truth <= (found.high or np.inf))
        noise.append(found.noise)
    assert np.mean(inside) > 0.8
    assert np.mean(noise) == pytest.approx(0.003, rel=0.15)


def test_a_run_that_did_not_get_there_says_so():
    found = measured_tokens(TOKENS, _power(200.0, 0.5))
    assert (found.tokens, found.high, found.passed) == (None, None, 0)
    assert found.low == pytest.approx(TOKENS[-1] / 2)


def test_a_run_that_gains_nothing_was_there_from_the_start():
    assert measured_tokens(TOKENS, np.full(len(TOKENS), 2.5) - 1e-5 * np.log(TOKENS)).tokens == TOKENS[0]
