"""A smooth curve through the readings of one run, with the noise of a reading estimated from the readings themselves.

The curve is a cubic smoothing spline in x = ln D, written as a mixed model: y = a + b x + f(x) + e. Here f is an
integrated Wiener process and e is white noise (Wahba 1978, "Improper priors, spline smoothing and the problem of
guarding against model errors in regression"). Restricted maximum likelihood sets the two variances. The curve assumes
no law: laws are compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regrow.errors import InputError
from regrow.units import plural

#: Readings that a curve takes at least: two give its straight part, the others its bend and the noise.
LEAST_READINGS = 8
#: Ratios of the two variances that are tried, on a scale that does not depend on the units of x.
_RATIOS = np.geomspace(1e-4, 1e8, 97)


@dataclass(frozen=True, kw_only=True, eq=False)
class SmoothCurve:
    """The posterior of a smooth curve.

    Attributes:
        x: places of the readings [n], ln tokens.
        coefficients: mean weights [n + 2] of the basis: 1, x and one kernel for each reading.
        root: square root [n + 2, rank] of the weights' covariance.
        noise: standard deviation of a reading, nats/token.
    """

    x: np.ndarray
    coefficients: np.ndarray
    root: np.ndarray
    noise: float

    def mean(self, tokens: np.ndarray) -> np.ndarray:
        """Posterior mean [k] at `tokens` [k]."""
        return self._basis(tokens) @ self.coefficients

    def draws(self, tokens: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
        """Curves drawn from the posterior, [count, k]."""
        rng = np.random.default_rng(seed)
        weights = self.coefficients + rng.standard_normal((count, self.root.shape[1])) @ self.root.T
        return weights @ self._basis(tokens).T

    def _basis(self, tokens: np.ndarray) -> np.ndarray:
        x = np.log(np.asarray(tokens, dtype=float))
        return _basis(x, self.x)


def smooth_curve(tokens: np.ndarray, losses: np.ndarray) -> SmoothCurve:
    """Fit the curve to readings [n] at `tokens` above 0.

    Raises `InputError` for fewer than `LEAST_READINGS` readings, or for one that is not finite.
    """
    tokens, losses = np.asarray(tokens, dtype=float), np.asarray(losses, dtype=float)
    kept = tokens > 0
    tokens, losses = tokens[kept], losses[kept]
    if len(tokens) < LEAST_READINGS:
        raise InputError(
            f"{plural(len(tokens), 'reading')} above 0 tokens",
            where="smooth curve",
            hint=f"a curve without a law takes {LEAST_READINGS} or more; evaluate more often",
        )
    if not np.isfinite(losses).all():
        raise InputError("a loss is not finite", where="smooth curve", hint="drop the reading or mend it")
    x = np.log(tokens)
    straight, kernel = _basis(x, x)[:, :2], _kernel(x, x)
    tried = [(*_restricted(losses, straight, kernel, ratio), ratio) for ratio in _RATIOS]
    _, variance, line, ratio = min(tried, key=lambda one: one[0])
    return _posterior(x, losses, straight, kernel, ratio, variance, line)


def _kernel(at: np.ndarray, readings: np.ndarray) -> np.ndarray:
    """Covariance [k, n] of the integrated Wiener process that starts at the first reading, in units of their range."""
    low, width = readings[0], readings[-1] - readings[0]
    s, t = (at[:, None] - low) / width, (readings[None, :] - low) / width
    s = np.maximum(s, 0.0)  # before the first reading the curve is straight
    least, most = np.minimum(s, t), np.maximum(s, t)
    return least**2 * (3 * most - least) / 6


def _basis(at: np.ndarray, readings: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones_like(at), at - readings.mean(), _kernel(at, readings)])


def _restricted(
    y: np.ndarray, straight: np.ndarray, kernel: np.ndarray, ratio: float
) -> tuple[float, float, np.ndarray]:
    """-2 log restricted likelihood up to a constant, the noise variance at its maximum, and the straight part [2]."""
    covariance = np.eye(len(y)) + ratio * kernel
    root = np.linalg.cholesky(covariance)
    design, target = np.linalg.solve(root, straight), np.linalg.solve(root, y)
    gram = design.T @ design
    line = np.linalg.solve(gram, design.T @ target)
    dof = len(y) - straight.shape[1]
    # readings without any noise would make the likelihood infinite
    variance = max(float(np.sum((target - design @ line) ** 2)) / dof, 1e-16)
    log_dets = 2 * np.log(np.diag(root)).sum() + np.linalg.slogdet(gram)[1]
    return dof * np.log(variance) + log_dets, variance, line


def _posterior(
    x: np.ndarray,
    y: np.ndarray,
    straight: np.ndarray,
    kernel: np.ndarray,
    ratio: float,
    variance: float,
    line: np.ndarray,
) -> SmoothCurve:
    """Weights of the basis and their covariance, with a flat prior on the straight part (the limit of Wahba 1978)."""
    n = len(x)
    inverse = np.linalg.inv(np.eye(n) + ratio * kernel)
    mean = np.concatenate([line, ratio * inverse @ (y - straight @ line)])
    # f = K w with w ~ N(0, ratio * variance * K^-1): the precision of the weights is that of the basis' ridge
    design = np.column_stack([straight, kernel])
    penalty = np.zeros((n + 2, n + 2))
    penalty[2:, 2:] = kernel / ratio
    precision = design.T @ design + penalty
    # the first kernel is zero everywhere, as the process starts there: its weight is held at 0
    values, vectors = np.linalg.eigh(precision)
    kept = values > values[-1] * 1e-14
    root = vectors[:, kept] * np.sqrt(variance / values[kept])
    return SmoothCurve(x=x, coefficients=mean, root=root, noise=float(np.sqrt(variance)))
