"""While a run goes on: where it will end, and how many tokens it is worth. numpy only.

From a law of such runs, corrected by this run's own evaluations; or from those alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.prediction import LOSS, as_score
from regrow.planning.criteria import Budget, Criterion, Gain
from regrow.planning.curves import Curves
from regrow.planning.score_criteria import ScoreGain
from regrow.planning.solve import ends, optimal_tokens
from regrow.planning.support import Support, supported_tokens, too_far
from regrow.units import check_level, format_count

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.setting import Setting

#: the form whose laws take a run's readings themselves
POOLED = "regrowth"
#: a run's evaluations tell a level, a slope and a bend, however many there are (`regrow.laws.fitting` counts so, too)
_NUMBERS_OF_A_RUN = 3.0
#: as many draws at least are to carry the forecast, or the run and the law are taken to disagree
_LEAST_DRAWS = 30.0
#: standard deviation of the log loss of an evaluation around a law's curve, at least
_LEAST_NOISE = 5e-4
#: noise values per draw
_NOISE_PER_DRAW = 20


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is expected of a run that stands at `tokens`; what is not known is None, and `notes` say why.

    Attributes:
        tokens: tokens trained on so far.
        loss: the last evaluation, nats/token; None before the first.
        final_tokens: tokens that the run is to be trained on.
        final_loss, final_low, final_high: the loss expected there, and its interval of probability `level`.
        best_tokens, best_low, best_high: D* by the criterion, and its interval; None where no number of tokens will do,
            and where the readings don't support one (`regrow.planning.support`).
        best_bound: what is said in place of `best_tokens`, as "more than 67M"; empty where D* is given or not known.
        first_tokens, most_tokens: D* is given between these.
        share_met: share of the draws in which the criterion is met by now; None where the law is not trusted.
        because: the criterion in words.
        source: `law`, or `run` where the run's own curve is all there is.
        target: `loss`, or `score:NAME`: then the losses here are errors, 1 - score, and the sentence speaks of scores.
    """

    tokens: int
    loss: float | None
    final_tokens: int
    final_loss: float | None = None
    final_low: float | None = None
    final_high: float | None = None
    best_tokens: float | None = None
    best_low: float | None = None
    best_high: float | None = None
    best_bound: str = ""
    first_tokens: float | None = None
    most_tokens: float | None = None
    share_met: float | None = None
    level: float = 0.9
    because: str = ""
    source: str = "run"
    notes: tuple[str, ...] = ()
    target: str = LOSS

    def sentence(self) -> str:
        """The forecast in one line, without its notes, which are mostly the same at every evaluation."""
        at = f"at {format_count(self.tokens)} tokens"
        numbers = (self.loss, self.final_loss, self.final_low, self.final_high)
        if self.target == LOSS:
            last, final, low, high = numbers
        else:
            last, final, high, low = (None if error is None else as_score(error) for error in numbers)
        if last is not None:
            at += f", {self.target} {last:.4f}"
        if final is None:
            return f"forecast {at}: none yet ({'; '.join(self.notes)})"
        return (
            f"forecast {at}: {final:.4f} ({low:.4f} to {high:.4f}, {self.level:.0%}) "
            f"at {format_count(self.final_tokens)} tokens; D* {self.best_in_words()}, where {self.because}"
        )

    def best_in_words(self) -> str:
        """D* and its interval, as far as the readings support them."""
        if self.first_tokens is None or self.most_tokens is None:
            return "not known"
        if self.best_tokens is None and self.best_low is None and self.best_high is None:
            return self.best_bound
        low = f"less than {format_count(self.first_tokens)}" if self.best_low is None else format_count(self.best_low)
        high = f"more than {format_count(self.most_tokens)}" if self.best_high is None else format_count(self.best_high)
        middle = self.best_bound if self.best_tokens is None else format_count(self.best_tokens)
        return f"{middle} ({low} to {high})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "notes": list(self.notes)}


