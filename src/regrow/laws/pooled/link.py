"""From loss to score: one monotone curve over the checkpoints of a family, whatever their method, size or tokens.

    score(L) = low + (high - low) / (1 + exp((L - middle) / width)),        width > 0, low < high <= 1

`low` is the score of guessing where that is known. The benchmark's questions are answered by more models the lower
their loss, and a logistic curve is the usual link between a loss and a share of right answers (Dubey et al. 2024,
arXiv 2407.21783, section 3.2.1; Bhagia et al. 2024, arXiv 2412.04403). Readings are weighed by their binomial noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from regrow.errors import InputError
from regrow.laws.pooled.scored import chance_of, stderr_of
from regrow.runs.record import CurvePoint, RunRecord
from regrow.runs.scores import Score
from regrow.units import plural

#: pairs of a loss and a score that a curve of four numbers takes at least, and the range of losses that they span
_LEAST_PAIRS, _LEAST_RANGE = 6, 0.05
#: noise of a score beyond its number of questions, a fraction; the whole noise where that is not known
_WOBBLE, _UNKNOWN = 0.005, 0.015


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The loss and the score of one checkpoint; nats/token, a fraction, and the score's standard deviation."""

    loss: float
    score: float
    stderr: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Link:
    """A fitted curve from loss to score.

    Attributes:
        family, benchmark: what it is of.
        low, high, middle, width: of the formula; fractions and nats/token.
        noise: standard deviation of a reading around the curve, a fraction.
        freedom: degrees of freedom of the noise.
        pairs: how many checkpoints were fitted.
    """

    family: str
    benchmark: str
    low: float
    high: float
    middle: float
    width: float
    noise: float
    freedom: float
    pairs: int

    def score(self, loss: np.ndarray | float) -> np.ndarray:
        """The score at losses in nats/token, of their shape; a fraction."""
        return np.asarray(_curve(np.array([self.low, self.high, self.middle, np.log(self.width)]), np.asarray(loss)))


def pairs_of(records: Iterable[RunRecord], benchmark: str, *, trained: bool = True) -> list[Pair]:
    """The checkpoints of these runs that have a loss and a score, controls and parents included.

    Args:
        trained: whether checkpoints count, or the parents alone.
    """
    records = list(records)
    found = [pair for record in records for pair in pairs_at(record.curve, benchmark)] if trained else []
    parents = {
        (record.loss_before, parent.value): _pair(record.loss_before, parent)
        for record in records
        if (parent := record.scores_before.get(benchmark)) is not None and record.loss_before is not None
    }
    return [*found, *parents.values()]


def pairs_at(points: Iterable[CurvePoint], benchmark: str) -> list[Pair]:
    """The checkpoints among these that have a loss and a score."""
    return [_pair(p.loss, p.scores[benchmark]) for p in points if p.loss is not None and benchmark in p.scores]


def _pair(loss: float, score: Score) -> Pair:
    counted = stderr_of(score)
    noise = _UNKNOWN if counted is None else float(np.hypot(counted, _WOBBLE))
    return Pair(loss=loss, score=score.value, stderr=noise)


def fit_link(records: Sequence[RunRecord], benchmark: str, *, pairs: Sequence[Pair] | None = None) -> Link:
    """The curve from loss to score of one family.

    Args:
        records: runs of one family, with losses and scores.
        pairs: what is fitted; None for all pairs of the records.

    Raises `InputError` for several families, too few checkpoints with both, or losses too close together.
    """
    from scipy.optimize import least_squares

    families = sorted({record.family for record in records})
    if len(families) != 1:
        raise InputError(f"{len(families)} families", where="link", hint="a link from loss to score is of one family")
    where = f"{families[0]}, {benchmark}"
    used = list(pairs_of(records, benchmark) if pairs is None else pairs)
    if len(used) < _LEAST_PAIRS:
        raise InputError(
            f"{plural(len(used), 'checkpoint')} with a loss and a score",
            where=where,
            hint=f"a link takes {_LEAST_PAIRS} or more",
        )
    loss, score, stderr = np.array([(pair.loss, pair.score, pair.stderr) for pair in used]).T
    if np.ptp(loss) < _LEAST_RANGE:
        raise InputError("the losses of the checkpoints are all alike", where=where, hint="score other checkpoints too")
    chance = next((c for record in records if (c := chance_of(record, benchmark)) is not None), None)
    low, high = (0.0 if chance is None else chance), max(float(score.max()), 0.5)
    start = np.array([low, min(high + 0.05, 0.99), float(np.median(loss)), np.log(max(np.ptp(loss) / 4, 0.05))])
    free = np.array([chance is None, True, True, True])

    def residuals(x: np.ndarray) -> np.ndarray:
        at = start.copy()
        at[free] = x
        # a weak pull to the middle of the losses: few readings can't tell a far middle from a wide curve
        pull = (at[2] - start[2]) / (4 * np.ptp(loss)), (at[3] - start[3]) / 2.0
        return np.concatenate([(_curve(at, loss) - score) / stderr, pull])

    bounds = np.array([[0.0, score.min() + 1e-6], [score.max() - 1e-6, 1.0], [-50.0, 100.0], [-5.0, 4.0]])
    begin = np.clip(start, bounds[:, 0] + 1e-9, bounds[:, 1] - 1e-9)[free]
    solved = least_squares(residuals, begin, bounds=(bounds[free, 0], bounds[free, 1]))
    at = start.copy()
    at[free] = solved.x
    freedom = max(len(used) - int(free.sum()), 1)
    rest = _curve(at, loss) - score
    return Link(
        family=families[0],
        benchmark=benchmark,
        low=float(at[0]),
        high=float(at[1]),
        middle=float(at[2]),
        width=float(np.exp(at[3])),
        noise=float(np.sqrt(np.sum(rest**2) / freedom)),
        freedom=float(freedom),
        pairs=len(used),
    )


def _curve(x: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Scores at losses for x = (low, high, middle, ln width)."""
    low, high, middle, log_width = x
    away = np.clip((loss - middle) / np.exp(log_width), -500.0, 500.0)
    return np.asarray(low + (high - low) / (1 + np.exp(away)))
