"""The fixed terms and crossed effects given what the cells say, with the effects of the models eliminated.

Every cell is of one model, so that no two effects of models meet in the information on them: their block of the matrix
is block-diagonal. With `x` the other numbers, a few, and `m` the effects of the models,

    information = [A  B; B' D],   S = (A - B' D^-1 B)^-1,   E[m | x] = D^-1 (v_m - B x),   var(m | x) = D^-1,

so that time and memory grow with the number of models, and not with its cube and its square (S is the inverse of a
Schur complement).

Shapes: `C` cells, `M` models, `a` other numbers, K of the four numbers of psi.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regrow.laws.regrowth.gaussian import Information, roots


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """How the mean psi of a cell follows: `shared` [C, K, a] times the other numbers, plus the effect of its `model`
    [C], one of `models`."""

    shared: np.ndarray
    model: np.ndarray
    models: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Crossed:
    """A normal distribution over the other numbers and the models' effects.

    Attributes:
        shared, models: means, [a] and [M, K].
        covariance: S, of the other numbers, [a, a].
        gain: D^-1 B, how a model's effect answers to the other numbers (with a minus), [M, K, a].
        inner: D^-1, the covariance of a model's effect given the other numbers, [M, K, K].
        log_determinant: of the information.
        fit: v' information^-1 v.
    """

    shared: np.ndarray
    models: np.ndarray
    covariance: np.ndarray
    gain: np.ndarray
    inner: np.ndarray
    log_determinant: float
    fit: float

    def of_cells(self, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
        """Mean [C, K] and covariance [C, K, K] of every cell's mean psi."""
        rows = weights.shared - self.gain[weights.model]
        mean = weights.shared @ self.shared + self.models[weights.model]
        return mean, self.inner[weights.model] + rows @ self.covariance @ np.swapaxes(rows, 1, 2)

    def model_variances(self) -> np.ndarray:
        """Variances of the models' effects, [M, K]."""
        through = np.einsum("mka,mka->mk", self.gain @ self.covariance, self.gain)
        return np.einsum("mkk->mk", self.inner) + through

    def covariance_of(self, shared: np.ndarray, models: np.ndarray) -> np.ndarray:
        """Covariance [r, r] of sums of the other numbers and the models' effects, weighed by [r, a] and [r, M, K]."""
        rows = shared - np.einsum("rmk,mka->ra", models, self.gain, optimize=True)
        own = np.einsum("rmk,mkl->rml", models, self.inner, optimize=True)
        count = len(models)
        return rows @ self.covariance @ rows.T + own.reshape(count, -1) @ models.reshape(count, -1).T

    def draw(self, draws: int, weights: Weights, rng: np.random.Generator) -> np.ndarray:
        """Deviations [draws, C, K] of the cells' mean psi from its mean, drawn together."""
        shared = rng.standard_normal((draws, len(self.shared))) @ roots(self.covariance)
        own = np.einsum("mkl,dml->dmk", roots(self.inner), rng.standard_normal((draws, *self.models.shape)))
        rows = weights.shared - self.gain[weights.model]
        return np.einsum("cka,da->dck", rows, shared) + own[:, weights.model]


def eliminate(
    cells: Information, weights: Weights, precision: np.ndarray, prior_mean: np.ndarray, of_model: np.ndarray
) -> Crossed:
    """The distribution given what the cells say of their mean psi.

    Args:
        precision, prior_mean: of the other numbers before the cells are seen, [a].
        of_model: precision of a model's effect, whose prior mean is 0, [K].
    """
    weighted = cells.matrix @ weights.shared
    count, numbers = weights.models, len(of_model)
    size = len(precision)
    whole = np.tensordot(weights.shared, weighted, axes=((0, 1), (0, 1)))
    whole = 0.5 * (whole + whole.T) + np.diag(precision)
    vector = np.tensordot(weights.shared, cells.vector, axes=((0, 1), (0, 1))) + precision * prior_mean
    of_models = cells.gathered(weights.model, count)
    across = np.zeros((count, numbers, size))
    np.add.at(across, weights.model, weighted)
    block = of_models.matrix + np.diag(of_model)
    inner = np.linalg.inv(block)
    gain = inner @ across
    reduced = whole - np.tensordot(across, gain, axes=((0, 1), (0, 1)))
    covariance = np.linalg.inv(0.5 * (reduced + reduced.T))
    shared = covariance @ (vector - np.tensordot(gain, of_models.vector, axes=((0, 1), (0, 1))))
    models = np.einsum("mkl,ml->mk", inner, of_models.vector) - gain @ shared
    return Crossed(
        shared=shared,
        models=models,
        covariance=covariance,
        gain=gain,
        inner=inner,
        log_determinant=float(np.linalg.slogdet(reduced)[1] + np.linalg.slogdet(block)[1].sum()),
        fit=float(vector @ shared + np.sum(of_models.vector * models)),
    )
