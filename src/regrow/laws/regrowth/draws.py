"""Runs that were never seen, drawn from a fitted hierarchy: coefficients of the curve with every effect in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.laws.regrowth.before import GapLaw
from regrow.laws.regrowth.drift import Drift
from regrow.laws.regrowth.effects import CROSSED, NESTED, TAILS, TERMS
from regrow.laws.regrowth.estimate import Hierarchy
from regrow.laws.regrowth.gaussian import roots
from regrow.laws.regrowth.recipe import POWERS
from regrow.laws.regrowth.runs import Usual

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
    fitted: Hierarchy, known: Sequence[dict[str, int]], *, draws: int, rng: np.random.Generator, of_run: bool = True
) -> list[Coefficients]:
    """Coefficients for runs that share these labels with runs that were fitted, drawn together.

    An effect that is known is drawn from its posterior, one that is not from its spread. The intercepts take the sum of
    them all. Draws have the tails of a t distribution (`TAILS`): the spreads are estimated from few families, sizes
    and methods, and a normal with these spreads covers too little.

    Args:
        known: of each run, the index of the label at each crossed level that it shares; levels that it doesn't are
            left out. The runs are of one model and one method, known or not, and have cells of their own.
        of_run: whether the effects of a new cell and a new run are added; without them the draws are of the mean.
    """
    model, posterior = fitted.model, fitted.posterior
    k, terms = model.numbers, len(model.term_mean)
    pick = np.zeros((terms + k * len(known), model.size))
    pick[:terms, :terms] = np.eye(terms)
    for number, labels in enumerate(known):
        for level, label in labels.items():
            start = model.slots[level].start + label * k
            pick[terms + number * k : terms + (number + 1) * k, start : start + k] += np.eye(k)
    mean = pick @ posterior.mean
    covariance = model.covariance_of(posterior, pick)
    covariance[terms:, terms:] += _of_new_effects(fitted, known, of_run)
    drawn = heavy_normal(mean, covariance, draws, rng)
    whole = np.concatenate([mean[None, :], drawn])
    names = [term.name for term in TERMS]
    intercepts = [names.index(name) for name in INTERCEPTS]
    out = []
    for number in range(len(known)):
        rows = np.zeros((1 + draws, len(TERMS)))
        rows[:, :terms] = whole[:, :terms]
        rows[:, intercepts[:k]] += whole[:, terms + number * k : terms + (number + 1) * k]
        rows[:, intercepts] = model.natural(rows[:, intercepts[:k]])
        out.append(Coefficients(rows=rows))
    return out


def _of_new_effects(fitted: Hierarchy, known: Sequence[dict[str, int]], of_run: bool) -> np.ndarray:
    """Covariance [K runs, K runs] of the effects that no fitted run has: of a new model or method the runs share one,
    of a new family (a new benchmark), cell and run each has its own."""
    count, k = len(known), fitted.model.numbers
    out = np.zeros((count, k, count, k))
    for level in CROSSED:
        spread = np.diag(fitted.spreads.of(level) ** 2)
        new = [number for number, labels in enumerate(known) if level not in labels]
        for one in new:
            for other in new if level != "family" else [one]:
                out[one, :, other, :] += spread
    for level in NESTED if of_run else ():
        for one in range(count):
            out[one, :, one, :] += np.diag(fitted.spreads.of(level) ** 2)
    return out.reshape(count * k, count * k)


def heavy_normal(mean: np.ndarray, covariance: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draws [draws, K] around a mean with this covariance and the tails of a t distribution (`TAILS`)."""
    return mean + heavy_factors(draws, rng)[:, None] * (rng.standard_normal((draws, len(mean))) @ roots(covariance).T)


def heavy_factors(draws: int, rng: np.random.Generator) -> np.ndarray:
    """Factors [draws] that make normal draws those of a t distribution (`TAILS`)."""
    return np.asarray(np.sqrt(TAILS / rng.chisquare(TAILS, draws)))


#: the largest logarithm of a pace or an exponent that is drawn
_MOST = 100.0
#: parameters of the form `regrowth`, in its order
NAMES = (
    "level", "level_gap", "pace", "pace_refitted", "pace_rate", "pace_batch", "exponent", "exponent_gap",
    "exponent_size", "end", "end_lost", "drift", "drift_tokens", "gap", "gap_rate", "gap_size",
    "usual_refitted", "usual_rate", "usual_batch",
)  # fmt: skip


