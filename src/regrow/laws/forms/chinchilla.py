"""Scaling of a model that is trained from scratch, on the parameters that pruning leaves."""

from __future__ import annotations

import numpy as np

from regrow.laws.forms.base import ALPHA, BETA, Form, Identified, coefficient
from regrow.laws.setting import PARAMS_BEFORE, PRUNING_RATE, TOKENS, Reference, Setting, distinct


def log_size_after(x: Setting) -> np.ndarray:
    """Logarithm of the parameters after pruning, relative to the reference size, [n]."""
    return np.log(x.params_before * (1 - x.pruning_rate) / x.ref["params_before"])


class Chinchilla(Form):
    """E + A*N1^-alpha + B*D^-beta on the parameters after pruning, Hoffmann et al. 2022, arXiv 2203.15556, eq. 2."""

    name = "chinchilla"
    formula = "E + A/N1^alpha + B/D^beta"
    citation = "Hoffmann et al. 2022, arXiv 2203.15556"
    columns = (PARAMS_BEFORE, PRUNING_RATE, TOKENS)
    covers_zero = ("pruning_rate",)
    javascript = """(p, s) => {
      const after = s.params_before * (1 - s.pruning_rate);
      return falling(0, p.E + p.A * Math.pow(after, -p.alpha), p.B, p.beta, 0);
    }"""
    parameters = (
        ALPHA,
        BETA,
        coefficient(
            "E",
            "loss of an infinite model on infinite tokens",
            at_lower="E is 0: the runs show no floor yet; longer runs would tell",
        ),
        coefficient("A", "what the size adds"),
        coefficient("B", "what the tokens add"),
    )

    def value_and_jacobian(
        self, theta: np.ndarray, x: Setting, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        alpha, beta, e, a, b = (theta[:, i, None] for i in range(5))
        log_n, log_d = log_size_after(x), x.log("tokens")
        by_size, by_tokens = np.exp(-alpha * log_n), np.exp(-beta * log_d)
        value = e + a * by_size + b * by_tokens
        if not jacobian:
            return value, None
        rows = [-a * by_size * log_n, -b * by_tokens * log_d, np.ones_like(by_size), by_size, by_tokens]
        return value, np.stack(rows, axis=1)

    def slope(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        beta, b = theta[:, 1, None], theta[:, 4, None]
        return -beta * b * np.exp(-beta * x.log("tokens"))

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        return {"A": ref["params_before"] ** theta[:, 0], "B": ref["tokens"] ** theta[:, 1]}

    def identify(self, x: Setting, *, where: str) -> Identified:
        levels = distinct(x.params_before * (1 - x.pruning_rate))
        if levels.size > 2:
            return Identified()
        if levels.size == 1:
            note = "one size after pruning: A is part of E; the law does not support other sizes"
            return Identified(held={"A": 0.0, "alpha": 0.0}, notes=(note,))
        note = "two sizes after pruning: alpha is held at 0.34 (Hoffmann et al. 2022)"
        return Identified(held={"alpha": 0.34}, notes=(note,))

    def unsupported(self, x: Setting, *, ignore: tuple[str, ...] = ()) -> dict[str, str]:
        if distinct(x.params_before * (1 - x.pruning_rate)).size > 1:
            return {}  # it sees the size after pruning only, which both make
        return super().unsupported(x, ignore=ignore)
