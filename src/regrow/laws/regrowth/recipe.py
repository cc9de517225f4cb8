"""What a token is worth under another recipe.

An optimizer step moves the weights by its learning rate, so that the tokens of a recovery go as 1 / rate. A step on a
larger batch sees more of the signal, but not in proportion: a step of Adam is worth the root of its batch where the
noise of the gradient rules (Malladi et al. 2022, arXiv 2205.10287), and no more than before where it does not. So

    pace of a recipe = pace of the usual one * (rate / usual rate)^-1 * (batch / usual batch)^0.6

The powers are those of `studies/recipe-llama`, rounded, found with each recipe left out (docs/laws.md). They are known
to 0.1 from one model, at rates and batches within factors of 8 of each other: the draws of a law carry that.
"""

from __future__ import annotations

import math

#: by parameter of the form `regrowth`: the covariate that it multiplies, the power and its standard deviation
POWERS = {"pace_rate": ("log_rate", -1.0, 0.1), "pace_batch": ("log_batch", 0.6, 0.1)}


def log_over(value: float | None, usual: float | None) -> float:
    """ln(value / usual), 0 where one of them is not known."""
    return math.log(value / usual) if value and usual else 0.0


def log_longer(log_rate: float, log_batch: float) -> float:
    """ln of how many times as many tokens a recovery takes, by the logarithms of rate and batch over the usual."""
    return POWERS["pace_rate"][1] * log_rate + POWERS["pace_batch"][1] * log_batch
