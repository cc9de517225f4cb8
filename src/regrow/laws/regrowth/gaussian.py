"""Normal likelihoods in information form, and effects integrated out of them. Pure kernels, numpy only.

What readings say of a vector x is log p = -x' M x / 2 + h' x + c. For x = m + u with u ~ N(0, diag(s^2)) the effect u
can be integrated out, which leaves a likelihood of m of the same form; a run's effect first, then, summed over its
runs, a cell's. So the cost of a fit grows with the number of runs, not with its cube
(Searle, Casella & McCulloch 1992, Variance Components, chapter 7, for the matrices).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Information:
    """M [N, K, K] and h [N, K] of N vectors; `constant` is the sum of their c."""

    matrix: np.ndarray
    vector: np.ndarray
    constant: float = 0.0

    def gathered(self, group: np.ndarray, groups: int) -> Information:
        """The information on vectors that several share: summed over `group` [N], into [groups, ...]."""
        matrix = np.zeros((groups, *self.matrix.shape[1:]))
        vector = np.zeros((groups, self.vector.shape[1]))
        np.add.at(matrix, group, self.matrix)
        np.add.at(vector, group, self.vector)
        return Information(matrix=matrix, vector=vector, constant=self.constant)


@dataclass(frozen=True, kw_only=True, eq=False)
class Effect:
    """An effect that was integrated out: the information on what lies above it, and what gives it back.

    Given the mean m the effect is normal with mean gain (h - M m) and covariance `gain` [N, K, K].
    """

    below: Information
    above: Information
    gain: np.ndarray

    def given(self, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The effect and x = m + effect, where m is normal with `mean` [N, K] and `covariance` [N, K, K].

        Returns the effect's mean and covariance, then those of x.
        """
        shrink = self.gain @ self.below.matrix
        surprise = self.below.vector - np.einsum("nij,nj->ni", self.below.matrix, mean)
        effect = np.einsum("nij,nj->ni", self.gain, surprise)
        keep = np.eye(shrink.shape[-1]) - shrink
        effect_covariance = self.gain + shrink @ covariance @ np.swapaxes(shrink, 1, 2)
        whole = keep @ covariance @ np.swapaxes(keep, 1, 2) + self.gain
        return effect, effect_covariance, mean + effect, whole


def integrate_out(below: Information, deviation: np.ndarray) -> Effect:
    """Integrate out a normal effect with standard deviations [K] or, one for each vector, [N, K]; 0 is allowed."""
    scaled = np.eye(deviation.shape[-1]) + deviation[..., :, None] * below.matrix * deviation[..., None, :]
    gain = deviation[..., :, None] * np.linalg.inv(scaled) * deviation[..., None, :]
    reach = np.einsum("nij,nj->ni", gain, below.vector)
    constant = 0.5 * float(np.sum(below.vector * reach)) - 0.5 * float(np.linalg.slogdet(scaled)[1].sum())
    above = Information(
        matrix=below.matrix - below.matrix @ gain @ below.matrix,
        vector=below.vector - np.einsum("nij,nj->ni", below.matrix, reach),
        constant=below.constant + constant,
    )
    return Effect(below=below, above=above, gain=gain)


def roots(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root [..., K, K] of covariances [..., K, K] that may be singular.

    It is the one root that moves little where the covariance does, so that draws from it do not hang on rounding.
    """
    values, vectors = np.linalg.eigh(0.5 * (covariance + np.swapaxes(covariance, -1, -2)))
    return (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
