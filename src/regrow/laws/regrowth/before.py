"""Before pruning, too: the gap that pruning opens, predicted from the method, the rate and the size.

    ln G0 = c + k ln(rate / (1 - rate)) + d ln(N0 / 1M) + effects of method, family, model + rest

A Bayesian linear regression with normal effects of given spread. It knows little: one evaluation of the pruned model
says more than any number of other models (docs/laws.md shows by how much).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.laws.regrowth.crossed import Crossed, Weights, eliminate
from regrow.laws.regrowth.effects import SIZE
from regrow.laws.regrowth.gaussian import Information
from regrow.laws.regrowth.runs import RunCurve

#: prior means and standard deviations of c, k and d
_PRIOR = ((0.0, 3.0), (1.0, 0.5), (-0.2, 0.2))
#: spreads of the effects
METHOD_SPREAD = 0.5
_SPREADS = {"method": METHOD_SPREAD, "family": 0.4, "model": 0.25}
#: what the rest is taken to be, and the number of cells that this is worth
_REST, _REST_WORTH = 0.35, 4.0
#: rates at which half is pruned stand for a rate of 0
_LEAST_RATE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class GapLaw:
    """The fitted law.

    Attributes:
        crossed: the distribution of c, k, d and the effects of methods and families, in the order of `labels`, and of
            the effects of `models`.
        labels: (level, label) of methods and families, and their places.
        models: labels of the models, and their places.
        rest: standard deviation of what is left.
    """

    crossed: Crossed
    labels: dict[tuple[str, tuple[object, ...]], int]
    models: dict[tuple[object, ...], int]
    rest: float

    def draw(self, known: Sequence[tuple[str, tuple[object, ...]]], draws: int, rng: np.random.Generator) -> np.ndarray:
        """c, k and d of a cell that shares these labels, [1 + draws, 3]; row 0 is the point estimate.

        The draws of c have the effects of the labels that are not known, and the rest, in them.
        """
        shared, models = np.zeros((3, len(self.crossed.shared))), np.zeros((3, *self.crossed.models.shape))
        shared[:, :3] = np.eye(3)
        fresh = self.rest**2
        for level, spread in _SPREADS.items():
            label = next((label for name, label in known if name == level), ())
            if level == "model" and label in self.models:
                models[0, self.models[label], 0] = 1.0
            elif (level, label) in self.labels:
                shared[0, self.labels[level, label]] = 1.0
            else:
                fresh += spread**2
        mean = shared @ self.crossed.shared + np.einsum("rmk,mk->r", models, self.crossed.models)
        covariance = self.crossed.covariance_of(shared, models)
        covariance[0, 0] += fresh
        root = np.linalg.cholesky(covariance + 1e-12 * np.eye(3))
        return np.concatenate([mean[None, :], mean + rng.standard_normal((draws, 3)) @ root.T])


def log_odds(pruning_rate: np.ndarray) -> np.ndarray:
    """ln(rate / (1 - rate))."""
    rate = np.maximum(np.asarray(pruning_rate, dtype=float), _LEAST_RATE)
    return np.log(rate / (1 - rate))


def fit_gap_law(runs: Sequence[RunCurve]) -> GapLaw:
    """Fit the cells of these runs; seeds of a cell share its gap and count once."""
    cells = list({run.label("cell"): run for run in runs}.values())
    names = dict.fromkeys((level, run.label(level)) for run in cells for level in _SPREADS if level != "model")
    labels = {label: 3 + place for place, label in enumerate(names)}
    models: dict[tuple[object, ...], int] = {}
    model = np.array([models.setdefault(run.label("model"), len(models)) for run in cells])
    rows = np.zeros((len(cells), 1, 3 + len(labels)))
    rows[:, 0, 0] = 1.0
    rows[:, 0, 1] = log_odds(np.array([run.pruning_rate for run in cells]))
    rows[:, 0, 2] = np.log(np.array([run.params_before for run in cells]) / SIZE)
    for i, run in enumerate(cells):
        for level in _SPREADS:
            if level != "model":
                rows[i, 0, labels[level, run.label(level)]] = 1.0
    weights = Weights(shared=rows, model=model, models=len(models))
    target = np.log([run.gap_pruned for run in cells])
    prior = np.array([m for m, _ in _PRIOR] + [0.0] * len(labels))
    precision = np.array([s**-2 for _, s in _PRIOR] + [_SPREADS[level] ** -2 for level, _ in labels])
    of_model = np.array([_SPREADS["model"] ** -2])
    rest = _REST
    for _ in range(20):  # the rest by the expectation of its square, the effects given it
        read = Information(matrix=np.full((len(cells), 1, 1), rest**-2), vector=target[:, None] / rest**2)
        crossed = eliminate(read, weights, precision, prior, of_model)
        mean, covariance = crossed.of_cells(weights)
        square = float(np.sum((target - mean[:, 0]) ** 2) + covariance.sum())
        rest = float(np.sqrt((square + _REST_WORTH * _REST**2) / (len(cells) + _REST_WORTH)))
    return GapLaw(crossed=crossed, labels=labels, models=models, rest=rest)
