"""Width pruning with compensation for the neurons that are removed: `down_proj` is solved again by least squares.

With x [intermediate] the neurons' activations on calibration text, W [hidden, intermediate] the dense `down_proj` and K
the neurons that stay, the new W' [hidden, K] best reproduces the dense layer's outputs from the remaining neurons,

    minimise  E |W x - W' x_K|^2 + damping * |W' - W_K|^2,    W' = W_K + W_R G_RK (G_KK + damping I)^-1,

with G = E x x^T and R the neurons that go. He et al. 2017 (arXiv 1707.06168, section 3) do so for the channels of
convolutions. Blocks are solved in order, each on the activations that the pruned and solved blocks before it give.

A few thousand tokens are little data for a thousand neurons. With little damping W' fits the calibration text and
predicts other text worse. The right damping depends on the block and on the amount of text. So each block chooses its
damping by two-fold cross-validation: W' is solved on one half of the text and judged on the other. The chosen damping
is halved, because the final solution uses twice as much text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from regrow.arch import Architecture
from regrow.errors import InputError, RunFailed
from regrow.models.layout import block_name
from regrow.pruning.calibration import Activation
from regrow.pruning.kernel import Needs
from regrow.pruning.plan import PrunePlan
from regrow.pruning.search import NarrowedSource
from regrow.pruning.sparsegpt import Hessian
from regrow.pruning.sparsify import summed, walk_parts
from regrow.pruning.stream import BlockStream

#: The layer whose weights are solved again.
_SOLVED = "mlp.down_proj"

#: Shares of the mean square activation that may be added to the diagonal of G: they hold W' near W.
DAMPINGS = (0.01, 0.1, 1.0, 10.0)
#: The damping where there is a single sample, which cannot be halved.
DAMPING = 1.0

#: Sums of outputs on which dampings are compared, at most.
SKETCHED = 64


class LeastSquares(Activation):
    """Keeps the same parts as `Activation`, and solves `down_proj` again for the neurons that stay."""

    def prune(
        self,
        stream: BlockStream,
        plan: PrunePlan,
        tokens: torch.Tensor | None,
        *,
        progress: Callable[[str], None] | None = None,
        **options: Any,
    ) -> Iterator[dict[str, torch.Tensor]]:
        if plan.kept_intermediate is None:
            return super().prune(stream, plan, tokens)
        if tokens is None:
            raise InputError(
                "least squares need calibration text", where="calibration", hint="give --calibration as well"
            )
        return refit(stream, plan, tokens, progress=progress)

    def needs(self, arch: Architecture, *, samples: int, length: int, iterative: bool) -> Needs:
        return Needs(
            # G of either half, what stays of both, one of these damped and its factor, in float32
            solver=6 * 4 * arch.intermediate**2 if samples else 0,
            narrowed=True,
            # the norm's output and the neurons, of all tokens
            per_token=arch.hidden + max(arch.intermediate, arch.heads * arch.head_dim),
        )


def refit(
    stream: BlockStream, plan: PrunePlan, tokens: torch.Tensor, *, progress: Callable[[str], None] | None = None
) -> Iterator[dict[str, torch.Tensor]]:
    """Each block's new `down_proj` weight [hidden, intermediate after pruning] by its name, in its stored type.

    Runs tokens [samples, length] through the model once, with one block in memory at a time: the neurons' activations
    on all tokens are kept while the block's `down_proj` is solved, and then run through it. A plan that
    leaves the feed-forward width whole changes nothing. Raises `RunFailed` if activations are not finite.
    """
    if plan.kept_intermediate is None:
        return
    # everything but the neurons is narrowed, so that the activations are those of the pruned model
    wide = replace(plan, after=plan.after.with_shape(intermediate=plan.before.intermediate), kept_intermediate=None)
    narrowed = stream.over(NarrowedSource(stream.source, wide))
    hidden = narrowed.embed(tokens)
    for layer, block in narrowed.blocks():
        name = block_name(layer, f"{_SOLVED}.weight")
        kept = torch.tensor(plan.kept_intermediate[layer], device=narrowed.device)
        for group, neurons in walk_parts(narrowed, block, hidden, final=layer + 1 == narrowed.layers):
            if group == (_SOLVED,):
                stored = _solve_block(block.mlp.down_proj.weight, neurons, kept, where=name)
                stored = stored.to(stream.source.layout[name].dtype)
                # a zero column is a neuron that is gone; what follows sees the numbers as they are stored
                weight = block.mlp.down_proj.weight.zero_()
                weight[:, kept] = stored.to(weight.dtype)
        if progress:
            progress(f"least squares: {layer + 1} of {narrowed.layers} blocks")
        yield {name: stored}


def _solve_block(weight: torch.Tensor, neurons: torch.Tensor, kept: torch.Tensor, *, where: str) -> torch.Tensor:
    """The W' [hidden, kept] of a block whose `down_proj` reads neurons [samples, length, intermediate].

    In float32: G is a sum in float32, and the damping keeps the system far from singular.
    """
    if len(neurons) == 1:
        return solve(weight, _gram(neurons), kept, dtype=torch.float32, where=where)
    first, second = (_gram(half) for half in neurons.tensor_split(2))
    damping = choose_damping(weight, first, second, kept) / 2
    gram = first.lerp_(second, len(neurons) // 2 / len(neurons))
    return solve(weight, gram, kept, damping=damping, dtype=torch.float32, where=where)


def choose_damping(
    weight: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    kept: Sequence[int] | torch.Tensor,
    *,
    dampings: Sequence[float] = DAMPINGS,
) -> float:
    """Of `dampings`, ascending, the one whose W', solved on one half's G [in, in], errs least on the other's.

    Both halves take both parts, and their errors are summed. The error falls and then rises with the damping, so the
    search goes downhill from the middle: of four dampings it tries three. Where there are more outputs than `SKETCHED`,
    so many sums of them with random signs stand for all: the expected error is the same, and all dampings are compared
    on the same sums. Computed in the type of the halves, because a comparison needs few digits. A damping with which
    the system cannot be solved is chosen only if that holds for all.
    """
    weight = _sketch(weight.detach().to(first.dtype))
    halves = [_Equations.of(weight, gram, kept) for gram in (first, second)]

    @cache
    def error(place: int) -> float:
        try:
            changes = [seen.solve(dampings[place], where="least squares") for seen in halves]
        except RunFailed:
            return math.inf
        return float(sum(unseen.error(change) for unseen, change in zip(reversed(halves), changes, strict=True)))

    place = len(dampings) // 2
    step = -1 if place and error(place - 1) < error(place) else 1
    while 0 <= place + step < len(dampings) and error(place + step) < error(place):
        place += step
    return dampings[place]


def _sketch(weight: torch.Tensor) -> torch.Tensor:
    """At most `SKETCHED` rows that stand for all of a weight [out, in]: sums with random signs, always the same."""
    if len(weight) <= SKETCHED:
        return weight
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (SKETCHED, len(weight)), generator=generator).to(weight).mul_(2).sub_(1)
    return signs @ weight


@dataclass(frozen=True)
class _Equations:
    """X (G_KK + damping I) = A for X; K are the neurons that stay, R those that go.

    Attributes:
        inner: G_KK [kept, kept].
        right: A [rows, kept]: W_R G_RK, or G_RK alone.
        mean: of the whole diagonal of G.
    """

    inner: torch.Tensor
    right: torch.Tensor
    mean: torch.Tensor

    @classmethod
    def of(cls, weight: torch.Tensor | None, gram: torch.Tensor, kept: Sequence[int] | torch.Tensor) -> _Equations:
        """X is W' - W_K for a weight [out, in]; with None what W_R is to be multiplied with to give that."""
        kept = torch.as_tensor(kept, device=gram.device)
        gone = _others(kept, len(gram))
        columns = gram.index_select(1, kept)
        right = columns[gone] if weight is None else weight[:, gone] @ columns[gone]
        return cls(columns.index_select(0, kept), right, gram.diagonal().mean())

    def solve(self, damping: float, *, where: str) -> torch.Tensor:
        """X [rows, kept]. Raises `RunFailed` if there is no unique solution."""
        added = float(damping * self.mean)
        if added == 0 and damping:
            # if all neurons are zero on all of the text, there is nothing to solve for
            return torch.zeros_like(self.right)
        system = self.inner.clone()
        system.diagonal().add_(added)
        lower, failed = torch.linalg.cholesky_ex(system)
        if failed:
            raise RunFailed("the least squares have no unique solution", where=where, hint="give more calibration text")
        return torch.cholesky_solve(self.right.T, lower).T

    def error(self, change: torch.Tensor) -> torch.Tensor:
        """E |W x - W' x_K|^2 with W' - W_K = `change` [out, kept], solved on other text.

        The error of removing R alone, which is the same for all dampings, is left out.
        """
        return (change @ self.inner).sub_(self.right, alpha=2).mul_(change).sum()


