"""What runs tell of D* under a hierarchical law: normal posteriors, and the variance of log D* that they leave.

The state is everything that runs share: fixed terms, effects of families and methods, and one effect for each model. A
run tells psi, the four numbers of its curve (`regrow.laws.regrowth.curve`). They are linear in the state, plus an
effect of the run's cell and one of the run. The readings are taken as linear around the law's own curve. So they are
normal information on psi, and the effects of run and cell are integrated out (`shrunk`). ln D* of the target is taken
as linear in the target's psi. So its variance after any choice of runs has a closed form: a Bayesian c-optimal design,
averaged over draws of the law (Chaloner & Verdinelli 1995, Statistical Science 10(3)).

Shapes: `B` draws, `C` candidate runs in `K` cells, `Q` numbers of state. numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.laws.regrowth import noise
from regrow.laws.regrowth.bins import gather
from regrow.laws.regrowth.curve import gap_and_jacobian


def of_readings(
    psi: np.ndarray, gap_pruned: np.ndarray, loss_before: float, tokens: np.ndarray, spreads: np.ndarray
) -> np.ndarray:
    """Information [B, 4, 4] on psi [B, 4] in readings at effective tokens [B, n], which rise.

    Args:
        gap_pruned: [B] in nats.
        loss_before: nats/token.
        spreads: the three standard deviations of the noise (`regrow.laws.regrowth.noise`).
    """
    before = np.full(len(psi), loss_before)
    gap, jacobian = gap_and_jacobian(psi, gap_pruned, before, tokens)
    gap, flat = gap.ravel(), tokens.ravel()
    bins = gather(np.repeat(np.arange(len(psi)), tokens.shape[1]), noise.log_of(flat))
    scatter = noise.covariance(bins, spreads, *noise.parts(bins, flat, loss_before + gap, np.abs(gap)))
    seen = bins.means(jacobian.reshape(-1, 4))
    return np.swapaxes(seen, 1, 2) @ np.linalg.solve(scatter, seen)


def shrunk(information: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Information [..., 4, 4] on x - u where there is `information` on x and u is normal with `covariance` [4, 4]."""
    return np.linalg.solve(np.eye(4) + information @ covariance, information)


def absorb(covariance: np.ndarray, weights: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Covariance [B, Q, Q] of the state after `information` [B, 4, 4] on weights @ state, weights [B, 4, Q]."""
    seen = weights @ covariance
    return covariance - np.swapaxes(seen, 1, 2) @ shrunk(information, seen @ np.swapaxes(weights, 1, 2)) @ seen


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooled:
    """How well D* is known after a choice among candidate runs.

    Attributes:
        covariance: [Q, Q] of the state before any of them.
        cell: [C] the cell of each candidate.
        weights: [K, B, 4, Q] that turn the state into the mean psi of each cell.
        information: [C, B, 4, 4] of each candidate on the mean psi of its cell.
        made: [K, B, 4, 4] the same of the runs already made, which `covariance` has absorbed.
        of_cell: [4, 4] covariance of the effect of a cell.
        gradient: [B, Q] of log D* by the state.
        rest: [B] variance of log D* that no run of another model narrows: of the target's cell and run.
    """

    covariance: np.ndarray
    cell: np.ndarray
    weights: np.ndarray
    information: np.ndarray
    made: np.ndarray
    of_cell: np.ndarray
    gradient: np.ndarray
    rest: np.ndarray

    def after(self, chosen: Sequence[int]) -> np.ndarray:
        """Covariance [B, Q, Q] of the state after these runs."""
        out = np.broadcast_to(self.covariance, (len(self.gradient), *self.covariance.shape))
        by_cell: dict[int, np.ndarray] = {}
        for run in chosen:
            cell = int(self.cell[run])
            by_cell[cell] = by_cell.get(cell, 0.0) + self.information[run]
        for cell, more in by_cell.items():
            out = absorb(out, self.weights[cell], self._added(cell, np.zeros_like(more), more))
        return out

    def _added(self, cell: int, chosen: np.ndarray, more: np.ndarray) -> np.ndarray:
        """What `more` adds on the mean of a cell in which runs were made and `chosen` before."""
        known = self.made[cell] + chosen
        return shrunk(known + more, self.of_cell) - shrunk(known, self.of_cell)

    def variances(self, chosen: Sequence[int]) -> np.ndarray:
        """Variance [B] of log D* after these runs."""
        return np.einsum("bi,bij,bj->b", self.gradient, self.after(chosen), self.gradient) + self.rest

    def value(self, chosen: Sequence[int]) -> float:
        """Mean log variance of log D* after these runs; lower is better."""
        return float(np.log(self.variances(chosen)).mean())

    def gains(self, chosen: Sequence[int], new: np.ndarray) -> np.ndarray:
        """By how much each of the candidates `new` would lower `value`."""
        known = self.after(chosen)
        along = np.einsum("bij,bj->bi", known, self.gradient)
        left = np.einsum("bi,bi->b", self.gradient, along) + self.rest
        gains = np.empty(len(new))
        for i, run in enumerate(new):
            cell = int(self.cell[run])
            weights = self.weights[cell]
            there = sum((self.information[r] for r in chosen if self.cell[r] == cell), np.zeros((len(left), 4, 4)))
            added = self._added(cell, there, self.information[run])
            projected = np.einsum("bki,bi->bk", weights, along)
            narrowed = shrunk(added, weights @ known @ np.swapaxes(weights, 1, 2))
            less = np.einsum("bi,bij,bj->b", projected, narrowed, projected)
            gains[i] = -np.log1p(-np.minimum(less / left, 1 - 1e-12)).mean()
        return gains
