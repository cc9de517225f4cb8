"""What runs tell of D*: sensitivities, and the variance of the fitted log D*.

The log loss of a run's checkpoints is the law plus an offset that they share (standard deviation `run_spread`) plus
noise of their own (`point_spread`). A fit counts every run once, so to first order its parameters are off by
A^-1 sum_r J_r^T e_r / n_r with A = sum_r J_r^T J_r / n_r, J_r the derivatives of the log losses of run r and e_r what
they are off by. Runs are independent, so what they add to A and to the variance of the sum are sums, too: their
`moments`. The law is linearised at `B` parameter vectors, which stand for what is not known of it, and designs are
judged by the mean over them of the log variance of log D*: a c-optimal design for the estimator in use, averaged over
a prior (Chaloner & Verdinelli 1995, Statistical Science 10(3)).

No law holds exactly. A design that assumes so asks for runs so short that their gap is several nats. `Discrepancy` is
the model discrepancy, how far the truth may be from a law: the whole gap of a run is off by a share of it, and each
exponent by a share of it per e-fold of its input. For the latter there are three bends beside the
parameters: the logarithm of an input is x + bend * x^2 / 2 with x = log(input / reference). A fit has no bends; what
they do to its D* is a bias, and the variance here counts its expected square.

Shapes: `B` vectors, `p` parameters, `q` = p + 3 with the bends, `n` checkpoints, `C` candidate runs. numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.errors import InputError
from regrow.laws.forms import Form
from regrow.laws.setting import Setting, distinct
from regrow.planning.solve import FEWEST, last_crossings, refined

BENDS = ("tokens", "params_before", "pruning_rate")
#: what is known of a parameter before any run, as a standard deviation: next to nothing; and how little it weighs
_VAGUE, _LIGHT = 10.0, 1e-9
#: half step of the central differences in the logarithm of an input
_STEP = 1e-4
#: sizes that a form needs to tell its size term from its floor
_LEAST_SIZES = 3
#: runs beyond one each for the level, the size and the rate: below it, fits borrow the spread between runs from others
_LEAST_DOF = 3


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """Model discrepancy: how far a law may be from the truth, as standard deviations; all 0: the law is exact.

    Attributes:
        gap: share by which the whole gap of a run is off.
        tokens, params_before, pruning_rate: share by which the exponent of this input changes per e-fold of it.

    The defaults are small on purpose: enough to keep a design from runs that are good only if the law is exact, and not
    so much that it gives up narrow intervals where the law holds.
    """

    gap: float = 0.002
    tokens: float = 0.002
    params_before: float = 0.01
    pruning_rate: float = 0.03

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"a discrepancy of {value:g} in {name}", hint="give a share, 0 or more")

    def times(self, factor: float) -> Discrepancy:
        """The same discrepancy, so many times as large."""
        return Discrepancy(**{name: factor * value for name, value in vars(self).items()})

    @property
    def bends(self) -> np.ndarray:
        """Standard deviations [3] of the bends."""
        return np.array([getattr(self, name) for name in BENDS])


EXACT = Discrepancy().times(0)
#: a law that bends as much as `p2` and `p2_odds` differ: by 0.3 per e-fold of the rate, between rates of 0.15 and 0.35
BENT = Discrepancy().times(10)


def sensitivities(form: Form, theta: np.ndarray, x: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Loss [B, n] in nats, and its derivatives [B, q, n] by the parameters `theta` [B, p] (scaled) and the bends."""
    value, jacobian = form.value_and_jacobian(theta, x)
    assert jacobian is not None
    rows = [0.5 * _by_log(form, theta, x, name) * x.log(name) ** 2 for name in BENDS]
    return value, np.concatenate([jacobian, np.stack(rows, axis=1)], axis=1)


def _by_log(form: Form, theta: np.ndarray, x: Setting, name: str) -> np.ndarray:
    if name == "tokens":
        return form.slope(theta, x)
    up, down = (x.replace(**{name: x[name] * np.exp(step)}) for step in (_STEP, -_STEP))
    return (form.value(theta, up) - form.value(theta, down)) / (2 * _STEP)


def run_moments(
    form: Form, theta: np.ndarray, x: Setting, *, run_spread: float, point_spread: float, gap_discrepancy: float = 0.0
) -> np.ndarray:
    """What one run with checkpoints `x` adds: [B, p, 2 p + 3], spreads in log loss.

    J^T J / n, the variance of J^T e / n, and J^T K / n with K the derivatives by the bends, side by side.
    """
    value, rows = sensitivities(form, theta, x)
    rows = rows / value[:, None, :]
    p, n = theta.shape[1], rows.shape[2]
    gram = rows[:, :p] @ rows.transpose(0, 2, 1) / n
    shared = np.stack([np.full_like(value, run_spread), gap_discrepancy * (1 - x.loss_before / value)], axis=2)
    along = rows[:, :p] @ shared / n
    noise = point_spread**2 / n * gram[:, :, :p] + along @ along.transpose(0, 2, 1)
    return np.concatenate([gram[:, :, :p], noise, gram[:, :, p:]], axis=2)


