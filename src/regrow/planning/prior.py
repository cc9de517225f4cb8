"""What is assumed of a law before runs tell: parameter vectors for a design to average over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from regrow.laws.setting import Reference
from regrow.methods import is_masked

if TYPE_CHECKING:
    from regrow.laws.law import Law

#: mean and standard deviation of what is assumed of a law before there is one: exponents, and the logarithms of the
#: three terms in nats at the middle candidate, rate 0.25 and one token per parameter. Form and signs are those of Chen
#: et al. 2025 (arXiv 2411.10272); the values are regrow's own, chosen with docs/demo.md in view.
PRIOR: Mapping[str, tuple[float, float]] = {
    "alpha": (0.4, 0.15),
    "beta": (0.33, 0.1),
    "gamma": (-1.3, 0.2),
    "delta": (0.25, 0.12),
    "N_C": (np.log(0.1), 0.7),
    "D_C": (np.log(0.3), 0.7),
    "E": (np.log(0.15), 0.7),
}
_LIMITS = {"alpha": (0.1, 1.0), "beta": (0.12, 0.8), "gamma": (-3.0, -0.3), "delta": (0.0, 0.8)}


def prior_vectors(count: int, *, seed: int = 0) -> np.ndarray:
    """Parameters [count, 7] of the form `p2` from `PRIOR`, scaled by the middle candidate, rate 0.25, 1 token each."""
    rng = np.random.default_rng(seed)
    columns = []
    for name, (mean, sd) in PRIOR.items():
        values = mean + sd * rng.standard_normal(count)
        columns.append(np.clip(values, *_LIMITS[name]) if name in _LIMITS else np.exp(values))
    return np.stack(columns, axis=1)


def law_vectors(law: Law, ref: Reference, count: int) -> np.ndarray:
    """Draws of a law [up to count, p] in units of `ref`, with what its runs could not show taken from the prior."""
    form = law.formula
    every = law.draws[np.unique(np.linspace(0, len(law.draws) - 1, count).round().astype(int))]
    theta = form.from_natural(every, ref)
    prior = prior_vectors(len(theta))
    fixed = set(law.diagnostics.get("fixed", ()))
    if not is_masked(law.method):
        for name in {"gamma", "delta"} & fixed:
            theta[:, form.index(name)] = prior[:, list(PRIOR).index(name)]
    # without a size term its exponent is nothing, and the term itself would look like the floor
    none = theta[:, form.index("N_C")] <= 0
    theta[none, form.index("alpha")] = prior[none, 0]
    return theta


def middle_loss(size: float) -> float:
    """Loss in nats/token of a model of this size on many tokens, where it is not given; it only scales the noise.

    1.69 + 406.4 N^-0.34 (Hoffmann et al. 2022, arXiv 2203.15556, eq. 10).
    """
    return 1.69 + 406.4 * size**-0.34
