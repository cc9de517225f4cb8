"""How an unpruned model moves on the same tokens: what a control shows, smoothed, and the law of it.

A constant learning rate heats an annealed model, and new text teaches it: the control's loss leaves the parent's, and
gaps are counted above it. Its readings are as noisy as any, and every run of a size would share that noise, so the
control is smoothed first. Where there is none, its drift is predicted from the family's other sizes,

    drift(D) = L0 A D / (D + D_d),

with A of each model and D_d of the family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

#: width of the smoothing in e-folds of tokens, and the prior precision that keeps its slope from running off
_WIDTH, _FLATNESS = 0.5, 0.02
#: tokens at which half of a drift is reached, where no control tells
DRIFT_TOKENS = 3e4
#: spread of the drift between models, a share of the loss, at least; and of one whose own control was read
LEAST_SPREAD, _OWN_SPREAD = 0.003, 0.0005
#: what models, and families, are expected to differ by before they are seen, a share of their mean drift (that of the
#: seven models and two families of studies/ladder-*, rounded), and the number of models that this is worth
_EXPECTED, _WORTH = 0.6, 2.0
#: half-drifts that are tried
_GRID = np.geomspace(1e3, 1e9, 61)


def smooth(tokens: np.ndarray, loss: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A control's loss [m] at tokens `at`, local-linear in the logarithm of its readings' tokens [n], all above 0."""
    apart = np.log(tokens)[None, :] - np.log(at)[:, None]
    weight = np.exp(-0.5 * (apart / _WIDTH) ** 2)
    total, first = weight.sum(axis=1), (weight * apart).sum(axis=1)
    second = (weight * apart**2).sum(axis=1) + _FLATNESS
    level, slope = weight @ loss, (weight * apart) @ loss
    return (second * level - first * slope) / (second * total - first**2)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The drift of a model of which there is no control.

    Attributes:
        share: A, a share of the loss before pruning; `spread` its standard deviation between models.
        tokens: D_d.
        shares: A of each model whose control was read, by its parameters; with none, `share` is 0.
    """

    share: float = 0.0
    spread: float = 0.0
    tokens: float = DRIFT_TOKENS
    shares: tuple[tuple[int, float], ...] = ()

    @property
    def models(self) -> int:
        """How many controls it rests on."""
        return len(self.shares)

    def of(self, size: int | None) -> Drift:
        """That of one model: its own where its control was read, else what the others say."""
        own = dict(self.shares).get(-1 if size is None else size)
        return self if own is None else replace(self, share=own, spread=_OWN_SPREAD)


def spread_of(shares: Sequence[float] | np.ndarray) -> float:
    """Standard deviation of drifts [n] between models or families: the expected one and the seen one, weighed."""
    seen = np.asarray(shares, dtype=float)
    mean = float(seen.mean())
    square = _WORTH * (_EXPECTED * mean) ** 2 + float(np.sum((seen - mean) ** 2))
    return max(float(np.sqrt(square / (_WORTH + len(seen) - 1))), LEAST_SPREAD)


def fit_drift(controls: Mapping[int, tuple[np.ndarray, np.ndarray, float]]) -> Drift:
    """The drift law of a family's controls, by parameters: tokens [n], losses [n] and the loss before training.

    Least squares in A of each model; D_d is the best of a grid.
    """
    known = {size: (t[t > 0], loss[t > 0] / before - 1) for size, (t, loss, before) in controls.items()}
    known = {size: curve for size, curve in known.items() if len(curve[0])}
    curves = list(known.values())
    if not curves:
        return Drift()
    best, answer = np.inf, Drift()
    for half in _GRID:
        shares, cost = [], 0.0
        for tokens, moved in curves:
            share = tokens / (tokens + half)
            amount = float(share @ moved / (share @ share))
            shares.append(amount)
            cost += float(np.sum((moved - amount * share) ** 2))
        if cost < best:
            mean = float(np.mean(shares))
            spread = spread_of(shares)
            best = cost
            answer = Drift(
                share=mean,
                spread=spread,
                tokens=float(half),
                shares=tuple(zip(known, shares, strict=True)),
            )
    return answer
