"""The form `regrowth`: what pruning cost at once, and how that closes."""

from __future__ import annotations

import numpy as np

from regrow.laws.forms.base import Form, Parameter
from regrow.laws.regrowth.before import log_odds
from regrow.laws.regrowth.curve import LEAST_GAP, effective_tokens, gap_alone, gap_and_jacobian
from regrow.laws.regrowth.effects import SIZE, covariates
from regrow.laws.setting import (
    BASIC,
    BATCH_TOKENS,
    LEARNING_RATE,
    LOSS_PRUNED,
    REFITTED,
    WARMUP_TOKENS,
    Reference,
    Setting,
)

_TINY = 1e-300


def _number(
    name: str,
    meaning: str,
    *,
    lower: float = -np.inf,
    effect_of: str = "",
    unwritten: float | None = None,
    shown: bool = True,
) -> Parameter:
    return Parameter(
        name=name,
        meaning=meaning,
        lower=lower,
        effect_of=effect_of,
        not_held="it differs between runs",
        unwritten=unwritten,
        shown=shown,
    )


class Regrowth(Form):
    """L0 (1 + drift) + G(D), with the gap G of `regrow.laws.regrowth.curve`.

    What it starts from is the gap right after pruning, `loss_pruned - loss_before`. Where `loss_pruned` is not known
    (NaN, or no such column) the gap is predicted from the rate and the size (`regrow.laws.regrowth.before`). Tokens of
    a warm-up count less (`effective_tokens`); without the column `warmup_tokens` there is none.

    The pace is that of the usual run: of what most of the fitted runs were pruned and trained with. Where another is
    pruned by a scorer that solves weights again or not (`refitted`, 1 or 0), or has another `learning_rate` or
    `batch_tokens`, the pace changes with it; what is not given is as usual.
    """

    name = "regrowth"
    formula = (
        "L0 (1 + drift D/(D + drift_tokens)) + e^a G0 (1 + D/(b pace))^-b + end L0 (1 - (1 + D/(b pace))^-b), "
        "a = level + level_gap (G0 - 1), b = exponent G0^exponent_gap (N0/1M)^exponent_size; "
        "pace by e^pace_refitted, rate^pace_rate, batch^pace_batch; end by end_lost ln(N0/N1)"
    )
    citation = "regrow, docs/laws.md"
    columns = BASIC
    optional = (LOSS_PRUNED, WARMUP_TOKENS, REFITTED, LEARNING_RATE, BATCH_TOKENS)
    covers_zero = ("tokens",)
    javascript = "(p, s) => regrowthCurve(p, s)"
    parameters = (
        _number("level", "ln of where the curve starts, over the gap right after pruning"),
        _number("level_gap", "how that goes with the gap, per nat above 1"),
        _number("pace", "tokens in which the gap would close at its first speed", lower=_TINY),
        _number("pace_refitted", "ln of how many times longer that is where weights were solved again", unwritten=0.0),
        _number("pace_rate", "how it goes with the learning rate, a power", unwritten=0.0, shown=False),
        _number("pace_batch", "how it goes with the tokens of a batch, a power", unwritten=0.0, shown=False),
        _number("exponent", "b of a gap of 1 nat and 1M parameters", lower=_TINY),
        _number("exponent_gap", "how b goes with the gap, a power"),
        _number("exponent_size", "how b goes with the parameters before pruning, a power", effect_of="params_before"),
        _number("end", "what is left in the end, a share of the loss before pruning"),
        _number("end_lost", "how that goes with ln of the parameters before over those after pruning", unwritten=0.0),
        _number("drift", "how far an unpruned model moves on the same tokens, a share of its loss"),
        _number("drift_tokens", "tokens at which half of that is reached", lower=_TINY),
        _number("gap", "ln of the gap of 1M parameters half pruned, where it was not measured"),
        _number("gap_rate", "how the gap goes with rate/(1 - rate), a power"),
        _number("gap_size", "how the gap goes with the parameters before pruning, a power"),
        _number("usual_refitted", "1 where most runs had weights solved again", unwritten=0.0, shown=False),
        _number("usual_rate", "learning rate of most runs, 0 if not known", unwritten=0.0, shown=False),
        _number("usual_batch", "tokens of a batch of most runs, 0 if not known", unwritten=0.0, shown=False),
    )

    def gap_pruned(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        """G0 [B, n] in nats: measured where `loss_pruned` is known, else predicted."""
        scale, by_rate, by_size = (theta[:, self.index(name), None] for name in ("gap", "gap_rate", "gap_size"))
        predicted = np.exp(scale + by_rate * log_odds(x.pruning_rate) + by_size * np.log(x.params_before / SIZE))
        if "loss_pruned" not in x:
            return predicted
        measured = np.maximum(x.loss_pruned - x.loss_before, LEAST_GAP * x.loss_before)
        return np.where(np.isnan(x.loss_pruned), predicted, measured)

    def covariates(self, theta: np.ndarray, x: Setting, gap: np.ndarray) -> dict[str, np.ndarray]:
        """What psi goes with (`regrow.laws.regrowth.effects.covariates`, and the recipe over the usual), [B, n]."""
        params, rate = (np.broadcast_to(value, gap.shape) for value in (x.params_before, x.pruning_rate))
        at = {name: theta[:, self.index(name), None] for name in ("usual_refitted", "usual_rate", "usual_batch")}
        refitted = x["refitted"] - at["usual_refitted"] if "refitted" in x else np.zeros(1)
        return {
            **covariates(gap, params, rate, np.nan_to_num(refitted)),
            "log_rate": _log_over(x, "learning_rate", at["usual_rate"]),
            "log_batch": _log_over(x, "batch_tokens", at["usual_batch"]),
        }

    def numbers(self, theta: np.ndarray, x: Setting, gap: np.ndarray) -> np.ndarray:
        """psi [B, n, 4] of the curve at every point, for gaps right after pruning [B, n]."""
        at = {name: theta[:, i, None] for i, name in enumerate(self.names)}
        known = self.covariates(theta, x, gap)
        log_b = np.log(at["exponent"]) + at["exponent_gap"] * known["log_gap"]
        log_b = log_b + at["exponent_size"] * known["log_size"]
        log_pace = np.log(at["pace"]) + at["pace_refitted"] * known["refitted"]
        log_pace = log_pace + at["pace_rate"] * known["log_rate"] + at["pace_batch"] * known["log_batch"]
        level = at["level"] + at["level_gap"] * known["gap"]
        end = at["end"] + at["end_lost"] * known["lost"]
        return np.stack([level, log_pace, log_b, end], axis=-1)

    def baseline(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        """What the unpruned model would have on the same tokens, [B, n]."""
        share, half = theta[:, self.index("drift"), None], theta[:, self.index("drift_tokens"), None]
        # D / (D + D_d) is 1 where the tokens are without limit
        return x.loss_before * (1 + share / (1 + half / np.maximum(x.tokens, _TINY)))

    def _parts(
        self, theta: np.ndarray, x: Setting, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Gap [B, n], its derivatives by psi [B, n, 4] (of no number if not asked for), the gap right after pruning and
        effective tokens, [B, n]."""
        start = self.gap_pruned(theta, x)
        psi = self.numbers(theta, x, start)
        warmup = np.nan_to_num(x["warmup_tokens"]) if "warmup_tokens" in x else 0.0
        tokens = np.broadcast_to(effective_tokens(x.tokens, warmup), start.shape)
        endless = np.isposinf(tokens)
        before = np.broadcast_to(x.loss_before, start.shape)
        at = np.where(endless, 0.0, tokens)[..., None]
        if jacobian:
            gap, by_psi = gap_and_jacobian(psi, start, before, at)
        else:
            gap, by_psi = gap_alone(psi, start, before, at), np.empty((*start.shape, 1, 0))
        gap = np.where(endless, psi[..., 3] * before, np.where(tokens == 0, start, gap[..., 0]))
        return gap, np.where(endless[..., None], 0.0, by_psi[..., 0, :]), start, tokens

    def value_and_jacobian(
        self, theta: np.ndarray, x: Setting, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        gap, by_psi, start, _ = self._parts(theta, x, jacobian=jacobian)
        value = self.baseline(theta, x) + gap
        if not jacobian:
            return value, None
        at = {name: theta[:, i, None] for i, name in enumerate(self.names)}
        known = self.covariates(theta, x, start)
        level, pace, power, end = (by_psi[..., i] for i in range(4))
        share = 1 / (1 + at["drift_tokens"] / np.maximum(x.tokens, _TINY))
        # level is proportional to the gap right after pruning, which enters level and exponent as well
        by_log_gap = level * (1 + at["level_gap"] * start) + power * at["exponent_gap"]
        if "loss_pruned" in x:
            by_log_gap = np.where(np.isnan(x.loss_pruned), by_log_gap, 0.0)
        rows = [
            level,
            level * known["gap"],
            pace / at["pace"],
            pace * known["refitted"],
            pace * known["log_rate"],
            pace * known["log_batch"],
            power / at["exponent"],
            power * known["log_gap"],
            power * known["log_size"],
            end,
            end * known["lost"],
            x.loss_before * share,
            -x.loss_before * at["drift"] * share * (1 - share) / at["drift_tokens"],
            by_log_gap,
            by_log_gap * log_odds(x.pruning_rate),
            by_log_gap * known["log_size"],
            -pace * at["pace_refitted"] * (np.isfinite(x["refitted"]) if "refitted" in x else 0.0),
            -pace * at["pace_rate"] * _over(x, "learning_rate", at["usual_rate"]),
            -pace * at["pace_batch"] * _over(x, "batch_tokens", at["usual_batch"]),
        ]
        return value, np.stack([np.broadcast_to(row, gap.shape) for row in rows], axis=1)

    def slope(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        by_psi = self._parts(theta, x)[1]
        share = 1 / (1 + theta[:, self.index("drift_tokens"), None] / np.maximum(x.tokens, _TINY))
        drifting = x.loss_before * theta[:, self.index("drift"), None] * share * (1 - share)
        # the tokens enter as T / pace, so d/d ln T is minus d/d ln pace
        warmup = np.nan_to_num(x["warmup_tokens"]) if "warmup_tokens" in x else np.zeros_like(x.tokens)
        rising = np.where(x.tokens < warmup, 2.0, x.tokens / np.maximum(x.tokens - warmup / 2, _TINY))
        rising = np.where(np.isposinf(x.tokens), 1.0, rising)
        return drifting - by_psi[..., 1] * rising

    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        return {}  # the formula reads natural units, whatever the reference


def _known(x: Setting, name: str, usual: np.ndarray) -> np.ndarray:
    """Where both the value of a column and what is usual are known, [B, n]."""
    return (usual > 0) & np.isfinite(x[name]) if name in x else np.zeros((1, 1), dtype=bool)


def _log_over(x: Setting, name: str, usual: np.ndarray) -> np.ndarray:
    """ln(x / usual) of a column, [B, n]; 0 where either is not known."""
    known = _known(x, name, usual)
    return np.log(np.where(known, x[name], 1.0) / np.where(known, usual, 1.0)) if name in x else np.zeros((1, 1))


def _over(x: Setting, name: str, usual: np.ndarray) -> np.ndarray:
    """1 / usual where both are known, else 0."""
    return np.where(_known(x, name, usual), 1 / np.where(usual > 0, usual, 1.0), 0.0)
