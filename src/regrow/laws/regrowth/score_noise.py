"""How benchmark readings scatter around their curves.

The checkpoints of a run answer the same questions, and answer most of them alike. So a reading scatters around its
curve by less than the binomial error of its number of questions (`regrow.runs.scores.largest_stderr`): by the part
that two checkpoints do not share, and by a wobble from step to step that no number of questions removes. Both together
are what is expected; a factor on that is estimated for each benchmark from the residuals of the fit, drawn to what the
benchmarks have in common, as one benchmark has few readings. A variance with an inverse-gamma prior (Gelman et al.,
Bayesian Data Analysis, 3rd ed., section 3.3); fit and factors take turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regrow.laws.regrowth.curve import effective_tokens, gap_and_jacobian
from regrow.laws.regrowth.effects import LEVEL_BY_PACE, SCORES
from regrow.laws.regrowth.estimate import Hierarchy, fit_hierarchy
from regrow.laws.regrowth.runs import RunCurve

#: share of the binomial variance that two checkpoints of a run do not share
_NOT_SHARED = 0.3
#: wobble from step to step, a fraction; and the whole noise where the number of questions is not known
_WOBBLE, _UNKNOWN = 0.003, 0.008
#: readings that the expectation counts as: of all benchmarks together, and of each around what they have in common
_COMMON_WORTH, _OWN_WORTH = 4.0, 3.0
#: times that fit and noise take turns, and the change in the noise at which that ends
_ROUNDS, _SETTLED = 4, 0.05


@dataclass(frozen=True, kw_only=True)
class ScoreNoise:
    """Noise of a benchmark's readings around their curve.

    Attributes:
        factor: on the expected standard deviation.
        late: standard deviation of a last reading, a fraction.
        freedom: degrees of freedom of the factor.
    """

    factor: float
    late: float
    freedom: float


def fit_scores(runs: Sequence[RunCurve], *, end: float) -> tuple[Hierarchy, dict[str, ScoreNoise]]:
    """The hierarchy of runs whose losses are errors of benchmarks, and the noise of each benchmark.

    Args:
        runs: with `benchmark` and, where it is known, `stderr`.
        end: as in `fit_hierarchy`.
    """
    names = list(dict.fromkeys(run.benchmark for run in runs))
    factor, freedom = dict.fromkeys(names, 1.0), dict.fromkeys(names, _OWN_WORTH)
    for _ in range(_ROUNDS):
        fitted = fit_hierarchy(
            [replace(run, stderr=factor[run.benchmark] * _expected(run)) for run in runs], end=end, before=SCORES
        )
        found, freedom = _from_residuals(fitted, runs, factor)
        change = max(abs(np.log(found[name] / factor[name])) for name in names)
        factor = found
        if change < _SETTLED:
            break
    late = {name: _late([run for run in runs if run.benchmark == name]) for name in names}
    return fitted, {
        name: ScoreNoise(factor=factor[name], late=factor[name] * late[name], freedom=freedom[name]) for name in names
    }


def _expected(run: RunCurve) -> np.ndarray:
    """Standard deviations of a run's readings [n] before they are seen."""
    counted = np.zeros(len(run.tokens)) if run.stderr is None else run.stderr
    return np.where(counted > 0, np.sqrt(_NOT_SHARED * counted**2 + _WOBBLE**2), _UNKNOWN)


def _late(runs: Sequence[RunCurve]) -> float:
    """The expected standard deviation of a last reading, over the runs."""
    return float(np.sqrt(np.mean([_expected(run)[-1] ** 2 for run in runs])))


def _from_residuals(
    fitted: Hierarchy, runs: Sequence[RunCurve], factor: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """The factor of each benchmark and its degrees of freedom, from the residuals of a fit: a reading that the curve
    bends to says as much less."""
    squares, free = dict.fromkeys(factor, 0.0), dict.fromkeys(factor, 0.0)
    model, posterior = fitted.model, fitted.posterior
    for row, run in enumerate(runs):
        expected = _expected(run)
        gap, rows = gap_and_jacobian(
            model.natural(posterior.psi[row]),
            np.array(run.gap_pruned),
            np.array(run.loss_before),
            effective_tokens(run.tokens, run.warmup),
        )
        rows[:, 1] += LEVEL_BY_PACE * rows[:, 0]
        rows = rows[:, : model.numbers]
        bent = np.einsum("nk,kl,nl->n", rows, posterior.psi_covariance[row], rows)
        bent = np.clip(bent / (factor[run.benchmark] * expected) ** 2, 0.0, 1.0)
        squares[run.benchmark] += float(np.sum(((run.loss - run.baseline - gap) / expected) ** 2))
        free[run.benchmark] += float(np.sum(1 - bent))
    common = (_COMMON_WORTH + sum(squares.values())) / (_COMMON_WORTH + sum(free.values()))
    worth = {name: _OWN_WORTH + free[name] for name in factor}
    return {n: float(np.sqrt((_OWN_WORTH * common + squares[n]) / worth[n])) for n in factor}, worth
