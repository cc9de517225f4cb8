"""A learning rate for a model's size, and the grid that a probe tries. Light.

The rule: half of the peak rate that GPT-3 of that size was trained with (Brown et al. 2020, arXiv 2005.14165,
table 2.1), read off a straight line between its sizes in the logarithm of both, and kept at the ends. Half, because a
pruned model goes on from trained weights: Sheared-LLaMA (arXiv 2310.06694, appendix) went on with 1e-4 at 1.3B and
2.7B, where GPT-3's table has 2e-4 and 1.6e-4. It is a start, not an optimum: `--lr-probe` measures one.
"""

from __future__ import annotations

import math
from itertools import pairwise

#: Parameters and peak learning rate (arXiv 2005.14165, table 2.1).
GPT3_RATES = (
    (125e6, 6e-4),
    (350e6, 3e-4),
    (760e6, 2.5e-4),
    (1.3e9, 2e-4),
    (2.7e9, 1.6e-4),
    (6.7e9, 1.2e-4),
    (13e9, 1e-4),
    (175e9, 0.6e-4),
)
#: Between neighbouring rates of a probe's grid.
PROBE_RATIO = 2.0


def default_learning_rate(params: int) -> float:
    """Half of GPT-3's peak rate at `params` parameters, to three significant digits."""
    if params <= GPT3_RATES[0][0]:
        rate = GPT3_RATES[0][1]
    elif params >= GPT3_RATES[-1][0]:
        rate = GPT3_RATES[-1][1]
    else:
        (n0, r0), (n1, r1) = next(pair for pair in pairwise(GPT3_RATES) if params <= pair[1][0])
        share = math.log(params / n0) / math.log(n1 / n0)
        rate = r0 * (r1 / r0) ** share
    return float(f"{rate / 2:.3g}")


def probe_grid(centre: float, *, count: int = 7, ratio: float = PROBE_RATIO) -> tuple[float, ...]:
    """`count` rates around `centre`, each `ratio` times the one before, to three significant digits."""
    return tuple(float(f"{centre * ratio ** (i - count // 2):.3g}") for i in range(count))
