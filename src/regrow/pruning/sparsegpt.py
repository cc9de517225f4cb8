"""SparseGPT: which weights are removed, and how the others compensate (Frantar and Alistarh 2023, arXiv 2301.00774).

For a linear layer with weights W [out, in] and calibration inputs X [tokens, in], the squared error of its outputs has
the Hessian H = 2 X^T X, the same for every row. Columns are pruned one after another: the error that pruning makes in
a column is passed on to the columns that are still to come, by the inverse Hessian of these. With U the upper Cholesky
factor of H^-1 (H^-1 = U^T U), row i of U over U[i, i] says how much of column i's error each later column takes
(algorithm 1).

The paper goes from left to right. Here the groups with the largest inputs come first, while most columns can still
compensate for them, as the code of GPTQ offers for columns (Frantar et al. 2023, arXiv 2210.17323, `act-order`).
SmolLM2 lost less that way with every draw of calibration text, at no cost (`benchmarks/pruning/sparsity_order.py`).

Here as everywhere N:M means N kept of every M neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from regrow.arch import Architecture
from regrow.errors import RunFailed
from regrow.pruning.kernel import Needs, Notes
from regrow.pruning.semistructured import keep_largest
from regrow.pruning.sparsify import SparsityKernel, group_bytes

#: Share of the Hessian's mean diagonal that is added to its diagonal (the paper's 1%).
DAMPING = 0.01

#: Times ten each, up to this, when the Hessian cannot be factorised.
MAX_DAMPING = 100.0

#: Columns whose errors are gathered before the columns after them are updated (the paper's lazy batches).
BLOCK_COLUMNS = 128

#: Square float32 matrices that are held beside a Hessian: a factor and its inverse.
_SQUARES = 2


class Hessian:
    """H [in, in] / tokens, float32, summed over batches of inputs. The scale plays no part: see `factor`."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._sum = torch.zeros(width, width, device=device)
        self._tokens = 0

    def add(self, inputs: torch.Tensor) -> None:
        """Add inputs [..., in]."""
        rows = inputs.flatten(0, -2).float()
        self._tokens += rows.shape[0]
        # H is symmetric: the part above a staircase of four steps is left for `matrix`, three eighths of the work
        width = rows.shape[1]
        step = -(-width // 4)
        for start in range(0, width, step):
            end = min(width, start + step)
            self._sum[start:end, :end].addmm_(rows[:, start:end].T, rows[:, :end], alpha=2)

    def matrix(self) -> torch.Tensor:
        """The mean of 2 x x^T [in, in] over the tokens. Takes the sum's place: add nothing afterwards."""
        self._sum.tril_().div_(max(1, self._tokens))
        return self._sum.add_(self._sum.tril(-1).T)


@dataclass(frozen=True)
class Factor:
    """The inverse of a damped Hessian, factorised.

    Attributes:
        upper: U [in, in], upper, with U^T U the inverse, its rows and columns in `order`.
        order: the inputs [in] in the order in which they are settled.
        damping: what it took, as a share of the mean diagonal.
        dead: mask [in] of the inputs that were always zero.
    """

    upper: torch.Tensor
    order: torch.Tensor
    damping: float
    dead: torch.Tensor


def factor(hessian: torch.Tensor, m: int, *, damping: float = DAMPING, where: str = "SparseGPT") -> Factor:
    """Factorise the inverse of H + damping * mean(diag H) * I, with ten times the damping each time that fails.

    Groups of `m` neighbouring inputs come in the order of what they add to the diagonal, the most first; of equals the
    first. An input that is always zero gets a one on the diagonal, as in the paper's code; its weights do nothing and
    go.

    Raises `RunFailed` if the Hessian is not finite, or not even `MAX_DAMPING` helps. `hessian` is overwritten.
    """
    diagonal = hessian.diagonal()
    if not torch.isfinite(diagonal).all():
        raise RunFailed("the Hessian is not finite", where=where, hint="the model's weights may be broken")
    dead = diagonal == 0
    groups = diagonal.unflatten(0, (-1, m)).sum(1).argsort(descending=True, stable=True)
    order = (groups[:, None] * m + torch.arange(m, device=groups.device)).flatten()
    backwards = order.flip(0)
    # the view writes into the matrix
    diagonal[dead] = 1
    mean, added = diagonal.mean().item(), 0.0
    while True:
        diagonal.add_((damping - added) * mean)
        added = damping
        # H in reversed order is L L^T; L^-1 reversed is then upper, and the factor that is looked for: nothing is
        # factorised twice, and no inverse is rounded before it is factorised
        lower, failed = torch.linalg.cholesky_ex(hessian[backwards[:, None], backwards])
        if not failed.item() and torch.isfinite(lower.diagonal()).all():
            return Factor(_invert_lower(lower).flip(0, 1), order, damping, dead)
        if damping >= MAX_DAMPING:
            raise RunFailed(
                f"the Hessian cannot be factorised even with {damping:g} times its mean diagonal added",
                where=where,
                hint="give more calibration text",
            )
        damping = damping * 10 if damping else DAMPING


def _invert_lower(lower: torch.Tensor) -> torch.Tensor:
    """L^-1 of a lower triangular L [in, in], by eight groups of columns. The zeros above each group are left out, which
    saves half of the work."""
    inverse = torch.eye(len(lower), device=lower.device, dtype=lower.dtype)
    step = -(-len(lower) // 8)
    for start in range(0, len(lower), step):
        columns = inverse[start:, start : start + step]
        columns.copy_(torch.linalg.solve_triangular(lower[start:, start:], columns, upper=False))
    return inverse


def sparsegpt(weight: torch.Tensor, factored: Factor, n: int, m: int) -> torch.Tensor:
    """The pruned and updated weights [out, in], float32: `n` of every `m` neighbours in a row kept, the rest exactly 0.

    When a group of `m` columns is reached, the weights with the largest w^2 / U[i, i]^2 stay, given all updates so far.
    This is the error that removing each weight alone would cause. Of equals the first stay.
    """
    upper = factored.upper
    # one row per column: each step then works on numbers that lie together
    columns = weight.detach().T.index_select(0, factored.order).float()
    columns[factored.dead[factored.order]] = 0
    size = max(1, BLOCK_COLUMNS // m) * m
    for start in range(0, len(columns), size):
        end = min(start + size, len(columns))
        errors = _settle(columns[start:end], upper[start:end, start:end], n, m)
        if end < len(columns):
            columns[end:].addmm_(upper[start:end, end:].T, errors, alpha=-1)
    pruned = columns.new_empty(weight.shape)
    pruned.T.index_copy_(0, factored.order, columns)
    return pruned


def _settle(columns: torch.Tensor, upper: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Settle a block of columns [columns, out] in place, group by group; returns their errors over U[i, i]."""
    errors, shares = torch.empty_like(columns), torch.empty_like(columns)
    inverse = upper.diagonal().reciprocal()[:, None]
    rows, error_rows, share_rows = columns.unbind(0), errors.unbind(0), shares.unbind(0)
    for start in range(0, len(columns), m):
        end = start + m
        goes = ~keep_largest((columns[start:end] * inverse[start:end]).square_(), n)
        torch.mul(goes, inverse[start:end], out=shares[start:end])
        for i in range(start, end):
            error = torch.mul(rows[i], share_rows[i], out=error_rows[i])
            if i + 1 < end:
                columns[i + 1 : end].addr_(upper[i, i + 1 : end], error, alpha=-1)
        if end < len(columns):
            columns[end:].addmm_(upper[start:end, end:].T, errors[start:end], alpha=-1)
    # no weight is read after its group: all are zeroed at once
    columns.masked_fill_(shares != 0, 0.0)
    return errors


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
        dead = int(factored.dead.sum())
        if dead:
            notes.dead_inputs[where] = dead
        return sparsegpt(weight, factored, *pattern)

    def needs(self, arch: Architecture, *, samples: int, length: int, iterative: bool) -> Needs:
        if not samples:
            return Needs()
        query = arch.heads * arch.head_dim
        return Needs(
            # by columns, and as it becomes; one Hessian at a time, its factor and what that is made from
            solver=3 * group_bytes(arch) + 4 * (1 + _SQUARES) * max(arch.intermediate, arch.hidden, query) ** 2,
            # what a block's layers read, of all tokens: the last norm's output beside the neurons or the heads
            per_token=arch.hidden + max(arch.intermediate, query),
        )
