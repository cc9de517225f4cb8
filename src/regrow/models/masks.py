"""N:M sparsity masks: rebuilt from a model's exact zeros, put back after each optimizer step, and proven.

N:M means N weights kept of every M neighbours along the input dimension (2:4 is NVIDIA's sparse tensor core format,
arXiv 2104.08378). A mask is True where the weight is kept. Only the linear layers of the blocks are masked; the
embeddings and the output layer stay dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn

from regrow.errors import InputError, RunFailed
from regrow.models.layout import block_weights


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds, sharing its memory: all of it, unless FSDP2 has sharded it."""
    return (tensor.to_local() if hasattr(tensor, "to_local") else tensor).detach()


def zero_masks(model: nn.Module, *, n: int | None = None, m: int | None = None) -> dict[str, torch.Tensor]:
    """Masks [out, in] of the blocks' linear weights by parameter name, True where the weight is not exactly zero.

    With `n` and `m` given, raises `InputError` if a matrix does not hold the pattern: a mask rebuilt from such zeros
    would not be an N:M mask.
    """
    weights = block_weights(model)
    if n is not None and m is not None:
        broken = [name for name, weight in weights.items() if not check_pattern(weight, n, m)]
        if broken:
            raise InputError(
                f"{len(broken)} matrices are not {n}:{m} sparse, first {broken[0]!r}",
                where="mask",
                hint=f"prune the model with --method {n}:{m} first",
            )
    return {name: weight.detach() != 0 for name, weight in weights.items()}


@dataclass(frozen=True, kw_only=True)
class Zeros:
    """The exact zeros of a model's block weights.

    Attributes:
        share: of all weights of the blocks' linear layers, a fraction.
        pattern: the (N, M) that every matrix keeps: the sparsest, then the shortest; None if there is none.
        matrices: linear layers of the blocks.
        patterned: those of them that keep some N:M pattern.
    """

    share: float
    pattern: tuple[int, int] | None
    matrices: int
    patterned: int


#: Group sizes of N:M patterns that are looked for.
_GROUPS = (2, 4, 8, 16, 32)

#: A pattern's own share of zeros may be exceeded by this factor: inputs that are always zero add some. Zeros scattered
#: over a small matrix can leave one in every long group by chance, and exceed it many times.
_EXCESS = 1.2


def find_zeros(model: nn.Module) -> Zeros:
    """Look for exact zeros in the blocks' linear weights: what Wanda, SparseGPT or llm-compressor leave of a model.

    Several patterns may hold (2:4 is 4:8 too). The one that keeps the smallest share of weights is taken, then the one
    with the smallest groups.
    """
    zeros = total = patterned = 0
    kept: dict[int, int] = dict.fromkeys(_GROUPS, 0)
    weights = block_weights(model)
    for weight in weights.values():
        nonzero = weight.detach() != 0
        count = nonzero.numel() - int(nonzero.sum())
        most = {m: _most_kept(nonzero, m) if count and not nonzero.shape[-1] % m else m for m in _GROUPS}
        kept = {m: max(kept[m], most[m]) for m in _GROUPS}
        patterned += _tightest(most, count / nonzero.numel()) is not None
        zeros, total = zeros + count, total + nonzero.numel()
    share = zeros / max(1, total)
    return Zeros(share=share, pattern=_tightest(kept, share), matrices=len(weights), patterned=patterned)


def _most_kept(nonzero: torch.Tensor, m: int) -> int:
    """The most weights that are not zero in any group of `m` neighbours of [out, in]."""
    return int(nonzero.unflatten(-1, (-1, m)).sum(-1).max())


def _tightest(kept: Mapping[int, int], share: float) -> tuple[int, int] | None:
    """The (N, M) with the smallest N/M, then the shortest, that explains a share of zeros; None if none does."""
    fitting = [(Fraction(n, m), m) for m, n in kept.items() if 0 < n < m and share <= _EXCESS * (1 - n / m)]
    return (kept[min(fitting)[1]], min(fitting)[1]) if fitting else None


class MaskKeeper:
    """The masks of one model, laid beside its weights once: cheap to put back after every step.

    Works on a model that is wrapped (DDP, torch.compile, an adapter's base layers) or sharded (FSDP2), where each
    process keeps the zeros of its own shards.

    Raises `RunFailed` if a mask has no matrix: going on would train a dense model under a sparse name.
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
        weights = block_weights(model)
        self._pairs: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        for name, mask in masks.items():
            if name not in weights:
                raise RunFailed(f"the mask of {name!r} has no matrix in the model", where="mask")
            self._pairs.append((name, weights[name], _like(mask, weights[name])))

    def __bool__(self) -> bool:
        """Whether there are zeros to keep."""
        return bool(self._pairs)

    @torch.no_grad()
    def apply(self) -> None:
        """Set the masked weights to zero again, in place."""
        for _, weight, mask in self._pairs:
            # a product, not a fill: it lets a NaN show
            local(weight).mul_(mask)

    @torch.no_grad()
    def violations(self) -> dict[str, int]:
        """Matrices with weights that should be zero and are not, and how many, in this process's shards."""
        counts = {name: int(((local(weight) != 0) & ~mask).sum()) for name, weight, mask in self._pairs}
        return {name: count for name, count in counts.items() if count}


def _like(mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The part of a mask that lies over this process's part of `weight`."""
    if not hasattr(weight, "placements"):
        return mask.to(weight.device)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(weight, DTensor)
    # every process holds the whole mask, so nothing needs to be sent
    whole = mask.to(weight.device_mesh.device_type)
    return local(distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None))


def apply_masks(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Set the masked weights to zero, once. Raises `RunFailed` if a mask has no matrix."""
    MaskKeeper(model, masks).apply()


def check_pattern(weight: torch.Tensor, n: int, m: int) -> bool:
    """Whether at most `n` of every `m` neighbours along the last dimension of `weight` [out, in] are not zero."""
    if weight.shape[-1] % m:
        return False
    nonzero = (weight.detach() != 0).unflatten(-1, (-1, m)).sum(-1)
    return bool((nonzero <= n).all())


def violations(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Matrices with weights that should be zero and are not, and how many; empty when every zero was kept."""
    return MaskKeeper(model, masks).violations()
