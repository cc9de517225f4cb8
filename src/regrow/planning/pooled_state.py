"""What a hierarchical law knows of everything that its runs share, before a study: fixed terms and effects.

`StateOfRuns` fits the runs again and has the effect of every model in it. `StateOfLaw` reads the draws of a law's file,
which are those of a new model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import InputError
from regrow.laws.pooled.fit import fit_pool, pools_of
from regrow.laws.regrowth.draws import NAMES
from regrow.laws.regrowth.effects import LEVEL_BY_PACE, LEVELS, TAILS, TERMS, covariates
from regrow.laws.regrowth.runs import usual_of

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.pooled.pool import Pool
    from regrow.laws.regrowth.estimate import Hierarchy
    from regrow.runs.record import RunRecord

#: the intercepts, which effects are added to, in the order of psi
_INTERCEPTS = ("level", "pace", "exponent", "end")
#: what turns psi as the fit counts it into the numbers themselves: the level counts from what goes with the pace
_NATURAL = np.eye(4)
_NATURAL[0, 1] = LEVEL_BY_PACE
#: a t distribution of `TAILS` degrees of freedom has this times the variance of its scale
_WIDER = TAILS / (TAILS - 2)


class State(ABC):
    """What is known of everything that runs share: its covariance, and how a run's psi is made of it."""

    covariance: np.ndarray
    noise: np.ndarray
    spreads: dict[str, np.ndarray]

    def of(self, level: str) -> np.ndarray:
        """Covariance [4, 4] of a new effect of this level in psi."""
        deviations = np.zeros(4)
        deviations[: len(self.spreads[level])] = self.spreads[level]
        return _NATURAL @ np.diag(deviations**2) @ _NATURAL.T

    def label(self, size: float) -> int | None:
        """The place of the effect of a model of this size; None for a new model."""
        return None

    @abstractmethod
    def weights(self, size: float, rate: float, gap: float) -> np.ndarray:
        """[4, q]: turns the state into the mean psi of a cell of this size (parameters), pruning rate and gap (nats).

        It is pruned and trained as most of the law's runs were.
        """


class StateOfLaw(State):
    """From a law's draws alone: the coefficients of the terms, less what is new in a new run."""

    def __init__(self, law: Law) -> None:
        self.spreads = {level: np.array(law.diagnostics["spreads"][level]) for level in LEVELS}
        self.noise = np.array(law.diagnostics["noise"])
        columns = []
        for term in TERMS:
            values = law.draws[:, NAMES.index(term.name)]
            columns.append(np.log(values) if term.name in ("pace", "exponent") else values)
        covariance = np.cov(np.array(columns)) / _WIDER
        at = [[term.name for term in TERMS].index(name) for name in _INTERCEPTS]
        covariance[np.ix_(at, at)] -= self.of("model") + self.of("cell") + self.of("run")
        values, vectors = np.linalg.eigh(covariance)
        self.covariance = (vectors * np.maximum(values, 0.0)) @ vectors.T

    def weights(self, size: float, rate: float, gap: float) -> np.ndarray:
        rows = np.zeros((4, len(TERMS)))
        for column, (term, value) in enumerate(zip(TERMS, _values(size, rate, gap), strict=True)):
            rows[term.number, column] = value
        return rows


class StateOfRuns(State):
    """From the runs that a law was fitted to: the posterior of the fit, with the effect of every model in it."""

    def __init__(self, law: Law, records: Sequence[RunRecord]) -> None:
        pool, group = _pool_of(law, records)
        fitted: Hierarchy = fit_pool(pool.all_runs, pool.drifts).hierarchy
        self.model = fitted.model
        self.spreads = {level: fitted.spreads.of(level) for level in LEVELS}
        self.noise = fitted.spreads.noise
        self.covariance = self.model.covariance_of(fitted.posterior, np.eye(self.model.size))
        # a run as most of the law's group, which need not be as most of the pool
        self.typical = replace(pool.runs[group][0], refitted=bool(usual_of(pool.runs[group]).refitted))
        labels = {"family": (law.family,), "method": (law.method,)}
        known = self.model.arrays.labels
        self.shared = {level: known[level].index(label) for level, label in labels.items()}
        self.sizes = [float(str(label[1])) if label[0] == law.family else np.nan for label in known["model"]]

    def label(self, size: float) -> int | None:
        return next((i for i, known in enumerate(self.sizes) if same_size(known, size)), None)

    def weights(self, size: float, rate: float, gap: float) -> np.ndarray:
        numbers = self.model.numbers
        model = self.label(size)
        labels = self.shared if model is None else {**self.shared, "model": model}
        like = replace(self.typical, params_before=size, pruning_rate=rate, loss_pruned=self.typical.loss_before + gap)
        return _NATURAL[:, :numbers] @ self.model.weights_for(self.model.rows_of([like])[0], labels)


def _values(size: float, rate: float, gap: float) -> list[float]:
    """The covariate of each term."""
    known = covariates(np.array([gap]), np.array([size]), np.array([rate]))
    return [float(known[term.covariate][0]) for term in TERMS]


def _pool_of(law: Law, records: Sequence[RunRecord]) -> tuple[Pool, int]:
    """The pool of the law's own group, and its place there."""
    for pool in pools_of(records, str(law.diagnostics.get("pool", "family")), baseline=law.baseline, skipped=[]):
        for i, group in enumerate(pool.groups):
            if (group.family, group.method) == (law.family, law.method):
                return pool, i
    raise InputError(
        f"no run of {law.family} {law.method} with a reading after training", where="design", hint="give the law's runs"
    )


def same_size(one: float, other: float) -> bool:
    return bool(np.isclose(one, other, rtol=1e-6))
