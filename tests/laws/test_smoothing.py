import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws.smoothing import LEAST_READINGS, smooth_curve

TOKENS = np.geomspace(6e3, 4e6, 30)


def test_a_straight_curve_is_found_with_its_noise():
    rng = np.random.default_rng(0)
    truth = 4.0 - 0.05 * np.log(TOKENS)
    found = smooth_curve(TOKENS, truth + 0.01 * rng.standard_normal(len(TOKENS)))
    assert np.abs(found.mean(TOKENS) - truth).max() < 0.01
    assert found.noise == pytest.approx(0.01, rel=0.4)


def test_the_posterior_is_that_of_a_gaussian_process_with_a_vague_straight_part():
    """Two routes to one posterior: weights of a basis, and conditioning of a dense Gaussian process."""
    rng = np.random.default_rng(1)
    losses = 3 + 0.5 * (1 + TOKENS / 2e4) ** -0.4 + 0.003 * rng.standard_normal(len(TOKENS))
    found = smooth_curve(TOKENS, losses)
    x, at = np.log(TOKENS), np.log(np.geomspace(7e3, 3e6, 11))
    # the ratio of the variances is read back from the fit: weights = ratio * V^-1 (y - line), noise^2 = variance
    scale = lambda s: (s - x[0]) / (x[-1] - x[0])  # noqa: E731
    kernel = lambda a, b: _wiener(scale(a)[:, None], scale(b)[None, :])  # noqa: E731
    rest = losses - found.mean(TOKENS)  # V^-1 (y - line) = rest, as f + rest = y - line and f = ratio K V^-1 (y - line)
    ratio = found.coefficients[2:] @ rest / (rest @ rest)
    vague = 1e5 * np.stack([np.ones_like(x), x - x.mean()]).T @ np.stack([np.ones_like(x), x - x.mean()])
    cross = 1e5 * (1 + np.outer(at - x.mean(), x - x.mean())) + ratio * found.noise**2 * kernel(at, x)
    whole = vague + ratio * found.noise**2 * kernel(x, x) + found.noise**2 * np.eye(len(x))
    expected = cross @ np.linalg.solve(whole, losses)
    prior = 1e5 * (1 + (at - x.mean()) ** 2) + ratio * found.noise**2 * np.diag(kernel(at, at))
    spread = np.sqrt(prior - np.einsum("ij,ji->i", cross, np.linalg.solve(whole, cross.T)))
    assert found.mean(np.exp(at)) == pytest.approx(expected, abs=1e-5)
    assert found.draws(np.exp(at), 20_000).std(axis=0) == pytest.approx(spread, rel=0.03)


def _wiener(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    least, most = np.minimum(s, t), np.maximum(s, t)
    return least**2 * (3 * most - least) / 6


def test_its_intervals_cover_the_curve():
    rng = np.random.default_rng(2)
    truth = 0.3 * (1 + TOKENS / 3e4) ** -0.5
    inside = []
    for seed in range(40):
        drawn = smooth_curve(TOKENS, truth + 0.004 * rng.standard_normal(len(TOKENS))).draws(TOKENS, 400, seed=seed)
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        inside.append(np.mean((truth >= low) & (truth <= high)))
    assert 0.82 < np.mean(inside) < 0.97


def test_readings_at_zero_tokens_are_left_out():
    losses = 1 / np.log(TOKENS)
    with_zero = smooth_curve(np.concatenate([[0.0], TOKENS]), np.concatenate([[9.0], losses]))
    assert with_zero.mean(TOKENS) == pytest.approx(smooth_curve(TOKENS, losses).mean(TOKENS))


@pytest.mark.parametrize(
    ("tokens", "losses", "says"),
    [
        (TOKENS[: LEAST_READINGS - 1], np.ones(LEAST_READINGS - 1), "evaluate more often"),
        (TOKENS, np.full(len(TOKENS), np.nan), "not finite"),
    ],
)
def test_what_cannot_be_smoothed(tokens, losses, says):
    with pytest.raises(InputError, match=says):
        smooth_curve(tokens, losses)
