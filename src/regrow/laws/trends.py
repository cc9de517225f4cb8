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

#: nats that one more doubling of the tokens must bring to be worth it; the design's default criterion
MIN_GAIN = 0.01
#: grid points per input
_GRID = 7
#: tokens searched for D*, and in how many steps
_MOST_TOKENS, _TOKEN_STEPS = 1e18, 256


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
    """Smallest D at which doubling the tokens lowers the loss by less than `min_gain` nats, [draws + 1, ...].

    The tokens of the setting are not read. Row 0 is the point estimate. It is the last crossing on a grid of tokens
    from 1 to 1e18, refined in log gain, which is linear in log tokens for a power law; a shifted curve gains little
    before it gains much, hence the last. 1 where the gain is never reached, infinity where it is exceeded throughout.
    """
    log_tokens = np.linspace(0, np.log(_MOST_TOKENS), _TOKEN_STEPS)
    where = Setting(**{name: values.ravel()[:, None] for name, values in x.items()})
    once = _point_and_draws(law, where.at(np.exp(log_tokens)))
    twice = _point_and_draws(law, where.at(2 * np.exp(log_tokens)))
    log_gain = np.log(np.maximum(once - twice, 1e-300))
    enough = log_gain >= np.log(min_gain)
    last = _TOKEN_STEPS - 1 - np.argmax(enough[..., ::-1], axis=-1)  # the last grid point that still gains
    last = np.minimum(last, _TOKEN_STEPS - 2)
    here, there = (np.take_along_axis(log_gain, (last + i)[..., None], axis=-1)[..., 0] for i in (0, 1))
    with np.errstate(all="ignore"):
        share = np.clip((here - np.log(min_gain)) / (here - there), 0, 1)
    found = np.exp(log_tokens[last] + share * (log_tokens[1] - log_tokens[0]))
    found = np.where(enough[..., -1], np.inf, np.where(enough.any(axis=-1), found, 1.0))
    return found.reshape(-1, *x.shape)


def check_trends(law: Law, *, min_gain: float = MIN_GAIN) -> list[Trend]:
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
