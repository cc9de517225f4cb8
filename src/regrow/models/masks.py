"""N:M sparsity masks: rebuilt from a model's exact zeros, put back after each optimizer step, and proven.

N:M means N weights kept of every M neighbours along the input dimension (2:4 is NVIDIA's sparse tensor core format,
arXiv 2104.08378). A mask is True where the weight is kept. Only the linear layers of the blocks are masked; the
embeddings and the output layer stay dense.
"""

from __future__ import annotations

from collections.abc import Mapping

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
