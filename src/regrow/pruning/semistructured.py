"""N:M sparsity: N weights kept of every M neighbours along the input dimension, the others exactly zero.

Scores: magnitude |W|, and Wanda |W| * ||x|| (Sun et al. 2024, arXiv 2306.11695), the weight times the L2 norm of its
input feature over calibration text. `regrow.pruning.sparsify` walks the blocks and measures the inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

from regrow.arch import Architecture
from regrow.errors import RunFailed
from regrow.pruning.kernel import Needs
from regrow.pruning.scores import Scores
from regrow.pruning.sparsify import SparsityKernel, group_bytes

#: Larger groups are sorted: comparing all pairs takes memory and time that grow with the square of the group.
MOST_COMPARED = 16

#: Rows of fours that are scored at a time, fewer of larger groups: scores and comparisons take several times the memory
#: of their weights.
SCORED_ROWS = 256


def n_m_mask(score: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Mask [out, in] that keeps the `n` largest of every `m` neighbours along the last dimension of `score`.

    Exactly `n` of each group stay: of equals the first, so that the result never depends on a sort.
    """
    places = score.unflatten(-1, (-1, m)).movedim(-1, 0).contiguous()
    return keep_largest(places, n).movedim(0, -1).flatten(-2)


def keep_largest(places: torch.Tensor, n: int) -> torch.Tensor:
    """Mask of the `n` largest of `places` [m, ...] along the first dimension; of equals the first."""
    columns = places.flatten(1)
    ranks = Ranks(len(columns), columns.shape[1], places.device)
    return (ranks(columns) < n).view(places.shape)


class Ranks:
    """Ranks of groups of `m` numbers from the largest, 0, to the smallest; of equals the first comes first.

    Made for a `count` of groups, and used for many times as many: the memory for comparisons is taken once.
    """

    def __init__(self, m: int, count: int, device: torch.device) -> None:
        self._compares = m <= MOST_COMPARED
        if self._compares:
            self._wins = torch.empty(m * (m - 1) // 2, count, device=device)
            self._rows = self._wins.split(list(range(m - 1, 0, -1)))
            self._lost, self._start = _tally(m, device)

    def __call__(self, places: torch.Tensor) -> torch.Tensor:
        """The ranks [m, count] of `places` [m, count], float32."""
        if not self._compares:
            order = places.argsort(dim=0, descending=True, stable=True)
            ranks = torch.arange(len(places), dtype=torch.float32, device=places.device)
            return torch.empty_like(places, dtype=torch.float32).scatter_(0, order, ranks[:, None].expand_as(order))
        # comparing whole tensors, each place with all after it, is many times faster than sorting fours; whole numbers
        # this small are exact in any floating type
        for first, rows in enumerate(self._rows):
            torch.ge(places[first], places[first + 1 :], out=rows)
        return torch.addmm(self._start, self._lost, self._wins)


@cache
def _tally(m: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors that turn comparisons into ranks: rank [m] = start [m, 1] + lost [m, pairs] @ wins [pairs].

    A win is 1 if the first of a pair is at least the second, else 0.
    """
    firsts, seconds = torch.triu_indices(m, m, offset=1)
    places = torch.arange(m)[:, None]
    # a place comes after each that wins over it, and after each later one that it doesn't win over
    lost = (places == seconds).float() - (places == firsts).float()
    return lost.to(device), (m - 1 - places).float().to(device)


def wanda_score(weight: torch.Tensor, input_norms: torch.Tensor) -> torch.Tensor:
    """|W| * ||x||, [out, in], in float32."""
    return weight.detach().float().abs() * input_norms.to(weight.device, torch.float32)


def magnitude_score(weight: torch.Tensor) -> torch.Tensor:
    """|W|, [out, in], in float32."""
    return weight.detach().float().abs()


class SquaredNorms:
    """Sums of squares [in] of inputs, float64 where the device knows it: what Wanda goes by."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.sums = torch.zeros(width, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)

    def add(self, inputs: torch.Tensor) -> None:
        """Add inputs [..., in]. Nothing waits for the device."""
        self.sums += inputs.float().square().flatten(0, -2).sum(0)

    @classmethod
    def of(cls, norms: torch.Tensor) -> SquaredNorms:
        """The sums behind norms [in]. Squares of float32 are exact in float64, so their roots are the norms again."""
        made = cls(0, norms.device)
        made.sums = norms.cpu().double().square()
        return made


class Magnitude(SparsityKernel):
    """Keeps the largest weights."""

    def zero(self, weight: torch.Tensor, measured: Any, pattern: tuple[int, int], **report: Any) -> torch.Tensor:
        return _zero(weight, magnitude_score, *pattern)

    def needs(self, arch: Architecture, *, samples: int, length: int, iterative: bool) -> Needs:
        return Needs(solver=_scored_bytes(arch))


class Wanda(SparsityKernel):
    """Keeps the weights that are largest after multiplication with the norm of their input."""

    statistic = SquaredNorms

    def zero(
        self, weight: torch.Tensor, measured: SquaredNorms, pattern: tuple[int, int], *, where: str, **report: Any
    ) -> torch.Tensor:
        if not measured.sums.isfinite().all():
            raise RunFailed("the inputs are not finite", where=where, hint="the model's weights may be broken")
        return _zero(weight, partial(wanda_score, input_norms=measured.sums.sqrt().float()), *pattern)

    def from_scores(self, scores: Scores, layer: int, linear: str) -> SquaredNorms:
        return SquaredNorms.of(scores.input_norms(layer, linear))

    def needs(self, arch: Architecture, *, samples: int, length: int, iterative: bool) -> Needs:
        return Needs(solver=_scored_bytes(arch) + (group_bytes(arch) if samples else 0))


def _zero(weight: torch.Tensor, score: Callable[[torch.Tensor], torch.Tensor], n: int, m: int) -> torch.Tensor:
    """The weights [out, in], in place, with all but the `n` of every `m` of the largest score exactly zero."""
    for rows in weight.split(max(1, SCORED_ROWS * 4 // m)):
        rows.masked_fill_(~n_m_mask(score(rows), n, m), 0)
    return weight


def _scored_bytes(arch: Architecture) -> int:
    """Memory for the rows scored at a time: scores, the same by place in the group, comparisons and ranks."""
    return 24 * SCORED_ROWS * max(arch.intermediate, arch.hidden, arch.heads * arch.head_dim)
