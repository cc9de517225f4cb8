"""Runs that were never seen, drawn from a fitted hierarchy: coefficients of the curve with every effect in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regrow.laws.regrowth.before import GapLaw
from regrow.laws.regrowth.drift import Drift
from regrow.laws.regrowth.effects import CROSSED, NESTED, TAILS, TERMS
from regrow.laws.regrowth.estimate import Hierarchy

#: intercepts of psi among the terms, in the order of psi
INTERCEPTS = ("level", "pace", "exponent", "end")


@dataclass(frozen=True, kw_only=True, eq=False)
class Coefficients:
    """Coefficients of the terms, [draws, terms] in the order of `TERMS`; row 0 is the point estimate.

    The intercepts are natural: of the level itself, and of the logarithm of the pace in tokens.
    """

    rows: np.ndarray

    def column(self, name: str) -> np.ndarray:
        return self.rows[:, [term.name for term in TERMS].index(name)]


def coefficients(
    fitted: Hierarchy, known: dict[str, int], *, draws: int, rng: np.random.Generator, of_run: bool = True
) -> Coefficients:
    """Coefficients for a run that shares these labels with runs that were fitted.

    An effect that is known is drawn from its posterior, one that is not from its spread. The intercepts take the sum of
    them all. Draws have the tails of a t distribution (`TAILS`): the spreads are estimated from few families, sizes
    and methods, and a normal with these spreads covers too little.

    Args:
        known: index of the label at each crossed level that the run shares; levels that it doesn't are left out.
        of_run: whether the effects of a new cell and a new run are added; without them the draws are of the mean.
    """
    model, posterior = fitted.model, fitted.posterior
    k, terms = model.numbers, len(model.term_mean)
    pick = np.zeros((terms + k, model.size))
    pick[:terms, :terms] = np.eye(terms)
    for level, label in known.items():
        start = model.slots[level].start + label * k
        pick[terms:, start : start + k] += np.eye(k)
    mean = pick @ posterior.mean
    covariance = pick @ posterior.covariance @ pick.T
    fresh = [fitted.spreads.of(level) ** 2 for level in CROSSED if level not in known]
    fresh += [fitted.spreads.of(level) ** 2 for level in NESTED if of_run]
    if fresh:
        covariance[terms:, terms:] += np.diag(np.sum(fresh, axis=0))
    drawn = heavy_normal(mean, covariance, draws, rng)
    whole = np.concatenate([mean[None, :], drawn])
    rows = np.zeros((1 + draws, len(TERMS)))
    rows[:, :terms] = whole[:, :terms]
    names = [term.name for term in TERMS]
    intercepts = [names.index(name) for name in INTERCEPTS]
    rows[:, intercepts[:k]] += whole[:, terms:]
    rows[:, intercepts] = model.natural(rows[:, intercepts[:k]])
    return Coefficients(rows=rows)


def heavy_normal(mean: np.ndarray, covariance: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draws [draws, K] around a mean with this covariance and the tails of a t distribution (`TAILS`)."""
    heavy = np.sqrt(TAILS / rng.chisquare(TAILS, (draws, 1)))
    return mean + heavy * (rng.standard_normal((draws, len(mean))) @ _root(covariance).T)


def _root(covariance: np.ndarray) -> np.ndarray:
    """A square root of a covariance that may be singular."""
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    return vectors * np.sqrt(np.maximum(values, 0.0))


#: the largest logarithm of a pace or an exponent that is drawn
_MOST = 100.0
#: parameters of the form `regrowth`, in its order
NAMES = (
    "level", "level_gap", "pace", "exponent", "exponent_gap", "exponent_size", "end",
    "drift", "drift_tokens", "gap", "gap_rate", "gap_size",
)  # fmt: skip


def draw_parameters(
    fitted: Hierarchy,
    gap_law: GapLaw,
    drift: Drift,
    labels: dict[str, tuple[object, ...]],
    *,
    draws: int,
    seed: int,
) -> np.ndarray:
    """Parameters of the form `regrowth` in natural units for a new run, [1 + draws, p]; row 0 is the point estimate.

    Args:
        labels: what the run is at each crossed level; one that no fitted run has is drawn from the level's spread.
    """
    rng = np.random.default_rng(seed)
    arrays = fitted.model.arrays
    known = {
        level: arrays.labels[level].index(label) for level, label in labels.items() if label in arrays.labels[level]
    }
    drawn = coefficients(fitted, known, draws=draws, rng=rng)
    level = drawn.column("level")
    # the part of a reading's swing that goes with the gap: the rest is the law's `point_spread`
    level[1:] += fitted.spreads.noise[2] * rng.standard_normal(draws)
    amount = np.full(1 + draws, drift.share)
    amount[1:] += drift.spread * rng.standard_normal(draws)
    before = gap_law.draw([(name, label) for name, label in labels.items() if name in CROSSED], draws, rng)
    columns = {
        "level": level,
        "level_gap": drawn.column("level_gap"),
        "pace": _finite_exp(drawn.column("pace")),
        "exponent": _finite_exp(drawn.column("exponent")),
        "exponent_gap": drawn.column("exponent_gap"),
        "exponent_size": drawn.column("exponent_size"),
        "end": drawn.column("end"),
        "drift": amount,
        "drift_tokens": np.full(1 + draws, drift.tokens),
        "gap": before[:, 0],
        "gap_rate": before[:, 1],
        "gap_size": before[:, 2],
    }
    return np.stack([columns[name] for name in NAMES], axis=1)


def _finite_exp(values: np.ndarray) -> np.ndarray:
    """exp, of what a tail that the runs can't tell may draw, within what a file holds."""
    return np.exp(np.clip(values, -_MOST, _MOST))


def parameters_around(point: np.ndarray, psi: np.ndarray, covariate: dict[str, np.ndarray]) -> np.ndarray:
    """Parameters of the form `regrowth` of which each row gives one run the curve psi, [N, p].

    Args:
        point: parameters [p] that give what psi doesn't tell: the coefficients of the covariates, drift and gap.
        psi: level, log pace, log exponent and end of the run, natural, [N, 4].
        covariate: the run's covariates by name (`regrow.laws.regrowth.effects.covariates`), each of one value.
    """
    rows = np.tile(point, (len(psi), 1))
    shift = np.zeros(4)
    for term in TERMS:
        if term.covariate != "one":
            shift[term.number] += point[NAMES.index(term.name)] * float(covariate[term.covariate].flat[0])
    level, log_pace, log_exponent, end = (psi - shift).T
    for name, values in (
        ("level", level),
        ("pace", _finite_exp(log_pace)),
        ("exponent", _finite_exp(log_exponent)),
        ("end", end),
    ):
        rows[:, NAMES.index(name)] = values
    return rows
