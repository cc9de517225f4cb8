"""N:M sparsity: N weights kept of every M neighbours along the input dimension, the others exactly zero.

Scores: magnitude |W|, and Wanda |W| * ||x|| (Sun et al. 2024, arXiv 2306.11695), the weight times the L2 norm of its
input feature over calibration text. `sparsify` says which inputs those are.
"""

from __future__ import annotations

from functools import cache

import torch

#: Larger groups are sorted: comparing all pairs takes memory and time that grow with the square of the group.
MOST_COMPARED = 16


def n_m_mask(score: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Mask [out, in] that keeps the `n` largest of every `m` neighbours along the last dimension of `score`.

    Exactly `n` of each group stay: of equals the first, so that the result never depends on a sort.
    """
    places = score.unflatten(-1, (-1, m)).movedim(-1, 0).contiguous()
    return keep_largest(places, n).movedim(0, -1).flatten(-2)


def keep_largest(places: torch.Tensor, n: int) -> torch.Tensor:
    """Mask of the `n` largest of `places` [m, ...] along the first dimension; of equals the first."""
    m = len(places)
    if m > MOST_COMPARED:
        largest = places.argsort(dim=0, descending=True, stable=True)[:n]
        return torch.zeros_like(places, dtype=torch.bool).scatter_(0, largest, True)
    # comparing whole tensors, each place with all after it, is many times faster than sorting fours; whole numbers this
    # small are exact in any floating type
    columns = places.flatten(1)
    wins = columns.new_empty(m * (m - 1) // 2, columns.shape[1], dtype=torch.float32)
    for first, rows in enumerate(wins.split(list(range(m - 1, 0, -1)))):
        torch.ge(columns[first], columns[first + 1 :], out=rows)
    lost, start = _tally(m, places.device)
    return (torch.addmm(start, lost, wins) < n).view(places.shape)


@cache
def _tally(m: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """What makes ranks of comparisons: rank [m] = start [m, 1] + lost [m, pairs] @ wins [pairs], where a win is one if
    the first of a pair is at least the second."""
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
