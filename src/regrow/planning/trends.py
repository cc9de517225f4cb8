"""Whether a fitted law obeys what a law of pruned models must: conditions checked on the law, not on the data.

Chen et al. 2025 (arXiv 2411.10272, section 3) ask that the loss falls with tokens and rises with the rate, that the
curve flattens, and that higher rates need more tokens and larger models fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.laws.law import Law
from regrow.laws.setting import Setting
from regrow.planning.criteria import Gain
from regrow.planning.curves import Curves
from regrow.planning.solve import optimal_tokens

#: grid points per input
_GRID = 7


@dataclass(frozen=True, kw_only=True)
class Trend:
    """One condition over the fitted range: whether it `holds`, in what share of bootstrap draws, and in words.

    `holds` is None where the condition cannot be judged (one size, one rate, or an input the form does not read).
    """

    name: str
    holds: bool | None
    share: float | None
    explanation: str


def tokens_for_gain(law: Law, x: Setting, *, min_gain: float) -> np.ndarray:
    """D* by the criterion `gain` at every point of a setting, whose tokens are not read: [draws + 1, ...].

    Row 0 is the point estimate. `regrow.planning.solve.optimal_tokens` says what the ends mean.
    """
    points = x.ravel()
    at = [Setting(**{name: values[i] for name, values in points.items()}) for i in range(len(points))]
    found = [optimal_tokens(Gain(min_gain=min_gain), Curves(law, one)) for one in at]
    return np.stack(found, axis=1).reshape(-1, *x.shape)


def check_trends(law: Law, *, min_gain: float = Gain.min_gain) -> list[Trend]:
    """Check the conditions over the fitted range, at the point estimate and in every bootstrap draw."""
    tokens = _between(law, "tokens", floor=1.0)
    rates = _between(law, "pruning_rate", floor=1e-3)
    sizes = _between(law, "params_before", floor=1.0)
    uses = law.formula.uses
    grid = law.middle.replace(params_before=sizes[:, None], pruning_rate=rates[None, :])
    everywhere = Setting(**{name: values[:, :, None] for name, values in grid.items()}).at(tokens)
    losses = _point_and_draws(law, everywhere)
    out = [
        _trend("loss falls with tokens", np.diff(losses, axis=3) <= 0, len(tokens) > 1, "more tokens, lower loss"),
        _trend(
            "loss rises with rate",
            np.diff(losses, axis=2) >= 0,
            len(rates) > 1 and "pruning_rate" in uses and "gamma" not in law.diagnostics.get("fixed", ()),
            "more pruned, higher loss at the same tokens",
        ),
        _trend(
            "slope flattens with tokens",
            np.diff(np.diff(losses, axis=3) / np.diff(tokens), axis=3) >= -1e-18,
            len(tokens) > 2,
            "each further token helps less",
        ),
    ]
    best = np.log(tokens_for_gain(law, grid, min_gain=min_gain))
    with np.errstate(invalid="ignore"):
        by_rate, by_size = np.diff(best, axis=2), np.diff(best, axis=1)
    words = f"tokens at which doubling them gains less than {min_gain:g} nats"
    out.append(
        _trend(
            "D* rises with rate",
            ~(by_rate < -1e-6),
            len(rates) > 1 and "pruning_rate" in uses and "gamma" not in law.diagnostics.get("fixed", ()),
            f"{words}: more for higher rates",
        )
    )
    out.append(
        _trend(
            "D* falls with size",
            ~(by_size > 1e-6),
            len(sizes) > 1 and "params_before" in uses,
            f"{words}: fewer for larger models",
        )
    )
    return out


def _between(law: Law, name: str, *, floor: float) -> np.ndarray:
    low, high = law.ranges[name]
    low = max(low, floor)
    return np.geomspace(low, high, _GRID) if high > low * 1.02 else np.array([high])


def _point_and_draws(law: Law, x: Setting) -> np.ndarray:
    return np.concatenate([law.loss(x)[None], law.loss_draws(x)])


def _trend(name: str, holds: Any, judged: bool, words: str) -> Trend:
    """`holds` is [draws + 1, ...], row 0 the point estimate."""
    if not judged or holds[0].size == 0:
        return Trend(name=name, holds=None, share=None, explanation=f"not judged: {words} needs a wider design")
    every = holds.reshape(len(holds), -1).all(axis=1)
    share = float(every[1:].mean()) if len(every) > 1 else float(every[0])
    verdict = "holds" if every[0] else "does not hold"
    return Trend(
        name=name,
        holds=bool(every[0]),
        share=share,
        explanation=f"{words}: {verdict} over the fitted range, in {share:.0%} of the bootstrap draws",
    )
