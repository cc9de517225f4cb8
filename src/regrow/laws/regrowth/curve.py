"""The curve of one run: how the gap that pruning opened closes with tokens. Pure functions, numpy only.

    G(D) = exp(a) G0 (1 + T/(b tau))^-b + e L0 (1 - (1 + T/(b tau))^-b),        T = effective tokens of D

G0 is the gap right after pruning. `a` is the level (0: the curve starts at G0), `tau` the pace, in tokens: the gap
falls by the share T/tau at first; `b` is the exponent of the tail. `e` is the end that the curve approaches, a share of
the loss before pruning L0: 0 where the gap closes wholly, above 0 where what is left can't close it, below 0 where the
training text teaches the model more than the parent knew. With b without limit the gap would fall as exp(-T/tau).

A run is described by psi = (a, log tau, log b, e).

Shapes: `R` runs, `n` readings; psi [..., 4].
"""

from __future__ import annotations

import numpy as np

#: largest logarithm of 1/(b tau): a search may try a pace of nearly no tokens, and an infinite u has no derivative
_MOST_LOG = 600.0
#: a gap smaller than this share of the loss before pruning counts as this large: no curve can be scaled by 0
LEAST_GAP = 1e-3


def effective_tokens(tokens: np.ndarray, warmup: np.ndarray | float) -> np.ndarray:
    """Tokens weighted by the learning rate over its peak, for a linear warm-up of `warmup` tokens: D^2/(2w), then
    D - w/2. What a step changes goes with its rate, so that the readings of a long warm-up fall on the curve of a short
    one."""
    tokens = np.asarray(tokens, dtype=float)
    rising = np.asarray(warmup, dtype=float)
    within = tokens * tokens / (2 * np.where(rising > 0, rising, 1.0))
    return np.where(tokens < rising, within, tokens - rising / 2)


def gap_and_jacobian(
    psi: np.ndarray, gap_pruned: np.ndarray, loss_before: np.ndarray, tokens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gaps [..., n] in nats and their derivatives [..., n, 4] by psi [..., 4], at effective tokens [..., n].

    Args:
        gap_pruned, loss_before: of each run, [...], in nats; `gap_pruned` is positive.
    """
    level, _, log_b, end = (psi[..., i, None] for i in range(4))
    b, u = np.exp(log_b), _scaled_tokens(psi, tokens)
    z = np.log1p(u)
    left = np.exp(-b * z)
    moved = b * u / (1 + u)
    start, reach = np.exp(level) * np.asarray(gap_pruned)[..., None], end * np.asarray(loss_before)[..., None]
    falling = (start - reach) * left
    rows = [
        start * left,
        falling * moved,
        falling * (moved - b * z),
        np.asarray(loss_before)[..., None] * (1 - left),
    ]
    return falling + reach, np.stack(rows, axis=-1)


def gap_alone(psi: np.ndarray, gap_pruned: np.ndarray, loss_before: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The gaps of `gap_and_jacobian` without the derivatives."""
    left = np.exp(-np.exp(psi[..., 2, None]) * np.log1p(_scaled_tokens(psi, tokens)))
    reach = psi[..., 3, None] * np.asarray(loss_before)[..., None]
    return (np.exp(psi[..., 0, None]) * np.asarray(gap_pruned)[..., None] - reach) * left + reach


def _scaled_tokens(psi: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """T/(b tau)."""
    return tokens * np.exp(np.minimum(-psi[..., 1, None] - psi[..., 2, None], _MOST_LOG))


#: exponents and paces that a start is searched among; paces in units of the geometric mean of a run's tokens
_EXPONENTS = np.array([0.15, 1 / 3, 0.7])
_PACES = np.geomspace(1e-3, 30.0, 24)
#: how far the level of a start may stand from 0
_LEVEL = 1.0


def first_guess(gap: np.ndarray, gap_pruned: np.ndarray, tokens: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """psi [R, 4] from which a fit starts: for every run the best curve of a grid, with the level by least squares.

    Args:
        gap, tokens, seen: readings [R, n]; nats, effective tokens, whether there is a reading.
        gap_pruned: [R] in nats.
    """
    middle = np.exp(np.sum(np.log(tokens) * seen, axis=1) / seen.sum(axis=1))
    best = np.full(len(gap), np.inf)
    psi = np.zeros((len(gap), 4))
    for b in _EXPONENTS:
        for pace in _PACES:
            left = gap_pruned[:, None] * (1 + tokens / (b * pace * middle[:, None])) ** -b * seen
            level = np.sum(left * gap, axis=1) / np.sum(left**2, axis=1)
            level = np.clip(np.log(np.maximum(level, 1e-12)), -_LEVEL, _LEVEL)
            cost = np.sum((np.exp(level)[:, None] * left - gap * seen) ** 2, axis=1)
            better = cost < best
            best = np.where(better, cost, best)
            psi[better] = np.stack(
                [level, np.log(pace * middle), np.full(len(gap), np.log(b)), np.zeros(len(gap))], axis=1
            )[better]
    return psi
