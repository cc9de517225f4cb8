"""The P^2 law of post-training after pruning, and its variants."""

from __future__ import annotations

import numpy as np

from regrow.errors import InputError
from regrow.laws.forms.base import ALPHA, BETA, DELTA, GAMMA, Form, Identified, Parameter, Simpler, coefficient
from regrow.laws.setting import PARAMS_BEFORE, PRUNING_RATE, TOKENS, Reference, Setting, distinct

#: log rates that move less than this once their trend with size is taken out cannot carry an exponent of their own
_LEAST_RATE_SPREAD = 0.05
#: gamma where the runs do not show it
_GAMMA_HELD = -1.0
#: why the curve of the loss before pruning can't be held
_BEFOREHAND = "it is fitted to the losses before pruning alone"
_NO_SIZE_TERM = Simpler(
    zero=("N_C", "alpha"),
    note="N_C and E cannot be told apart by these runs: the simpler law without N_C/N0^alpha is used, and predictions "
    "at other sizes lean on delta alone",
)


class P2(Form):
    """L0 + (1/rho)^gamma (1/N0)^delta (N_C/N0^alpha + D_C/D^beta + E), Chen et al. 2025, arXiv 2411.10272, eq. 1."""

    name = "p2"
    formula = "L0 + (1/rho)^gamma * (1/N0)^delta * (N_C/N0^alpha + D_C/D^beta + E)"
    citation = "Chen et al. 2025, P^2 Law, arXiv 2411.10272"
    javascript = "(p, s) => p2Curve(p, s, s.pruning_rate, s.loss_before, 0)"
    parameters: tuple[Parameter, ...] = (
        ALPHA,
        BETA,
        GAMMA,
        DELTA,
        coefficient("N_C", "size of the term that falls with the parameters"),
        coefficient("D_C", "size of the term that falls with tokens"),
        coefficient(
            "E",
            "what stays of the gap after any number of tokens",
            at_lower="E is 0: the runs show no floor above the baseline yet; longer runs would tell",
        ),
    )

    def _log_rate(self, x: Setting) -> np.ndarray:
        return x.log("pruning_rate")

    def _log_tokens(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        return x.log("tokens")[None, :]

    def baseline(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        return np.broadcast_to(x.loss_before, (len(theta), len(x.loss_before)))

    def value_and_jacobian(
        self, theta: np.ndarray, x: Setting, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        alpha, beta, gamma, delta, n_c, d_c, e = (theta[:, i, None] for i in range(7))
        log_n, log_r, log_d = x.log("params_before"), self._log_rate(x), self._log_tokens(theta, x)
        scale = np.exp(-gamma * log_r - delta * log_n)
        by_size = scale * np.exp(-alpha * log_n)
        by_tokens = scale * np.exp(-beta * log_d)
        size_term, token_term = n_c * by_size, d_c * by_tokens
        gap = size_term + token_term + e * scale
        value = self.baseline(theta, x) + gap
        if not jacobian:
            return value, None
        # written in place: a stack of rows would be copied once more
        rows = np.empty((len(theta), len(self.parameters), value.shape[1]))
        np.multiply(size_term, -log_n, out=rows[:, 0])
        np.multiply(token_term, -log_d, out=rows[:, 1])
        np.multiply(gap, -log_r, out=rows[:, 2])
        np.multiply(gap, -log_n, out=rows[:, 3])
        rows[:, 4], rows[:, 5], rows[:, 6] = by_size, by_tokens, scale
        for i, row in enumerate(self._more_rows(theta, x, token_term), 7):
            rows[:, i] = row
        return value, rows

    def _more_rows(self, theta: np.ndarray, x: Setting, token_term: np.ndarray) -> list[np.ndarray]:
        return []

    def _token_term(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        beta, gamma, delta, d_c = (theta[:, i, None] for i in (1, 2, 3, 5))
        return d_c * np.exp(
            -gamma * self._log_rate(x) - delta * x.log("params_before") - beta * self._log_tokens(theta, x)
        )

    def slope(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        return -theta[:, 1, None] * self._token_term(theta, x)

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        alpha, beta, gamma, delta = theta[:, :4].T
        whole = ref["pruning_rate"] ** gamma * ref["params_before"] ** delta
        return {"N_C": whole * ref["params_before"] ** alpha, "D_C": whole * ref["tokens"] ** beta, "E": whole}

    def identify(self, x: Setting, *, where: str) -> Identified:
        rate = x.pruning_rate
        if (rate <= 0).any():
            raise InputError(
                "a pruning rate of 0", where=where, hint="give unpruned runs the method none: they are controls"
            )
        sizes, rates = distinct(x.params_before), distinct(rate)
        log_n, log_r = np.log(x.params_before), np.log(rate)
        held, notes = dict[str, float](), list[str]()
        if sizes.size == 1:
            held |= {"N_C": 0.0, "alpha": 0.0, "delta": 0.0}
            notes.append(
                "one model size: alpha and delta are held at 0 and N_C is part of E; the law does not support other "
                "sizes"
            )
            left = log_r - log_r.mean()
        else:
            trend = np.stack([np.ones_like(log_n), log_n - log_n.mean()], axis=1)
            left = log_r - trend @ np.linalg.lstsq(trend, log_r, rcond=None)[0]
        if left.std() < _LEAST_RATE_SPREAD:
            # the gap proportional to the rate: nothing pruned costs nothing, and a rate that saturates with the size
            # (2:4, where embeddings stay) is not read as a trend that goes on
            held["gamma"] = _GAMMA_HELD
            if sizes.size > 1 and rates.size > 1:
                notes.append(
                    "the rate moves only with the size: gamma and delta cannot be told apart; gamma is held at -1 (a "
                    "gap proportional to the rate), and the law supports other sizes on the same trend, not other rates"
                )
            else:
                notes.append(
                    "one pruning rate: gamma is held at -1 (a gap proportional to the rate); the law does not support "
                    "other rates"
                )
        if sizes.size == 2:
            held |= {"N_C": 0.0, "alpha": 0.0}
            notes.append(
                "two model sizes: N_C and E cannot be told apart; N_C is held at 0 and predictions at other sizes lean "
                "on delta alone; the random effect of a size can't be estimated from two, so their intervals are a "
                "lower limit"
            )
        return Identified(held=held, notes=tuple(notes), simpler=(_NO_SIZE_TERM,) if sizes.size > 2 else ())


class P2Odds(P2):
    """`p2` with rho replaced by rho/(1-rho): a gap that grows without bound as everything is pruned away."""

    name = "p2_odds"
    javascript = "(p, s) => p2Curve(p, s, s.pruning_rate / (1 - s.pruning_rate), s.loss_before, 0)"
    formula = "p2 with rho replaced by rho/(1-rho)"
    citation = "regrow; after Chen et al. 2025, arXiv 2411.10272"

    def _log_rate(self, x: Setting) -> np.ndarray:
        return x.log("pruning_rate") - np.log1p(-x.pruning_rate)


class P2Shifted(P2):
    """`p2` with D replaced by D + D_s: finite at zero tokens, so that the loss right after pruning counts too."""

    name = "p2_shifted"
    formula = "p2 with D replaced by D + D_s"
    citation = "regrow; after Chen et al. 2025, arXiv 2411.10272"
    covers_zero = ("tokens",)
    javascript = "(p, s) => p2Curve(p, s, s.pruning_rate, s.loss_before, p.D_s)"
    parameters = (
        *P2.parameters,
        # not linear, and never exactly 0, where the loss at zero tokens would be infinite
        Parameter(
            name="D_s",
            meaning="tokens that pruning has cost: the shift of D",
            lower=1e-5,
            upper=1e3,
            start=(1e-3, 1.0),
            at_lower="D_s is as good as 0: the runs show no shift, p2 without it says the same",
            not_held="the form p2 is the one without it",
        ),
    )

    def _log_tokens(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        return np.log(x.relative("tokens")[None, :] + theta[:, 7, None])

    def _more_rows(self, theta: np.ndarray, x: Setting, token_term: np.ndarray) -> list[np.ndarray]:
        return [-theta[:, 1, None] * token_term / (x.relative("tokens")[None, :] + theta[:, 7, None])]

    def slope(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        tokens = x.relative("tokens")[None, :]
        return super().slope(theta, x) * tokens / (tokens + theta[:, 7, None])

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        return {**super().scales(theta, ref), "D_s": np.full(len(theta), ref["tokens"])}


class P2Counts(P2):
    """`p2` with L0 replaced by the family's own curve E0 + A*N0^-a, so that counts and tokens are all it needs.

    The curve is fitted first, to the runs' losses before pruning, and then held (first version of arXiv 2411.10272).
    """

    name = "p2_counts"
    formula = "E0 + A*N0^-a + (1/rho)^gamma * (1/N0)^delta * (N_C/N0^alpha + D_C/D^beta + E)"
    citation = "Chen et al. 2024, arXiv 2411.10272v1"
    columns = (PARAMS_BEFORE, PRUNING_RATE, TOKENS)
    beforehand = ("E0", "A", "a")
    javascript = "(p, s) => p2Curve(p, s, s.pruning_rate, p.E0 + p.A * Math.pow(s.params_before, -p.a), 0)"
    parameters = (
        *P2.parameters,
        Parameter(name="E0", meaning="loss before pruning of an infinite model of the family", not_held=_BEFOREHAND),
        Parameter(name="A", meaning="what size adds to the loss before pruning", not_held=_BEFOREHAND),
        Parameter(
            name="a", meaning="how fast that falls with the parameters", lower=0.01, upper=3, not_held=_BEFOREHAND
        ),
    )

    def baseline(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        e0, big, small = (theta[:, i, None] for i in (7, 8, 9))
        return e0 + big * np.exp(-small * x.log("params_before"))

    def _more_rows(self, theta: np.ndarray, x: Setting, token_term: np.ndarray) -> list[np.ndarray]:
        power = np.exp(-theta[:, 9, None] * x.log("params_before"))
        return [np.ones_like(power), power, -theta[:, 8, None] * power * x.log("params_before")]

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        return {**super().scales(theta, ref), "A": ref["params_before"] ** theta[:, 9]}

    def fit_beforehand(self, x: Setting, ref: Reference) -> tuple[np.ndarray, tuple[str, ...]]:
        """E0, A, a of E0 + A (N0/ref)^-a through the losses before pruning, by least squares over the sizes."""
        sizes = np.unique(x.params_before)
        mean = np.array([x.loss_before[x.params_before == n].mean() for n in sizes])
        if distinct(sizes).size == 1:
            return np.array([mean.mean(), 0.0, 0.0]), ("one model size: the loss before pruning is held constant",)
        log_n = np.log(sizes / ref["params_before"])
        two = distinct(sizes).size == 2
        best, found = np.inf, np.array([mean.mean(), 0.0, 0.0])
        for a in np.geomspace(0.01, 3, 600):
            power = np.exp(-a * log_n)
            rows = np.stack([np.zeros_like(power) if two else np.ones_like(power), power], axis=1)
            answer = np.linalg.lstsq(rows, mean, rcond=None)[0]
            if (answer < 0).any():
                continue
            cost = float(np.sum((rows @ answer - mean) ** 2))
            if cost < best:
                best, found = cost, np.array([*answer, a])
        note = "the loss before pruning follows A*N0^-a with E0 = 0: two sizes cannot tell E0" if two else ""
        if len(sizes) == 3:
            note = (
                "three sizes fix the curve of the loss before pruning exactly: its error is not part of the intervals"
            )
        return found, (note,) if note else ()