def forecast(
    tokens: Sequence[int],
    losses: Sequence[float],
    *,
    final_tokens: int,
    criterion: Criterion | None = None,
    law: Law | None = None,
    setting: Setting | None = None,
    level: float = 0.9,
) -> Forecast:
    """Forecast a run from its evaluations so far.

    Args:
        tokens, losses: the evaluations in the order of their tokens; nats/token, or errors (1 - score) with a law of
            scores.
        criterion: when it is time to stop; `Gain()`, or `ScoreGain()` of a law of scores, if None.
        law, setting: a law and what the run is (`regrow.laws.Setting`); without a law the run's own curve is used.

    Returns a forecast without numbers, and with the reason, where the evaluations are too few or do not fall.

    Raises `InputError` for a budget as the criterion, a law without its setting, or a law that failed.
    """
    of_scores = law is not None and law.benchmark is not None
    criterion = criterion or (ScoreGain() if of_scores else Gain())
    if isinstance(criterion, Budget):
        raise InputError("a budget is spent, not forecast", where="criterion", hint="use gain, slope, recovery, target")
    check_level(level, where="forecast")
    if law is not None and setting is None:
        raise InputError("a law needs the run's size, rate and loss before pruning", where="forecast")
    at, read = np.asarray(tokens, dtype=float), np.asarray(losses, dtype=float)
    empty = Forecast(
        tokens=int(at[-1]) if at.size else 0,
        loss=float(read[-1]) if at.size else None,
        final_tokens=final_tokens,
        level=level,
        because=criterion.describe(),
        source="run" if law is None else "law",
        target=LOSS if law is None else law.target,
    )
    try:
        law, setting, curves, notes = _curves(law, setting, at, read, level)
    except InputError as refused:
        if empty.source == "law":
            raise
        return replace(empty, notes=(refused.what,))
    support = supported_tokens(law).reaching(empty.tokens)
    why = "" if setting is None else too_far(law, law.extrapolates(setting))
    return _read(empty, curves, law, criterion, notes, support, why)


def _curves(
    law: Law | None, setting: Setting | None, at: np.ndarray, read: np.ndarray, level: float
) -> tuple[Law, Setting | None, Curves, list[str]]:
    """The law that the forecast is read from, its setting, its curves given the readings, and what to say of them.

    Without a law or a setting it is a law of the run's own readings. Raises `InputError` where these are too few or do
    not fall, or the law failed.
    """
    if law is None or setting is None:
        from regrow.laws.own_curve import ALONE, fit_curve

        own = fit_curve(at, read)
        return own, setting, Curves(own, ALONE), list(own.warnings)
    if law.status == "failed":
        raise InputError(f"the law of {law.family}, {law.method} failed to fit", hint="fit it again")
    if law.form == POOLED:
        from regrow.laws.pooled.under_way import law_under_way, with_first_reading

        setting = with_first_reading(setting, at, read)
        law, more = law_under_way(law, setting, at, read)
        return law, setting, Curves(law, setting), [*law.warnings, *more]
    curves, notes = _conditioned(law, setting, at, read, level)
    return law, setting, curves, notes


def _read(
    empty: Forecast, curves: Curves, law: Law, criterion: Criterion, notes: list[str], support: Support, why: str
) -> Forecast:
    """The forecast; `why` says why the law is not trusted with D* of this run at all."""
    tail = (1 - empty.level) / 2
    ahead = curves.loss(np.array([float(empty.final_tokens)]))[1:, 0]
    rng = np.random.default_rng(0)
    noise = max(law.point_spread, _LEAST_NOISE) * rng.standard_normal((len(ahead), _NOISE_PER_DRAW))
    measured = ahead[:, None] * np.exp(noise)
    low, middle, high = np.quantile(measured, [tail, 0.5, 1 - tail])
    ahead_of = replace(empty, final_loss=float(middle), final_low=float(low), final_high=float(high))
    try:
        found = optimal_tokens(criterion, curves)[1:]
        because = criterion.describe(curves)
    except InputError as refused:  # a target below the floor: the loss can still be forecast
        return replace(ahead_of, because=criterion.describe(), notes=(*notes, refused.what))
    if why:
        return replace(ahead_of, because=because, notes=(*notes, f"D* is not given: {why}"))
    best_low, best_high = ends(found, empty.level)
    best = ends(found, 0.0)[0]
    if reason := support.reason(best):
        notes = [*notes, f"D* is {reason}"]
    return replace(
        ahead_of,
        best_tokens=best if support.holds(best) else None,
        best_low=best_low if support.holds(best_low) else None,
        best_high=best_high if support.holds(best_high) else None,
        best_bound=support.bound(best),
        first_tokens=support.first,
        most_tokens=support.most,
        share_met=float(np.mean(found <= empty.tokens)),
        because=because,
        notes=tuple(notes),
    )


