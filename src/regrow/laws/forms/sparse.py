"""A law of models that are trained sparse from the start."""

from __future__ import annotations

import numpy as np

from regrow.laws.forms.base import Form, Identified, Parameter, coefficient
from regrow.laws.forms.chinchilla import log_size_after
from regrow.laws.setting import PARAMS_BEFORE, PRUNING_RATE, TOKENS, Reference, Setting, distinct


class Sparse(Form):
    """(a_S (1-rho)^b_S + c_S) N1^-b_N + (a_D/D)^b_D + c, Frantar et al. 2023, arXiv 2309.08520, eq. 1.

    Fitted with d = (a_D/D_ref)^b_D, in which the loss is linear; `to_natural` gives a_D in tokens.
    """

    name = "sparse"
    formula = "(a_S*(1-rho)^b_S + c_S)*N1^-b_N + (a_D/D)^b_D + c"
    citation = "Frantar et al. 2023, arXiv 2309.08520"
    columns = (PARAMS_BEFORE, PRUNING_RATE, TOKENS)
    covers_zero = ("pruning_rate",)
    javascript = """(p, s) => {
      const after = s.params_before * (1 - s.pruning_rate);
      const bySize = (p.a_S * Math.pow(1 - s.pruning_rate, p.b_S) + p.c_S) * Math.pow(after, -p.b_N);
      return falling(0, p.c + bySize, Math.pow(p.a_D, p.b_D), p.b_D, 0);
    }"""
    parameters = (
        Parameter(
            name="b_S",
            meaning="how sparsity bends the size term",
            lower=0.01,
            upper=8,
            start=(0.2, 4),
            effect_of="pruning_rate",
        ),
        Parameter(
            name="b_N",
            meaning="how fast the size term falls",
            lower=0.01,
            upper=3,
            start=(0.05, 1.5),
            effect_of="params_before",
        ),
        Parameter(name="b_D", meaning="how fast the token term falls", lower=0.01, upper=4, start=(0.1, 1.5)),
        coefficient("a_S", "sparsity's part of the size term"),
        coefficient("c_S", "the rest of the size term"),
        coefficient("a_D", "tokens at which the token term is one nat"),
        coefficient("c", "loss of an infinite model on infinite tokens"),
    )

    def value_and_jacobian(
        self, theta: np.ndarray, x: Setting, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        b_s, b_n, b_d, a_s, c_s, d, c = (theta[:, i, None] for i in range(7))
        log_n, log_d, log_kept = log_size_after(x), x.log("tokens"), np.log1p(-x.pruning_rate)
        by_size, by_tokens = np.exp(-b_n * log_n), np.exp(-b_d * log_d)
        kept = np.exp(b_s * log_kept)
        value = (a_s * kept + c_s) * by_size + d * by_tokens + c
        if not jacobian:
            return value, None
        rows = [
            a_s * kept * log_kept * by_size,
            -(a_s * kept + c_s) * by_size * log_n,
            -d * by_tokens * log_d,
            kept * by_size,
            by_size,
            by_tokens,
            np.ones_like(by_size),
        ]
        return value, np.stack(rows, axis=1)

    def slope(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        b_d, d = theta[:, 2, None], theta[:, 5, None]
        return -b_d * d * np.exp(-b_d * x.log("tokens"))

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        size = ref["params_before"] ** theta[:, 1]
        return {"a_S": size, "c_S": size}

    def to_natural(self, theta: np.ndarray, ref: Reference) -> np.ndarray:
        out = super().to_natural(theta, ref)
        out[:, 5] = ref["tokens"] * theta[:, 5] ** (1 / theta[:, 2])
        return out

    def from_natural(self, theta: np.ndarray, ref: Reference) -> np.ndarray:
        out = super().from_natural(theta, ref)
        out[:, 5] = (theta[:, 5] / ref["tokens"]) ** theta[:, 2]
        return out

    def identify(self, x: Setting, *, where: str) -> Identified:
        held, notes = dict[str, float](), list[str]()
        one_size, one_rate = distinct(x.params_before).size == 1, distinct(1 - x.pruning_rate).size == 1
        if one_size:
            held |= {"b_N": 0.0, "c_S": 0.0}
            notes.append("one model size: b_N is held at 0 and c_S is part of c; the law does not support other sizes")
        if one_rate:
            held |= {"a_S": 0.0, "b_S": 1.0}
            notes.append("one pruning rate: a_S is part of c_S; the law does not support other rates")
        if one_size and one_rate:
            notes.append("one model size and rate: only the token term is fitted")
        return Identified(held=held, notes=tuple(notes))