def no_moments(vectors: int, parameters: int) -> np.ndarray:
    """The moments [B, p, 2 p + 3] before any run: parameters are known to within `_VAGUE`, with hardly any weight."""
    one = np.eye(parameters)
    start = np.concatenate([_LIGHT * one, (_LIGHT * _VAGUE) ** 2 * one, np.zeros((parameters, len(BENDS)))], axis=1)
    return np.broadcast_to(start, (vectors, *start.shape)).copy()


def variance(moments: np.ndarray, gradient: np.ndarray, bends: np.ndarray) -> np.ndarray:
    """Expected square of the error of log D* [..., B], from the sum of moments [..., B, p, 2 p + 3].

    `gradient` [B, q] is that of log D* by parameters and bends, `bends` [3] the bends' standard deviations.
    """
    p = moments.shape[-2]
    a, noise, along = np.split(moments, [p, 2 * p], axis=-1)
    own = np.broadcast_to(gradient[:, :p, None], (*a.shape[:-1], 1))
    weight = np.linalg.solve(a, own)
    chance = weight.swapaxes(-1, -2) @ noise @ weight
    bias = (weight.swapaxes(-1, -2) @ along)[..., 0, :] - gradient[:, p:]
    return np.maximum(chance[..., 0, 0] + np.sum((bends * bias) ** 2, axis=-1), 1e-300)


def log_optimal_tokens(form: Form, theta: np.ndarray, x: Setting, *, min_gain: float) -> np.ndarray:
    """ln D* [B] at the one setting `x` (its tokens are not read), by the criterion `gain`.

    Minus infinity where no doubling gains as much, infinity where one still does at the most tokens looked for
    (`regrow.planning.solve.MOST`).
    """

    def gain(rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:  # [b, p], [n] -> [b, n]
        return form.value(rows, x.at(tokens)) - form.value(rows, x.at(2 * tokens))

    limit = np.array([min_gain])
    found = last_crossings(lambda tokens: gain(theta, tokens), limit)
    for row in np.flatnonzero((found > FEWEST) & (found < np.inf)):
        found[row] = refined(lambda tokens, row=row: gain(theta[[row]], tokens), limit, found[row])  # type: ignore[misc]
    return np.where(found > FEWEST, np.log(found), -np.inf)


def gradient_of_log_tokens(form: Form, theta: np.ndarray, x: Setting, log_tokens: np.ndarray) -> np.ndarray:
    """d ln D* / d(parameters and bends), [B, q], at D* = exp(log_tokens) [B], by implicit differentiation.

    With g = L(D) - L(2D): d ln D* = -(dg / d unknowns) / (dg / d ln D).
    """
    rows = np.arange(len(theta))
    once, twice = (x.at(factor * np.exp(log_tokens)) for factor in (1, 2))
    by_unknown = sensitivities(form, theta, once)[1] - sensitivities(form, theta, twice)[1]
    by_tokens = form.slope(theta, once) - form.slope(theta, twice)
    return -by_unknown[rows, :, rows] / by_tokens[rows, rows][:, None]


def not_told(form: Form, sizes: np.ndarray, rates: np.ndarray, *, runs: int, masked: bool) -> str | None:
    """What so many `runs` of these sizes and rates cannot tell, in words; None where they can carry the form.

    `masked`: N:M sparsity, whose rate goes with the size, so that its exponent is held anyway.
    """
    count, least = distinct(sizes).size, (2 if masked else 3) + _LEAST_DOF
    if count < _LEAST_SIZES:
        return f"{count} model size{'s' * (count != 1)}, and N_C and E take {_LEAST_SIZES} to be told apart"
    if runs < least:
        return f"{runs} run{'s' * (runs != 1)}, and it takes {least} to know how much runs differ"
    if masked:
        return None
    found = form.identify(Setting(params_before=sizes, pruning_rate=rates), where="design")
    return "; ".join(found.notes) if found.held else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """How well D* is known after a choice among `C` candidate runs, from the moments that each adds.

    Attributes:
        candidates: [C, B, p, 2 p + 3] moments of the candidates.
        base: [B, p, 2 p + 3] moments of the runs already made.
        gradient: [B, q] of log D*.
        bends: [3] standard deviations of the bends.
    """

    candidates: np.ndarray
    base: np.ndarray
    gradient: np.ndarray
    bends: np.ndarray

    def after(self, chosen: Sequence[int]) -> np.ndarray:
        """[B, p, 2 p + 3] after these runs."""
        return self.base + self.candidates[list(chosen)].sum(axis=0)

    def value(self, chosen: Sequence[int]) -> float:
        """Mean log variance of log D* after these runs; lower is better."""
        return float(self._mean_log(self.after(chosen)))

    def gains(self, chosen: Sequence[int], new: np.ndarray) -> np.ndarray:
        """By how much each of the candidates `new` would lower `value`."""
        known = self.after(chosen)
        return self._mean_log(known) - self._mean_log(known + self.candidates[new])

    def _mean_log(self, moments: np.ndarray) -> np.ndarray:
        return np.log(variance(moments, self.gradient, self.bends)).mean(axis=-1)