def draw_parameters(
    fitted: Hierarchy,
    gap_law: GapLaw,
    drift: Drift,
    labels: Sequence[dict[str, tuple[object, ...]]],
    usual: Usual,
    *,
    draws: int,
    seed: int,
) -> list[np.ndarray]:
    """Parameters of the form `regrowth` in natural units for new runs, each [1 + draws, p]; row 0 is the estimate.

    Args:
        labels: what each run is at each crossed level; one that no fitted run has is drawn from the level's spread.
            Several runs are benchmarks of one pruned model, drawn together (`coefficients`).
        usual: what the pace is given for, and counted from.
    """
    rng, recipe_rng = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    arrays = fitted.model.arrays
    known = [
        {level: arrays.labels[level].index(label) for level, label in mine.items() if label in arrays.labels[level]}
        for mine in labels
    ]
    powers = {name: np.full(1 + draws, power) for name, (_, power, _) in POWERS.items()}
    for name, (_, _, spread) in POWERS.items():
        powers[name][1:] += spread * recipe_rng.standard_normal(draws)
    out = []
    for mine, drawn in zip(labels, coefficients(fitted, known, draws=draws, rng=rng), strict=True):
        level = drawn.column("level")
        # the part of a reading's swing that goes with the gap: the rest is the law's `point_spread`
        level[1:] += fitted.spreads.noise[2] * rng.standard_normal(draws)
        amount = np.full(1 + draws, drift.share)
        amount[1:] += drift.spread * rng.standard_normal(draws)
        before = gap_law.draw([(name, label) for name, label in mine.items() if name in CROSSED], draws, rng)
        log_pace = drawn.column("pace") + drawn.column("pace_refitted") * (usual.refitted - arrays.usual.refitted)
        columns = {
            "level": level,
            "pace": _finite_exp(log_pace + arrays.usual.log_longer(usual)),
            "exponent": _finite_exp(drawn.column("exponent")),
            "end": drawn.column("end"),
            **{term.name: drawn.column(term.name) for term in TERMS if term.covariate != "one"},
            **powers,
            "drift": amount,
            "drift_tokens": np.full(1 + draws, drift.tokens),
            "gap": before[:, 0],
            "gap_rate": before[:, 1],
            "gap_size": before[:, 2],
            "usual_refitted": np.full(1 + draws, usual.refitted),
            # 0 for what no run says
            "usual_rate": np.full(1 + draws, usual.learning_rate or 0.0),
            "usual_batch": np.full(1 + draws, usual.batch_tokens or 0.0),
        }
        out.append(np.stack([columns[name] for name in NAMES], axis=1))
    return out


def _finite_exp(values: np.ndarray) -> np.ndarray:
    """exp, of what a tail that the runs can't tell may draw, within what a file holds."""
    return np.exp(np.clip(values, -_MOST, _MOST))


def parameters_around(point: np.ndarray, psi: np.ndarray, covariate: dict[str, np.ndarray]) -> np.ndarray:
    """Parameters of the form `regrowth` of which each row gives one run the curve psi, [N, p].

    Args:
        point: parameters [p] that give what psi doesn't tell: the coefficients of the covariates, drift and gap.
        psi: level, log pace, log exponent and end of the run, natural, [N, 4].
        covariate: the run's covariates by name (`regrow.laws.regrowth.effects.covariates`), and its `log_rate` and
            `log_batch` over the usual, each of one value.
    """
    rows = np.tile(point, (len(psi), 1))
    shift = np.zeros(4)
    for term in TERMS:
        if term.covariate != "one":
            shift[term.number] += point[NAMES.index(term.name)] * float(covariate[term.covariate].flat[0])
    for name, (of, _, _) in POWERS.items():
        shift[1] += point[NAMES.index(name)] * float(np.asarray(covariate[of]).flat[0])
    level, log_pace, log_exponent, end = (psi - shift).T
    for name, values in (
        ("level", level),
        ("pace", _finite_exp(log_pace)),
        ("exponent", _finite_exp(log_exponent)),
        ("end", end),
    ):
        rows[:, NAMES.index(name)] = values
    return rows
