"""What the readings of every run say of its psi, at given spreads of the noise; a block of runs at a time.

The curve of a run is taken as linear around a psi, so its readings are normal information on psi. Of the noise's
covariance only small sums over the readings of a run are kept, so that memory grows with the number of runs and not
with the square of their readings (`regrow.laws.regrowth.bins` bounds those).

Shapes: `R` runs, `m` bins of readings, K of the four numbers of psi; x = (1, -psi), of 1 + K numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regrow.laws.regrowth import noise
from regrow.laws.regrowth.bins import MOST, gather
from regrow.laws.regrowth.curve import first_guess, gap_and_jacobian
from regrow.laws.regrowth.effects import LEVEL_BY_PACE
from regrow.laws.regrowth.gaussian import Information
from regrow.laws.regrowth.runs import RunArrays

#: runs whose matrices are held at once
_RUNS = 256
#: how many times as many readings a run of a block has at most as another: every matrix is as large as the largest
_LONGER = 1.3


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseSums:
    """What the gradient by the spreads of the noise needs of each of the three parts P of the covariance V.

    Attributes:
        trace: of V^-1 P, [3, R].
        square: X' V^-1 P V^-1 X, with the targets and the Jacobian as the columns of X, [3, R, 1 + K, 1 + K].
    """

    trace: np.ndarray
    square: np.ndarray

    def gradient(self, spreads: np.ndarray, psi: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """[3], of the log likelihood by the logarithms of the spreads, for psi normal with [R, K] and [R, K, K]."""
        x = np.concatenate([np.ones((len(psi), 1)), -psi], axis=1)
        expected = np.einsum("ri,prij,rj->p", x, self.square, x)
        expected += np.einsum("rij,prij->p", covariance, self.square[:, :, 1:, 1:])
        return spreads**2 * (expected - self.trace.sum(axis=1))


class Block:
    """Some runs, about as long as each other, with their readings gathered in bins.

    `runs` [r] are their indices, in rising order.
    """

    def __init__(self, arrays: RunArrays, runs: np.ndarray) -> None:
        self.runs = runs
        place = np.full(len(arrays.runs), -1)
        place[runs] = np.arange(len(runs))
        mine = np.flatnonzero(place[arrays.run] >= 0)
        self.run = place[arrays.run[mine]]
        self.tokens, self.gap, self.loss = arrays.tokens[mine], arrays.gap[mine], arrays.loss[mine]
        self.gap_pruned, self.loss_before = arrays.gap_pruned[runs], arrays.loss_before[runs]
        self.bins = gather(self.run, noise.log_of(self.tokens))
        # the noise goes with what was read: with the fitted gap a poor start would excuse itself
        self.own, self.swings = noise.parts(self.bins, self.tokens, self.loss, np.abs(self.gap))
        self.known = self.bins.padded(self.bins.sums(arrays.stderr[mine] ** 2) / self.bins.count**2)

    def guess(self) -> np.ndarray:
        """psi [R, 4] from which a fit starts."""
        tokens = np.exp(self.bins.means(np.log(self.tokens)))
        return first_guess(self.bins.means(self.gap), self.gap_pruned, tokens, self.bins.seen)

    def linearise(self, natural: np.ndarray, psi: np.ndarray) -> None:
        """Take the curves as linear around psi [R, K]; `natural` is the same as the curve takes it."""
        gap, jacobian = gap_and_jacobian(
            natural[self.run], self.gap_pruned[self.run], self.loss_before[self.run], self.tokens[:, None]
        )
        jacobian = jacobian[:, 0]
        jacobian[:, 1] += LEVEL_BY_PACE * jacobian[:, 0]
        self.jacobian = self.bins.means(jacobian[:, : psi.shape[1]])
        rest = self.bins.means(self.gap - gap[:, 0])
        self.target = rest + np.einsum("rmk,rk->rm", self.jacobian, psi)

    def information(self, spreads: np.ndarray) -> tuple[Information, NoiseSums]:
        """Of every run's psi, at the noise's three standard deviations."""
        covariance = noise.covariance(self.bins, spreads, self.own, self.swings, known=self.known)
        inverse = np.linalg.inv(covariance)
        x = np.concatenate([self.target[..., None], self.jacobian], axis=2)
        weighted = inverse @ x
        seen = np.swapaxes(x, 1, 2) @ weighted
        constant = -0.5 * float(seen[:, 0, 0].sum()) - 0.5 * float(np.linalg.slogdet(covariance)[1].sum())
        transposed = np.swapaxes(weighted, 1, 2)
        trace = [np.einsum("rmm,rm->r", inverse, self.own)]
        trace += [np.einsum("rmn,rmn->r", inverse, part) for part in self.swings]
        square = [transposed @ (self.own[..., None] * weighted)]
        square += [transposed @ (part @ weighted) for part in self.swings]
        return (
            Information(matrix=seen[:, 1:, 1:], vector=seen[:, 1:, 0], constant=constant),
            NoiseSums(trace=np.stack(trace), square=np.stack(square)),
        )


class Readings:
    """The readings of all runs."""

    def __init__(self, arrays: RunArrays) -> None:
        self.blocks = [Block(arrays, runs) for runs in alike(np.bincount(arrays.run))]
        #: where each run stands in the order of the blocks, [R]
        self.place = np.argsort(np.concatenate([block.runs for block in self.blocks]))

    def guess(self) -> np.ndarray:
        """psi [R, 4] from which a fit starts."""
        return np.concatenate([block.guess() for block in self.blocks])[self.place]

    def linearise(self, natural: np.ndarray, psi: np.ndarray) -> None:
        """Take the curves as linear around psi [R, K]; `natural` is the same as the curve takes it, [R, 4]."""
        for block in self.blocks:
            block.linearise(natural[block.runs], psi[block.runs])

    def information(self, spreads: np.ndarray) -> tuple[Information, NoiseSums]:
        """Of every run's psi, at the noise's three standard deviations."""
        found, sums = zip(*(block.information(spreads) for block in self.blocks), strict=True)
        return (
            Information(
                matrix=np.concatenate([one.matrix for one in found])[self.place],
                vector=np.concatenate([one.vector for one in found])[self.place],
                constant=sum(one.constant for one in found),
            ),
            NoiseSums(
                trace=np.concatenate([one.trace for one in sums], axis=1)[:, self.place],
                square=np.concatenate([one.square for one in sums], axis=1)[:, self.place],
            ),
        )


def alike(readings: np.ndarray) -> list[np.ndarray]:
    """Blocks of at most `_RUNS` runs whose numbers of readings [R] differ little; indices in rising order."""
    bins = np.minimum(readings, MOST)
    order = np.argsort(bins, kind="stable")
    blocks: list[list[int]] = []
    for run in order.tolist():
        if not blocks or len(blocks[-1]) == _RUNS or bins[run] > _LONGER * bins[blocks[-1][0]]:
            blocks.append([])
        blocks[-1].append(run)
    return [np.sort(block) for block in blocks]