class _RunCurves(Curves):
    """A law's draws as one run has weighed them: which rows, and by what factor the run lies off each."""

    def __init__(self, law: Law, setting: Setting, rows: np.ndarray, factor: np.ndarray) -> None:
        super().__init__(law, setting)
        self.rows = rows
        self.factor = factor

    def point(self) -> Curves:
        return _RunCurves(self.law, self.setting, self.rows[:1], self.factor[:1])

    def loss(self, tokens: np.ndarray) -> np.ndarray:
        return super().loss(tokens)[self.rows] * self.factor[:, None]


def _conditioned(
    law: Law, setting: Setting, tokens: np.ndarray, losses: np.ndarray, level: float
) -> tuple[Curves, list[str]]:
    """A law's draws, each weighed by the evaluations of the run and shifted by the run's own offset.

    The log loss of an evaluation is the draw's, plus an offset of the run, plus noise; both Gaussian with the law's own
    spreads, so each draw has a closed marginal likelihood and a closed posterior of the offset. The likelihood is
    tempered to the three numbers that a curve holds, and further where hardly a draw explains the run.
    """
    plain = Curves(law, setting)
    if not len(law.draws):
        raise InputError("the law has no bootstrap draws, so a forecast would have no interval", hint="fit it again")
    notes = [f"the law: {warning}" for warning in law.warnings] if law.status != "ok" else []
    rng = np.random.default_rng(0)
    inside = (tokens >= law.ranges["tokens"][0] * 0.999) & (tokens > 0) & np.isfinite(losses)
    between, noise = max(law.run_spread, 1e-9), max(law.point_spread, _LEAST_NOISE)
    count = len(law.draws)
    if not inside.any():
        factor = np.exp(np.append(0.0, between * rng.standard_normal(count)))
        return _RunCurves(law, setting, np.arange(count + 1), factor), [*notes, "by the law alone: no evaluation yet"]
    predicted = np.log(np.maximum(plain.loss(tokens[inside]), 1e-12))
    off = np.log(losses[inside])[None, :] - predicted  # [1 + draws, n]
    n = off.shape[1]
    temper = min(1.0, _NUMBERS_OF_A_RUN / n)
    spread = np.hypot(between, noise)
    strange = np.abs(off[1:, -1].mean()) > 2 * np.hypot(spread, off[1:, -1].std())
    while True:
        precision = temper * n / noise**2 + 1 / between**2
        shift = temper * off.sum(axis=1) / noise**2 / precision
        log_like = -0.5 * temper * np.sum(off**2, axis=1) / noise**2 + 0.5 * shift**2 * precision
        weight = np.exp(log_like[1:] - log_like[1:].max())
        weight /= weight.sum()
        if 1 / np.sum(weight**2) >= min(_LEAST_DRAWS, count / 2) or temper < 1e-6:
            break
        temper /= 2
    if strange:
        notes.append(
            f"the run's loss lies {'above' if off[0, -1] > 0 else 'below'} what the law expects: "
            "the law may not be of this model and this data"
        )
    # systematic resampling: each draw as often as its weight says
    rows = 1 + np.minimum(np.searchsorted(np.cumsum(weight), (np.arange(count) + 0.5) / count), count - 1)
    rows = np.append(0, rows)
    factor = np.exp(shift[rows] + np.append(0.0, rng.standard_normal(count)) / np.sqrt(precision))
    return _RunCurves(law, setting, rows, factor), notes