def _others(kept: torch.Tensor, width: int) -> torch.Tensor:
    """Mask [width] of the neurons that go."""
    gone = torch.ones(width, dtype=torch.bool, device=kept.device)
    gone[kept] = False
    return gone


def solve(
    weight: torch.Tensor,
    gram: torch.Tensor,
    kept: Sequence[int] | torch.Tensor,
    *,
    damping: float = DAMPING,
    dtype: torch.dtype = torch.float64,
    where: str = "least squares",
) -> torch.Tensor:
    """W' [out, kept] for weights [out, in] and the G [in, in] of their inputs, computed in `dtype`.

    Raises `RunFailed` if G is not finite, or cannot be solved with at the given damping.
    """
    gram, weight = gram.to(dtype), weight.detach().to(dtype)
    if not gram.isfinite().all():
        raise RunFailed("the activations are not finite", where=where, hint="the model's weights may be broken")
    kept = torch.as_tensor(kept, device=weight.device)
    gone = weight[:, _others(kept, len(gram))]
    # solved for the fewer rows: of W_R G_RK or of G_RK
    few = gone.shape[1] < gone.shape[0]
    change = _Equations.of(None if few else weight, gram, kept).solve(damping, where=where)
    return weight.index_select(1, kept).add_(gone @ change if few else change)


def _gram(neurons: torch.Tensor) -> torch.Tensor:
    """The mean of x x^T [intermediate, intermediate] over neurons [samples, length, intermediate], float32."""
    hessian: torch.Tensor = summed(Hessian, neurons).matrix()
    return hessian.mul_(0.5)
