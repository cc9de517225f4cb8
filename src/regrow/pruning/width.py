"""Width pruning: feed-forward neurons, KV groups with their query heads, and channels of the residual stream.

After Minitron (Muralidharan et al. 2024, arXiv 2407.14679): importance is the norm of an activation on calibration
text, and what stays keeps its order. Neurons and KV groups are picked per block; channels once for the whole model,
because all blocks share the residual stream. A norm layer then averages over the channels that stay. Nothing is
rescaled: post-training adapts the weights. The one exception is a family that multiplies its embeddings by the square
root of the hidden width (Gemma), which pruning channels changes: its embeddings are multiplied by the ratio of the old
root to the new one, and the final norm is divided by it where the output layer is the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regrow.arch import Architecture
from regrow.families import Axis
from regrow.models.layout import EMBEDDING, FINAL_NORM, axes_of, split_block_name


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What stays along each axis, ascending; None: all of it. Per block where it is a tuple of index lists."""

    hidden: Sequence[int] | None = None
    intermediate: Sequence[Sequence[int]] | None = None
    kv_heads: Sequence[Sequence[int]] | None = None


def most_important(importance: torch.Tensor, count: int) -> tuple[int, ...]:
    """Indices, ascending, of the `count` largest of `importance` [width]; of equals the first stays."""
    return tuple(sorted(importance.argsort(descending=True, stable=True)[:count].tolist()))


def expand_heads(heads: Sequence[int], width: int) -> torch.Tensor:
    """Row indices of the given heads, each `width` rows: `[0, 2]`, 3 -> `[0, 1, 2, 6, 7, 8]`.

    With the width of a KV group's query heads together it gives the query rows that belong to KV heads.
    """
    return (torch.tensor(heads)[:, None] * width + torch.arange(width)).flatten()


def slice_state(state: Mapping[str, torch.Tensor], kept: Kept, before: Architecture) -> dict[str, torch.Tensor]:
    """The state dict with every parameter cut down to what stays, along each of its axes."""
    return {name: _rescaled(_slice(tensor, name, kept, before), name, kept, before) for name, tensor in state.items()}


def _rescaled(tensor: torch.Tensor, name: str, kept: Kept, before: Architecture) -> torch.Tensor:
    """The tensor rescaled for the square root of the hidden width, where its family multiplies embeddings by that."""
    if kept.hidden is None or not before.family.multipliers.root_hidden:
        return tensor
    ratio = (before.hidden / len(kept.hidden)) ** 0.5
    if name == EMBEDDING:
        return (tensor.float() * ratio).to(tensor.dtype)
    if name == FINAL_NORM and before.tied:
        offset = before.family.norm_offset
        return ((tensor.float() + offset) / ratio - offset).to(tensor.dtype)
    return tensor


def _slice(tensor: torch.Tensor, name: str, kept: Kept, before: Architecture) -> torch.Tensor:
    place = split_block_name(name)
    for dimension, axes in enumerate(axes_of(name, before.family)):
        parts = [_indices(axis, place[0] if place else None, kept, before) for axis in axes]
        if all(part is None for part in parts):
            continue
        # a fused matrix holds several axes one after the other
        indices, start = [], 0
        for axis, part in zip(axes, parts, strict=True):
            size = _size(axis, before)
            indices.append(start + (torch.arange(size) if part is None else part))
            start += size
        tensor = tensor.index_select(dimension, torch.cat(indices).to(tensor.device))
    return tensor


def _size(axis: Axis, before: Architecture) -> int:
    """The full width of an axis."""
    heads = {"query": before.heads, "kv": before.kv_heads}
    if axis in heads:
        return heads[axis] * before.head_dim
    return before.hidden if axis == "hidden" else before.intermediate


def _indices(axis: Axis, layer: int | None, kept: Kept, before: Architecture) -> torch.Tensor | None:
    """Indices that stay along an axis of a parameter of this block; None if all do."""
    if axis == "hidden":
        return None if kept.hidden is None else torch.tensor(kept.hidden)
    per_block = kept.intermediate if axis == "intermediate" else kept.kv_heads
    if per_block is None:
        return None
    assert layer is not None, f"axis {axis} outside a block"
    if axis == "intermediate":
        return torch.tensor(per_block[layer])
    queries_per_kv = before.heads // before.kv_heads
    return expand_heads(per_block[layer], before.head_dim * (queries_per_kv if axis == "query" else 1))


def narrow_config(config: Mapping[str, Any], after: Architecture) -> dict[str, Any]:
    """The config of the narrowed model. `head_dim` is written out: it no longer follows from hidden / heads."""
    # the width of experts has a field of its own, and does not change
    widths = {} if after.experts else {"intermediate_size": after.intermediate}
    return dict(
        config,
        **widths,
        hidden_size=after.hidden,
        num_attention_heads=after.heads,
        num_key_value_heads=after.kv_heads,
        head_dim=after.head_dim,
    )
