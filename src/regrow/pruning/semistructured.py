"""N:M sparsity: N weights kept of every M neighbours along the input dimension, the others exactly zero.

Scores: magnitude |W|, and Wanda |W| * ||x|| (Sun et al. 2024, arXiv 2306.11695), the weight times the L2 norm of its
input feature over calibration text. The norms are those of the dense model; the paper measures each layer's after
the layers before it are pruned.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from regrow.models.layout import block_weights
from regrow.pruning.calibration import Scores, layer_and_linear


def n_m_mask(score: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Mask [out, in] that keeps the `n` largest of every `m` neighbours along the last dimension of `score`.

    Exactly `n` of each group stay: of equals the first, so that the result never depends on a sort.
    """
    places = score.unflatten(-1, (-1, m)).movedim(-1, 0).contiguous()
    return keep_largest(places, n).movedim(0, -1).flatten(-2)


def keep_largest(places: torch.Tensor, n: int) -> torch.Tensor:
    """Mask of the `n` largest of `places` [m, ...] along the first dimension; of equals the first."""
    # comparing whole tensors, one per place in the group, is several times faster than sorting fours
    rank = torch.zeros(places.shape, dtype=torch.int16, device=places.device)
    for first in range(len(places)):
        for second in range(first + 1, len(places)):
            first_wins = places[first] >= places[second]
            rank[second] += first_wins
            rank[first] += ~first_wins
    return rank < n


def wanda_score(weight: torch.Tensor, input_norms: torch.Tensor) -> torch.Tensor:
    """|W| * ||x||, [out, in], in float32."""
    return weight.detach().float().abs() * input_norms.to(weight.device, torch.float32)


def magnitude_score(weight: torch.Tensor) -> torch.Tensor:
    """|W|, [out, in], in float32."""
    return weight.detach().float().abs()


def sparse_masks(model: torch.nn.Module, n: int, m: int, scores: Scores | None) -> dict[str, torch.Tensor]:
    """Masks of the linear weights of all blocks by parameter name: Wanda with scores, magnitude without."""
    masks = {}
    for name, weight in block_weights(model).items():
        if scores is None:
            score = magnitude_score(weight)
        else:
            score = wanda_score(weight, scores.input_norms(*layer_and_linear(name)))
        masks[name] = n_m_mask(score, n, m)
    return masks


def mask_state(state: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict with the masked weights exactly zero."""
    # a fill, not a product: -1 * 0 would leave -0.0, and a NaN would survive
    return {name: tensor.masked_fill(~masks[name], 0) if name in masks else tensor for name, tensor in state.items()}
