"""A law of compression in which every term is a factor."""

from __future__ import annotations

import numpy as np

from regrow.laws.forms.base import Form, Identified, Parameter
from regrow.laws.setting import LOSS_BEFORE, PRUNING_RATE, TOKENS, Reference, Setting, distinct


class Compression(Form):
    """L0^alpha (1+rho)^beta (1+1/(D+1))^gamma, Sengupta et al. 2025, arXiv 2504.04342v1; its log is linear."""

    name = "compression"
    formula = "L0^alpha * (1+rho)^beta * (1 + 1/(D+1))^gamma"
    citation = "Sengupta et al. 2025, arXiv 2504.04342v1"
    columns = (PRUNING_RATE, TOKENS, LOSS_BEFORE)
    # finite at D = 0, but there the data term is 2^gamma, and a gamma that bends a curve of 1e6 tokens is about 1e6
    covers_zero = ("pruning_rate",)
    javascript = """(p, s) => {
      const fixed = p.alpha * Math.log(s.loss_before) + p.beta * Math.log1p(s.pruning_rate);
      return { base: 0, loss: tokens => Math.exp(fixed + p.gamma * Math.log1p(1 / (tokens + 1))) };
    }"""
    parameters = (
        Parameter(name="alpha", meaning="power of the loss before pruning", lower=-5, upper=5, start=(0.8, 1.2)),
        Parameter(
            name="beta", meaning="power of 1 + rate", lower=-20, upper=20, start=(0, 1), effect_of="pruning_rate"
        ),
        Parameter(name="gamma", meaning="power of the data term; in tokens", lower=-1e6, upper=1e6, start=(0, 0.1)),
    )

    def _columns(self, x: Setting) -> np.ndarray:
        # gamma is fitted in units of the reference tokens: (1 + 1/(D+1)) differs from 1 by one part in D
        data = np.log1p(1 / (x.tokens + 1)) * x.ref["tokens"]
        return np.stack([np.log(x.loss_before), np.log1p(x.pruning_rate), data])

    def value_and_jacobian(
        self, theta: np.ndarray, x: Setting, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        columns = self._columns(x)
        value = np.exp(theta @ columns)
        return value, value[:, None, :] * columns if jacobian else None

    def slope(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        derivative = -x.tokens / ((x.tokens + 1) * (x.tokens + 2)) * x.ref["tokens"]
        return self.value(theta, x) * theta[:, 2, None] * derivative

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        return {"gamma": np.full(len(theta), ref["tokens"])}

    def identify(self, x: Setting, *, where: str) -> Identified:
        if distinct(1 + x.pruning_rate).size > 1:
            return Identified()
        note = "one pruning rate: beta is held at 0; the law does not support other rates"
        return Identified(held={"beta": 0.0}, notes=(note,))
