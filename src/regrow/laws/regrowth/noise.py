"""How the readings of one run scatter around its curve.

A reading is off by noise of its own and by a slow swing that neighbours share: training is a walk, and the readings of
one stretch of text lean the same way. The covariance of the log-loss residuals of a run is

    V = s0^2 I + (s1^2 + s2^2 g g' / (L L')) exp(-|ln T - ln T'| / l)

with L the loss, g the gap: part of the swing goes with the loss and part with the gap. An Ornstein-Uhlenbeck process in
the logarithm of the tokens; its length `l` was chosen by the marginal likelihood on studies/ladder-* (0.3, 0.6, 1.2).
"""

from __future__ import annotations

import numpy as np

from regrow.laws.regrowth.bins import Bins, shared_noise

#: standard deviations expected before the runs are seen: a reading's own, the swing's, and its share of the gap
EXPECTED = (5e-4, 1.5e-3, 5e-3)
#: e-folds of tokens over which a swing is forgotten
LENGTH = 0.6


def log_of(tokens: np.ndarray) -> np.ndarray:
    """ln of effective tokens, 0 for less than one."""
    return np.log(np.maximum(tokens, 1.0))


def parts(bins: Bins, tokens: np.ndarray, loss: np.ndarray, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What s0^2, s1^2 and s2^2 multiply in the covariance of the bins' means, in nats^2.

    Args:
        tokens, loss, gap: of the readings, [N].

    Returns:
        The diagonal [R, m] of the first matrix, which has nothing beside it, and the other two, [2, R, m, m].
    """
    own = bins.padded(bins.sums(loss**2) / bins.count**2)
    at = log_of(tokens)
    return own, np.stack([shared_noise(bins, at, scale, LENGTH) for scale in (loss, gap)])


def covariance(
    bins: Bins, spreads: np.ndarray, own: np.ndarray, swings: np.ndarray, *, known: np.ndarray | float = 0.0
) -> np.ndarray:
    """The covariance [R, m, m] of the bins' means at these three standard deviations, from its `parts`.

    `known` are variances [R, m] that come on top, as of benchmark scores. A place without a bin has the variance 1:
    whatever is read there counts for nothing, as it is 0.
    """
    out = spreads[1] ** 2 * swings[0] + spreads[2] ** 2 * swings[1]
    diagonal = np.arange(out.shape[1])
    out[:, diagonal, diagonal] += spreads[0] ** 2 * own + known + ~bins.seen
    return out
