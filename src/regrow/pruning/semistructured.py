"""N:M sparsity: N weights kept of every M neighbours along the input dimension, the others exactly zero.

Scores: magnitude |W|, and Wanda |W| * ||x|| (Sun et al. 2024, arXiv 2306.11695), the weight times the L2 norm of its
input feature over calibration text. `sparsify` says which inputs those are.
"""

from __future__ import annotations

import torch


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
