"""How the readings of one run scatter around its curve.

A reading is off by noise of its own and by a slow swing that neighbours share: training is a walk, and the readings of
one stretch of text lean the same way. The covariance of the log-loss residuals of a run is

    V = s0^2 I + (s1^2 + s2^2 g g' / (L L')) exp(-|ln T - ln T'| / l)

with L the loss, g the gap: part of the swing goes with the loss and part with the gap. An Ornstein-Uhlenbeck process in
the logarithm of the tokens; its length `l` was chosen by the marginal likelihood on studies/ladder-* (0.3, 0.6, 1.2).
"""

from __future__ import annotations

import numpy as np

#: standard deviations expected before the runs are seen: a reading's own, the swing's, and its share of the gap
EXPECTED = (5e-4, 1.5e-3, 5e-3)
#: e-folds of tokens over which a swing is forgotten
LENGTH = 0.6


def shared(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Correlation [..., n, m] of the swing between effective tokens [..., n] and [..., m]."""
    apart = np.log(np.maximum(one, 1.0))[..., :, None] - np.log(np.maximum(two, 1.0))[..., None, :]
    return np.exp(-np.abs(apart) / LENGTH)


def parts(tokens: np.ndarray, loss: np.ndarray, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three matrices [..., n, n] in nats^2 that s0^2, s1^2 and s2^2 multiply."""
    swing = shared(tokens, tokens)
    own = np.eye(tokens.shape[-1]) * (loss**2)[..., None, :]
    with_loss = swing * loss[..., :, None] * loss[..., None, :]
    with_gap = swing * gap[..., :, None] * gap[..., None, :]
    return own, with_loss, with_gap
