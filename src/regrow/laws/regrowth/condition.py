"""A run under way: the law of such runs and the run's own readings together.

The law's draws say what the run may be: level, pace, exponent, end and drift, a normal distribution with their mean and
covariance. The readings are normal around the run's curve, with the noise of the fit (`noise`). Gauss-Newton steps find
the most probable numbers, and the curvature there is the precision of the posterior (Laplace's method). So a run
without readings is the law's, one with many is its own, and every one between is weighed by what each knows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from regrow.laws.regrowth import noise
from regrow.laws.regrowth.bins import Bins, gather
from regrow.laws.regrowth.curve import gap_and_jacobian
from regrow.laws.regrowth.effects import TAILS

_STEPS, _SETTLED, _STEP = 30, 1e-6, 1.0
#: variance that a number has at least, so that one which never varies stays where it is
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Readings:
    """What was read of the run, [n]: effective tokens, tokens, losses; nats/token.

    `drifted` is the share of the whole drift that an unpruned model has made at each. `stderr` is what is known of the
    noise of each, on top of the fit's: that of a benchmark's score. With it the fit's noise does not go with the loss.
    """

    tokens: np.ndarray
    loss: np.ndarray
    loss_before: float
    gap_pruned: float
    drifted: np.ndarray
    stderr: np.ndarray | None = None

    def sorted(self) -> Readings:
        """In the order of the tokens."""
        order = np.argsort(self.tokens, kind="stable")
        return replace(
            self,
            tokens=self.tokens[order],
            loss=self.loss[order],
            drifted=self.drifted[order],
            stderr=None if self.stderr is None else self.stderr[order],
        )


def condition(
    prior: np.ndarray, read: Readings, spreads: np.ndarray, *, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Posterior draws of (psi, drift), [1 + draws, 5], row 0 the most probable; and how strange the readings are.

    Args:
        prior: draws of (psi, drift) of such runs, [m, 5], the first row their centre.
        spreads: the three standard deviations of the noise (`regrow.laws.regrowth.noise`).

    Strangeness is the squared distance of the readings from what the law expects over what it should be, about 1 where
    the run is of the law's kind.
    """
    centre = prior[0]
    covariance = np.cov(prior[1:], rowvar=False) + _LEAST_VARIANCE * np.eye(prior.shape[1])
    precision = np.linalg.inv(covariance)
    read = read.sorted()
    log_tokens = noise.log_of(read.tokens)
    bins = gather(np.zeros(len(log_tokens), dtype=int), log_tokens)
    scale = read.loss if read.stderr is None else np.ones_like(read.loss)
    own, swings = noise.parts(bins, read.tokens, scale, np.abs(read.loss - read.loss_before))
    known = 0.0 if read.stderr is None else bins.padded(bins.sums(read.stderr**2) / bins.count**2)
    scatter = noise.covariance(bins, spreads, own, swings, known=known)[0]
    weight = np.linalg.inv(scatter)
    at = centre.copy()
    for _ in range(_STEPS):
        rest, rows = _linear(at, read, bins)
        information = rows.T @ weight @ rows + precision
        step = np.linalg.solve(information, rows.T @ weight @ rest - precision @ (at - centre))
        step = np.clip(step, -_STEP, _STEP)
        at = at + step
        if np.abs(step).max() < _SETTLED:
            break
    rest, rows = _linear(at, read, bins)
    posterior = np.linalg.inv(rows.T @ weight @ rows + precision)
    root = np.linalg.cholesky(0.5 * (posterior + posterior.T))
    heavy = np.sqrt(TAILS / rng.chisquare(TAILS, (draws, 1)))
    drawn = at + heavy * (rng.standard_normal((draws, len(at))) @ root.T)
    first, first_rows = _linear(centre, read, bins)
    expected = scatter + first_rows @ covariance @ first_rows.T
    strange = float(first @ np.linalg.solve(expected, first)) / len(first)
    return np.concatenate([at[None, :], drawn]), strange


def _linear(at: np.ndarray, read: Readings, bins: Bins) -> tuple[np.ndarray, np.ndarray]:
    """Residuals [m] in nats and the derivatives [m, 5] of the loss by (psi, drift), as means over the bins."""
    gap, jacobian = gap_and_jacobian(at[:4], np.array(read.gap_pruned), np.array(read.loss_before), read.tokens)
    by_drift = read.loss_before * read.drifted
    rest = read.loss - read.loss_before - by_drift * at[4] - gap
    return bins.means(rest)[0], bins.means(np.concatenate([jacobian, by_drift[:, None]], axis=1))[0]
