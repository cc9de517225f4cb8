"""SparseGPT: which weights are removed, and how the others compensate (Frantar and Alistarh 2023, arXiv 2301.00774).

For a linear layer with weights W [out, in] and calibration inputs X [tokens, in], the squared error of its outputs has
the Hessian H = 2 X^T X, the same for every row. Columns are pruned one after another: the error that pruning makes in
a column is passed on to the columns that are still to come (algorithm 1). With H = L L^T, the columns of L in the
reverse of the order in which they are pruned, and D = W - pruned W for the columns that are done, the error is that of

    (L^T D)_i = L_ii D_i + sum over done k of L_ki D_k,

and a column i is best set to W_i + (sum over done k of L_ki D_k) / L_ii before its own weights go. The paper writes the
same with the Cholesky factor of H^-1. Here no inverse of the whole H is made: blocks of columns pass their D on by L,
and only within a block the errors go by the inverse of the block's own part of L.

The paper goes from left to right. Here the groups with the largest inputs come first, while most columns can still
compensate for them, as the code of GPTQ offers for columns (Frantar et al. 2023, arXiv 2210.17323, `act-order`).
SmolLM2 lost less that way with every draw of calibration text, at no cost (`benchmarks/pruning/sparsity_order.py`).

Here as everywhere N:M means N kept of every M neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from regrow.arch import Architecture
from regrow.errors import RunFailed
from regrow.pruning.kernel import Needs, Notes
from regrow.pruning.semistructured import Ranks
from regrow.pruning.sparsify import SparsityKernel, group_bytes

#: Share of the Hessian's mean diagonal that is added to its diagonal (the paper's 1%).
DAMPING = 0.01

#: Times ten each, up to this, when the Hessian cannot be factorised.
MAX_DAMPING = 100.0

#: Columns whose errors are gathered before the columns after them are updated (the paper's lazy batches).
BLOCK_COLUMNS = 128

#: Columns of a block that are settled before the block's other columns are updated.
_FEW = 16

#: Square float32 matrices that are held beside a Hessian: the same in order, and its factor.
_SQUARES = 2

#: Columns of the Hessian that are summed at a time, at least, and the most parts of it.
_BAND, _BANDS = 128, 8


class Hessian:
    """H [in, in] / tokens, float32, summed over batches of inputs. The scale plays no part: see `factor`."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._sum = torch.zeros(width, width, device=device)
        self._tokens = 0

    def add(self, inputs: torch.Tensor) -> None:
        """Add inputs [..., in]."""
        rows = inputs.flatten(0, -2)
        self._tokens += rows.shape[0]
        if rows.is_cuda and rows.dtype in (torch.bfloat16, torch.float16):
            # products of 16-bit numbers are exact in float32, which is what they are summed in
            self._sum.add_(torch.mm(rows.T, rows, out_dtype=torch.float32), alpha=2)
            return
        rows = rows.float()
        # H is symmetric: what lies right of the bands is left for `matrix`, nearly half of the work
        for start, end in self._bands():
            self._sum[start:end, :end].addmm_(rows[:, start:end].T, rows[:, :end], alpha=2)

    def matrix(self) -> torch.Tensor:
        """The mean of 2 x x^T [in, in] over the tokens. Takes the sum's place: add nothing afterwards."""
        self._sum.div_(max(1, self._tokens))
        for start, end in self._bands():
            self._sum[start:end, end:] = self._sum[end:, start:end].T
        return self._sum

    def _bands(self) -> Iterator[tuple[int, int]]:
        width = len(self._sum)
        step = max(_BAND, -(-width // _BANDS))
        return ((start, min(width, start + step)) for start in range(0, width, step))


@dataclass(frozen=True)
class Factor:
    """A damped Hessian, factorised.

    Attributes:
        lower: L [in, in], lower, with L L^T the Hessian, its rows and columns in the reverse of `order`.
        order: the inputs [in] in the order in which they are settled.
        damping: what it took, as a share of the mean diagonal.
        dead: mask [in] of the inputs that were always zero.
        dead_inputs: how many they are.
    """

    lower: torch.Tensor
    order: torch.Tensor
    damping: float
    dead: torch.Tensor
    dead_inputs: int


def factor(hessian: torch.Tensor, m: int, *, damping: float = DAMPING, where: str = "SparseGPT") -> Factor:
    """Factorise H + damping * mean(diag H) * I, with ten times the damping each time that fails.

    Groups of `m` neighbouring inputs come in the order of what they add to the diagonal, the most first; of equals the
    first. An input that is always zero gets a one on the diagonal, as in the paper's code; its weights do nothing and
    go.

    Raises `RunFailed` if the Hessian is not finite, or not even `MAX_DAMPING` helps. `hessian` is overwritten.
    """
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    # the numbers that decide come to the host at once: each transfer waits for the device
    finite, dead_inputs, mean = torch.stack(
        (diagonal.isfinite().all(), dead.sum(), (diagonal + dead.float()).mean())
    ).tolist()
    if not finite:
        raise RunFailed("the Hessian is not finite", where=where, hint="the model's weights may be broken")
    groups = diagonal.unflatten(0, (-1, m)).sum(1).argsort(descending=True, stable=True)
    order = (groups[:, None] * m + torch.arange(m, device=groups.device)).flatten()
    backwards, added = order.flip(0), 0.0
    # the view writes into the matrix
    diagonal.masked_fill_(dead, 1)
    while True:
        diagonal.add_((damping - added) * mean)
        added = damping
        lower, failed = torch.linalg.cholesky_ex(hessian.index_select(0, backwards).index_select(1, backwards))
        if ((failed == 0) & lower.diagonal().isfinite().all()).item():
            return Factor(lower, order, damping, dead, int(dead_inputs))
        if damping >= MAX_DAMPING:
            raise RunFailed(
                f"the Hessian cannot be factorised even with {damping:g} times its mean diagonal added",
                where=where,
                hint="give more calibration text",
            )
        damping = damping * 10 if damping else DAMPING


def sparsegpt(weight: torch.Tensor, factored: Factor, n: int, m: int) -> torch.Tensor:
    """The pruned and updated weights [out, in], float32: `n` of every `m` neighbours in a row kept, the rest exactly 0.

    When a group of `m` columns is reached, the weights with the largest w^2 / U[i, i]^2 stay, given all updates so far,
    with U the upper Cholesky factor of H^-1. This is the error that removing each weight alone would cause. Of equals
    the first stay.
    """
    lower, order = factored.lower, factored.order
    width = len(order)
    # one row per column, in the order in which they are settled: each step then works on numbers that lie together
    columns = weight.detach().T.contiguous().index_select(0, order).float()
    if factored.dead_inputs:
        columns.masked_fill_(factored.dead[order, None], 0.0)
    passed = torch.zeros_like(columns)
    size = max(1, BLOCK_COLUMNS // m) * m
    for start in range(0, width, size):
        end = min(start + size, width)
        block = columns[start:end]
        # rows of L, which is in reverse order, the columns that are done left out
        rows = lower[width - end : width - start, : width - start].flip(0, 1)
        own, after = rows.split([end - start, width - end], dim=1)
        upper = torch.linalg.solve_triangular(own, torch.eye(end - start, device=own.device), upper=True)
        dense = block.clone()
        if start:
            block.addmm_(upper.T, passed[start:end])
        _settle(block, upper, n, m)
        if end < width:
            passed[end:].addmm_(after.T, dense.sub_(block))
    settled = torch.index_select(columns, 0, order.argsort(), out=passed)
    del columns, block
    return settled.T.contiguous()


def _settle(columns: torch.Tensor, upper: torch.Tensor, n: int, m: int) -> None:
    """Settle a block of columns [columns, out] in place, group by group; `upper` is U [columns, columns].

    The block is halved until `_FEW` columns are left: the first half passes its errors on to the second as a whole.
    So a step works on few numbers, which lie near.
    """
    inverse = upper.diagonal().reciprocal()[:, None]
    within = upper.triu(1)
    ratios = within.T * inverse
    errors, goes = torch.empty_like(columns), torch.empty_like(columns)
    ranks = Ranks(m, columns.shape[1], columns.device)

    def settle(start: int, end: int) -> None:
        if end - start > max(m, _FEW):
            middle = start + (end - start) // m // 2 * m
            settle(start, middle)
            columns[middle:end].addmm_(within[start:middle, middle:end].T, errors[start:middle], alpha=-1)
            settle(middle, end)
            return
        for first in range(start, end, m):
            group = slice(first, first + m)
            alone = columns[group] * inverse[group]
            gone = torch.ge(ranks(alone.abs()), n, out=goes[group])
            # a weight's error, given those of the weights that go before it in its group: exact after a step for each
            error = alone * gone
            for _ in range(m - n - 1):
                error = torch.addmm(alone, ratios[group, group], error, alpha=-1).mul_(gone)
            errors[group] = error
            columns[first:end].addmm_(within[group, first:end].T, error, alpha=-1)

    settle(0, len(columns))
    # no weight is read after its group: all are zeroed at once, to x - x = 0
    columns.addcmul_(columns, goes, value=-1)


class SparseGPT(SparsityKernel):
    """Removes the weights whose removal costs least after the others are updated to compensate, and updates them."""

    statistic = Hessian
    layer_by_layer = True

    def zero(
        self,
        weight: torch.Tensor,
        measured: Hessian,
        pattern: tuple[int, int],
        *,
        where: str,
        notes: Notes,
        say: Callable[[str], None],
    ) -> torch.Tensor:
        factored = factor(measured.matrix(), pattern[1], where=where)
        if factored.damping > DAMPING:
            notes.damping[where] = factored.damping
            say(f"{where}: the Hessian took a damping of {factored.damping:g}, not {DAMPING:g}")
        if factored.dead_inputs:
            notes.dead_inputs[where] = factored.dead_inputs
        return sparsegpt(weight, factored, *pattern)

    def needs(self, arch: Architecture, *, samples: int, length: int, iterative: bool) -> Needs:
        if not samples:
            return Needs()
        query = arch.heads * arch.head_dim
        return Needs(
            # as it is, what is passed on, and as it becomes; one Hessian at a time, the same in order and its factor
            solver=3 * group_bytes(arch) + 4 * (1 + _SQUARES) * max(arch.intermediate, arch.hidden, query) ** 2,
            # what a block's layers read, of all tokens: the last norm's output beside the neurons or the heads
            per_token=arch.hidden + max(arch.intermediate, query),
        )
