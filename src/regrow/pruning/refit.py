"""Width pruning with compensation for the neurons that are removed: `down_proj` is solved again by least squares.

With x [intermediate] the neurons' activations on calibration text, W [hidden, intermediate] the dense `down_proj` and K
the neurons that stay, the new W' [hidden, K] best reproduces the dense layer's outputs from the remaining neurons,

    minimise  E |W x - W' x_K|^2 + damping * |W' - W_K|^2,    W' = (W G_:K + damping W_K) (G_KK + damping I)^-1,

with G = E x x^T. He et al. 2017 (arXiv 1707.06168, section 3) do so for the channels of convolutions. Blocks are solved
in order, each on the activations that the pruned and solved blocks before it give.

A few thousand tokens are little data for a thousand neurons. With little damping W' fits the calibration text and
predicts other text worse. The right damping depends on the block and on the amount of text. So each block chooses its
damping by two-fold cross-validation: W' is solved on one half of the text and judged on the other. The chosen damping
is halved, because the final solution uses twice as much text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from regrow.arch import Architecture
from regrow.errors import InputError, RunFailed
from regrow.models.layout import block_name
from regrow.pruning.calibration import Activation
from regrow.pruning.kernel import Needs
from regrow.pruning.plan import PrunePlan
from regrow.pruning.search import NarrowedSource
from regrow.pruning.stream import BlockStream

#: Shares of the mean square activation that may be added to the diagonal of G: they hold W' near W.
DAMPINGS = (0.01, 0.1, 1.0, 10.0)
#: The damping where there is a single sample, which cannot be halved.
DAMPING = 1.0


class LeastSquares(Activation):
    """Keeps what `Activation` keeps, and solves `down_proj` again on what is left."""

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
            # the states before a block are kept while those after it are made
            walks=2,
            # either half's in float32; one of all in float64, and thrice the kept part
            solver=(2 * 4 + 4 * 8) * arch.intermediate**2 if samples else 0,
            narrowed=True,
        )


def refit(
    stream: BlockStream, plan: PrunePlan, tokens: torch.Tensor, *, progress: Callable[[str], None] | None = None
) -> Iterator[dict[str, torch.Tensor]]:
    """Each block's new `down_proj` weight [hidden, intermediate after pruning] by its name, in its stored type.

    Runs tokens [samples, length] through the model with one block in memory at a time. Each block is run twice: once
    for the G of either half, intermediate * intermediate float32 each, and once with the new weights. A plan that
    leaves the feed-forward width whole changes nothing. Raises `RunFailed` if activations are not finite.
    """
    if plan.kept_intermediate is None:
        return
    # everything but the neurons is narrowed, so that the activations are those of the pruned model
    wide = replace(plan, after=plan.after.with_shape(intermediate=plan.before.intermediate), kept_intermediate=None)
    narrowed = BlockStream(NarrowedSource(stream.source, wide), device=stream.device, dtype=stream.dtype)
    hidden = narrowed.embed(tokens)
    for layer, block in narrowed.blocks():
        name = block_name(layer, "mlp.down_proj.weight")
        kept = torch.tensor(plan.kept_intermediate[layer], device=narrowed.device)
        linear = block.mlp.down_proj
        solved = _solve_block(narrowed, block, hidden, kept, where=name)
        stored = solved.to(stream.source.layout[name].dtype)
        # a zero column is a neuron that is gone; what follows sees the numbers as they are stored
        linear.weight.zero_()
        linear.weight[:, kept] = stored.to(linear.weight.dtype)
        hidden = narrowed.run(block, hidden, out=hidden)
        if progress:
            progress(f"least squares: {layer + 1} of {narrowed.layers} blocks")
        yield {name: stored}


def _solve_block(
    stream: BlockStream, block: Any, hidden: torch.Tensor, kept: torch.Tensor, *, where: str
) -> torch.Tensor:
    """The W' [hidden, kept] of a block for the states [samples, length, hidden] that enter it."""
    weight = block.mlp.down_proj.weight
    if len(hidden) == 1:
        return solve(weight, _gram(stream, block, hidden), kept, where=where)
    first, second = (_gram(stream, block, half) for half in hidden.tensor_split(2))
    damping = choose_damping(weight, first, second, kept) / 2
    gram = first.lerp_(second, len(hidden) // 2 / len(hidden))
    return solve(weight, gram, kept, damping=damping, where=where)


def choose_damping(
    weight: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    kept: Sequence[int] | torch.Tensor,
    *,
    dampings: Sequence[float] = DAMPINGS,
) -> float:
    """Of `dampings` the one whose W', solved on one half's G [in, in], errs least on the other's; both ways, summed.

    Computed in the type of the halves, because a comparison needs few digits. A damping with which the system cannot be
    solved is chosen only if that holds for all.
    """
    weight = weight.detach().to(first.dtype)

    def error(damping: float, seen: torch.Tensor, unseen: torch.Tensor) -> float:
        missing = weight.clone()
        try:
            missing[:, kept] -= solve(weight, seen, kept, damping=damping, dtype=first.dtype)
        except RunFailed:
            return math.inf
        return float((missing @ unseen).mul_(missing).sum())

    return min(dampings, key=lambda damping: error(damping, first, second) + error(damping, second, first))


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
    kept = torch.as_tensor(kept, device=weight.device)
    if not gram.isfinite().all():
        raise RunFailed("the activations are not finite", where=where, hint="the model's weights may be broken")
    added = damping * gram.diagonal().mean()
    if added == 0 and damping:
        # if all neurons are zero on all of the text, there is nothing to solve for
        return weight[:, kept]
    system = gram[kept][:, kept]
    system.diagonal().add_(added)
    right = (weight @ gram[:, kept]).add_(weight[:, kept], alpha=float(added))
    lower, failed = torch.linalg.cholesky_ex(system)
    if failed:
        raise RunFailed("the least squares have no unique solution", where=where, hint="give more calibration text")
    return torch.cholesky_solve(right.T, lower).T


def _gram(stream: BlockStream, block: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The mean of x x^T [intermediate, intermediate] over what `down_proj` reads, float32."""
    width = block.mlp.down_proj.in_features
    total = torch.zeros(width, width, device=stream.device)

    def add(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        rows = args[0].flatten(0, -2).float()
        total.addmm_(rows.T, rows, alpha=1 / (hidden.shape[0] * hidden.shape[1]))

    handle = block.mlp.down_proj.register_forward_pre_hook(add)
    stream.run(block, hidden)
    handle.remove()
    return total
