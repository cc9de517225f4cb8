"""The forms a law can take: pure functions of sizes, rates, tokens and the loss before pruning.

Every form is one small class: its parameters with bounds and meaning, the formula, and the analytic derivatives.
To add one, write the class, add it to `FORMS`, and add a row to the derivative test. Nothing else has to know it;
`regrow.laws.identify` may say what a thin design cannot tell of it. Shapes and units: `regrow.laws.formula`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from regrow.errors import one_of
from regrow.laws.formula import Form, Inputs, Parameter, Reference

__all__ = ["FORMS", "Form", "Inputs", "Parameter", "Reference", "find_form"]


def _exponent(name: str, meaning: str, *, lower: float, upper: float, start: tuple[float, float]) -> Parameter:
    return Parameter(name=name, meaning=meaning, lower=lower, upper=upper, start=start)


def _coefficient(name: str, meaning: str) -> Parameter:
    return Parameter(name=name, meaning=meaning, linear=True)


#: bounds that several forms share; gamma may take either sign (negative: more pruning, more loss)
ALPHA = _exponent("alpha", "how fast the size term falls with the parameters", lower=0.01, upper=3, start=(0.05, 1.5))
BETA = _exponent("beta", "how fast the gap closes with tokens", lower=0.01, upper=4, start=(0.1, 1.5))
GAMMA = _exponent("gamma", "rate exponent; negative: more pruning, more loss", lower=-8, upper=4, start=(-3, 0.5))
DELTA = _exponent("delta", "how fast the whole gap shrinks with the parameters", lower=-2, upper=3, start=(-0.3, 0.8))


class P2(Form):
    """L0 + (1/rho)^gamma (1/N0)^delta (N_C/N0^alpha + D_C/D^beta + E), Chen et al. 2025, arXiv 2411.10272, eq. 1."""

    name = "p2"
    formula = "L0 + (1/rho)^gamma * (1/N0)^delta * (N_C/N0^alpha + D_C/D^beta + E)"
    citation = "Chen et al. 2025, P^2 Law, arXiv 2411.10272"
    parameters: tuple[Parameter, ...] = (
        ALPHA,
        BETA,
        GAMMA,
        DELTA,
        _coefficient("N_C", "size of the term that falls with the parameters"),
        _coefficient("D_C", "size of the term that falls with tokens"),
        _coefficient("E", "what stays of the gap after any number of tokens"),
    )

    def _log_rate(self, x: Inputs) -> np.ndarray:
        return x.log_rate

    def _log_tokens(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        return x.log_tokens[None, :]

    def baseline(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        return np.broadcast_to(x.loss_before, (len(theta), len(x.loss_before)))

    def value_and_jacobian(
        self, theta: np.ndarray, x: Inputs, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        alpha, beta, gamma, delta, n_c, d_c, e = (theta[:, i, None] for i in range(7))
        log_n, log_r, log_d = x.log_size, self._log_rate(x), self._log_tokens(theta, x)
        scale = np.exp(-gamma * log_r - delta * log_n)
        by_size = scale * np.exp(-alpha * log_n)
        by_tokens = scale * np.exp(-beta * log_d)
        gap = n_c * by_size + d_c * by_tokens + e * scale
        value = self.baseline(theta, x) + gap
        if not jacobian:
            return value, None
        rows = [
            -n_c * by_size * log_n,
            -d_c * by_tokens * log_d,
            -gap * log_r,
            -gap * log_n,
            by_size,
            by_tokens,
            scale,
            *self._more_rows(theta, x, d_c * by_tokens),
        ]
        return value, np.stack(rows, axis=1)

    def _more_rows(self, theta: np.ndarray, x: Inputs, token_term: np.ndarray) -> list[np.ndarray]:
        return []

    def _token_term(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        beta, gamma, delta, d_c = (theta[:, i, None] for i in (1, 2, 3, 5))
        return d_c * np.exp(-gamma * self._log_rate(x) - delta * x.log_size - beta * self._log_tokens(theta, x))

    def slope(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        return -theta[:, 1, None] * self._token_term(theta, x)

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        alpha, beta, gamma, delta = theta[:, :4].T
        whole = ref.rate**gamma * ref.params**delta
        return {"N_C": whole * ref.params**alpha, "D_C": whole * ref.tokens**beta, "E": whole}


class P2Odds(P2):
    """`p2` with rho replaced by rho/(1-rho): a gap that grows without bound as everything is pruned away."""

    name = "p2_odds"
    formula = "p2 with rho replaced by rho/(1-rho)"
    citation = "regrow; after Chen et al. 2025, arXiv 2411.10272"

    def _log_rate(self, x: Inputs) -> np.ndarray:
        return x.log_rate - np.log1p(-x.rate)


class P2Shifted(P2):
    """`p2` with D replaced by D + D_s: finite at zero tokens, so that the loss right after pruning counts too."""

    name = "p2_shifted"
    formula = "p2 with D replaced by D + D_s"
    citation = "regrow; after Chen et al. 2025, arXiv 2411.10272"
    diverges_at_zero = False
    parameters = (
        *P2.parameters,
        # not linear, and never exactly 0, where the loss at zero tokens would be infinite
        Parameter(
            name="D_s", meaning="tokens that pruning has cost: the shift of D", lower=1e-5, upper=1e3, start=(1e-3, 1.0)
        ),
    )

    def _log_tokens(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        return np.log((x.tokens / x.ref.tokens)[None, :] + theta[:, 7, None])

    def _more_rows(self, theta: np.ndarray, x: Inputs, token_term: np.ndarray) -> list[np.ndarray]:
        return [-theta[:, 1, None] * token_term / ((x.tokens / x.ref.tokens)[None, :] + theta[:, 7, None])]

    def slope(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        tokens = (x.tokens / x.ref.tokens)[None, :]
        return super().slope(theta, x) * tokens / (tokens + theta[:, 7, None])

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        return {**super().scales(theta, ref), "D_s": np.full(len(theta), ref.tokens)}


class P2Counts(P2):
    """`p2` with L0 replaced by the family's own curve E0 + A*N0^-a, so that counts and tokens are all it needs.

    The curve is fitted first, to the runs' losses before pruning, and then held (first version of arXiv 2411.10272).
    """

    name = "p2_counts"
    formula = "E0 + A*N0^-a + (1/rho)^gamma * (1/N0)^delta * (N_C/N0^alpha + D_C/D^beta + E)"
    citation = "Chen et al. 2024, arXiv 2411.10272v1"
    uses = ("params_before", "pruning_rate", "tokens")
    parameters = (
        *P2.parameters,
        Parameter(name="E0", meaning="loss before pruning of an infinite model of the family"),
        Parameter(name="A", meaning="what size adds to the loss before pruning"),
        Parameter(name="a", meaning="how fast that falls with the parameters", lower=0.01, upper=3),
    )
    #: parameters of that curve
    beforehand = ("E0", "A", "a")

    def baseline(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        e0, big, small = (theta[:, i, None] for i in (7, 8, 9))
        return e0 + big * np.exp(-small * x.log_size)

    def _more_rows(self, theta: np.ndarray, x: Inputs, token_term: np.ndarray) -> list[np.ndarray]:
        power = np.exp(-theta[:, 9, None] * x.log_size)
        return [np.ones_like(power), power, -theta[:, 8, None] * power * x.log_size]

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        return {**super().scales(theta, ref), "A": ref.params ** theta[:, 9]}


class Chinchilla(Form):
    """E + A*N1^-alpha + B*D^-beta on the parameters after pruning, Hoffmann et al. 2022, arXiv 2203.15556, eq. 2."""

    name = "chinchilla"
    formula = "E + A/N1^alpha + B/D^beta"
    citation = "Hoffmann et al. 2022, arXiv 2203.15556"
    uses = ("params_before", "pruning_rate", "tokens")
    parameters = (
        ALPHA,
        BETA,
        _coefficient("E", "loss of an infinite model on infinite tokens"),
        _coefficient("A", "what the size adds"),
        _coefficient("B", "what the tokens add"),
    )

    def value_and_jacobian(
        self, theta: np.ndarray, x: Inputs, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        alpha, beta, e, a, b = (theta[:, i, None] for i in range(5))
        log_n, log_d = x.log_size_after, x.log_tokens
        by_size, by_tokens = np.exp(-alpha * log_n), np.exp(-beta * log_d)
        value = e + a * by_size + b * by_tokens
        if not jacobian:
            return value, None
        rows = [-a * by_size * log_n, -b * by_tokens * log_d, np.ones_like(by_size), by_size, by_tokens]
        return value, np.stack(rows, axis=1)

    def slope(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        beta, b = theta[:, 1, None], theta[:, 4, None]
        return -beta * b * np.exp(-beta * x.log_tokens)

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        return {"A": ref.params ** theta[:, 0], "B": ref.tokens ** theta[:, 1]}


class Compression(Form):
    """L0^alpha (1+rho)^beta (1+1/(D+1))^gamma, Sengupta et al. 2025, arXiv 2504.04342v1; its log is linear."""

    name = "compression"
    formula = "L0^alpha * (1+rho)^beta * (1 + 1/(D+1))^gamma"
    citation = "Sengupta et al. 2025, arXiv 2504.04342v1"
    uses = ("pruning_rate", "tokens", "loss_before")
    # finite at D = 0, but there the data term is 2^gamma, and a gamma that bends a curve of 1e6 tokens is about 1e6
    diverges_at_zero = True
    parameters = (
        _exponent("alpha", "power of the loss before pruning", lower=-5, upper=5, start=(0.8, 1.2)),
        _exponent("beta", "power of 1 + rate", lower=-20, upper=20, start=(0, 1)),
        _exponent("gamma", "power of the data term; in tokens", lower=-1e6, upper=1e6, start=(0, 0.1)),
    )

    def _columns(self, x: Inputs) -> np.ndarray:
        # gamma is fitted in units of the reference tokens: (1 + 1/(D+1)) differs from 1 by one part in D
        data = np.log1p(1 / (x.tokens + 1)) * x.ref.tokens
        return np.stack([np.log(x.loss_before), np.log1p(x.rate), data])

    def value_and_jacobian(
        self, theta: np.ndarray, x: Inputs, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        columns = self._columns(x)
        value = np.exp(theta @ columns)
        return value, value[:, None, :] * columns if jacobian else None

    def slope(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        derivative = -x.tokens / ((x.tokens + 1) * (x.tokens + 2)) * x.ref.tokens
        return self.value(theta, x) * theta[:, 2, None] * derivative

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        return {"gamma": np.full(len(theta), ref.tokens)}


class Sparse(Form):
    """(a_S (1-rho)^b_S + c_S) N1^-b_N + (a_D/D)^b_D + c, Frantar et al. 2023, arXiv 2309.08520, eq. 1.

    Fitted with d = (a_D/D_ref)^b_D, in which the loss is linear; `to_natural` gives a_D in tokens.
    """

    name = "sparse"
    formula = "(a_S*(1-rho)^b_S + c_S)*N1^-b_N + (a_D/D)^b_D + c"
    citation = "Frantar et al. 2023, arXiv 2309.08520"
    uses = ("params_before", "pruning_rate", "tokens")
    parameters = (
        _exponent("b_S", "how sparsity bends the size term", lower=0.01, upper=8, start=(0.2, 4)),
        _exponent("b_N", "how fast the size term falls", lower=0.01, upper=3, start=(0.05, 1.5)),
        _exponent("b_D", "how fast the token term falls", lower=0.01, upper=4, start=(0.1, 1.5)),
        _coefficient("a_S", "sparsity's part of the size term"),
        _coefficient("c_S", "the rest of the size term"),
        _coefficient("a_D", "tokens at which the token term is one nat"),
        _coefficient("c", "loss of an infinite model on infinite tokens"),
    )

    def value_and_jacobian(
        self, theta: np.ndarray, x: Inputs, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        b_s, b_n, b_d, a_s, c_s, d, c = (theta[:, i, None] for i in range(7))
        log_n, log_d, log_kept = x.log_size_after, x.log_tokens, np.log1p(-x.rate)
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

    def slope(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        b_d, d = theta[:, 2, None], theta[:, 5, None]
        return -b_d * d * np.exp(-b_d * x.log_tokens)

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        size = ref.params ** theta[:, 1]
        return {"a_S": size, "c_S": size}

    def to_natural(self, theta: np.ndarray, ref: Reference) -> np.ndarray:
        out = super().to_natural(theta, ref)
        out[:, 5] = ref.tokens * theta[:, 5] ** (1 / theta[:, 2])
        return out

    def from_natural(self, theta: np.ndarray, ref: Reference) -> np.ndarray:
        out = super().from_natural(theta, ref)
        out[:, 5] = (theta[:, 5] / ref.tokens) ** theta[:, 2]
        return out


FORMS: Mapping[str, Form] = {
    form.name: form for form in (P2(), P2Counts(), P2Shifted(), P2Odds(), Chinchilla(), Compression(), Sparse())
}


def find_form(name: str) -> Form:
    """A form by name. Raises `InputError` with the nearest name for an unknown one."""
    return FORMS[one_of(name, FORMS, what="form")]
