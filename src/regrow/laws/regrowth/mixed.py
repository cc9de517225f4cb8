"""The mixed model at given spreads: what the runs say of the fixed terms and of every effect, and how likely they are.

The curve of every run is taken as linear around its current psi (Lindstrom & Bates 1990, Biometrics 46, 673), so its
readings are normal information on psi. Run and cell effects are integrated out in closed form and those of the models
are eliminated (`crossed`). The few fixed terms and other effects that are left are solved for at once. The gradient of
the log likelihood by the logarithm of a spread is the expectation of that of the complete data (Fisher's identity): for
an effect, the sum of E[u^2]/s^2 - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.laws.regrowth.crossed import Crossed, Weights, eliminate
from regrow.laws.regrowth.effects import CROSSED, LEVEL_BY_PACE, LEVELS, TERMS, UNMEASURED, Term, design
from regrow.laws.regrowth.gaussian import Effect, integrate_out, roots
from regrow.laws.regrowth.readings import Readings
from regrow.laws.regrowth.runs import RunArrays, RunCurve


@dataclass(frozen=True, kw_only=True)
class Spreads:
    """Standard deviations: of effects [levels, K], in the order of `LEVELS`, and of the noise [3]."""

    effects: np.ndarray
    noise: np.ndarray

    def of(self, level: str) -> np.ndarray:
        return self.effects[LEVELS.index(level)]

    def to_log(self) -> np.ndarray:
        """All of them as logarithms, in one row."""
        return np.log(np.concatenate([self.effects.ravel(), self.noise]))

    @classmethod
    def from_log(cls, logs: np.ndarray, numbers: int) -> Spreads:
        count = len(LEVELS) * numbers
        return cls(effects=np.exp(logs[:count]).reshape(len(LEVELS), numbers), noise=np.exp(logs[count:]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """What is known at given spreads.

    Attributes:
        mean: of the fixed terms and crossed effects, [q].
        crossed: their distribution.
        psi, psi_covariance: of every run, [R, K] and [R, K, K].
        cell, cell_covariance: of the mean of every cell, [C, K] and [C, K, K].
        effects: of cells, of runs, and of losses right after pruning that were not read, given what lies above each.
        log_evidence: log density of the readings, the effects integrated out.
        gradient: of it by the logarithms of the spreads, in the order of `Spreads.to_log`.
    """

    mean: np.ndarray
    crossed: Crossed
    psi: np.ndarray
    psi_covariance: np.ndarray
    cell: np.ndarray
    cell_covariance: np.ndarray
    effects: tuple[Effect, Effect, Effect]
    log_evidence: float
    gradient: np.ndarray


class MixedModel:
    """Runs, linear around their current psi; K of the four numbers are free (3: the end is 0).

    psi counts the pace from the runs' median (`log_pace`), and the level from what goes with the pace.

    Args:
        end: prior standard deviation of the common end, as a share of the loss before pruning; 0 holds the end at 0.
        terms: the fixed terms; others than the law's are for the search for terms.
    """

    def __init__(self, arrays: RunArrays, end: float = 0.0, terms: Sequence[Term] = TERMS) -> None:
        self.arrays = arrays
        self.numbers = 4 if end else 3
        self.terms = [term for term in terms if term.number < self.numbers]
        self.rows = self.rows_of(arrays.runs)
        self.term_mean = np.array([term.mean for term in self.terms])
        self.term_deviation = np.array([end if term.name == "end" else term.deviation for term in self.terms])
        self.unmeasured = np.zeros((len(self.rows), self.numbers))
        self.unmeasured[:, 0] = np.where([run.measured for run in arrays.runs], 0.0, UNMEASURED)
        self.slots: dict[str, slice] = {}
        at = len(self.terms)
        for level in CROSSED:
            self.slots[level] = slice(at, at + self.numbers * len(arrays.labels[level]))
            at = self.slots[level].stop
        self.size = at
        #: places among the q of all but the models' effects
        self.others = np.delete(np.arange(at), self.slots["model"])
        self.weights = self._weights()
        self.readings = Readings(arrays)
        start = self.readings.guess()
        self.log_pace = float(np.median(start[:, 1]))
        self.linearise(self.counted(start))

    def rows_of(self, runs: Sequence[RunCurve]) -> np.ndarray:
        """[R, K, terms]: what the coefficient of each term adds to psi of these runs."""
        return design(self.arrays.usual.covariates(runs), self.terms)[:, : self.numbers]

    def _weights(self) -> Weights:
        """What turns the fixed terms and crossed effects into the mean psi of every cell."""
        member, first = self.arrays.member, self.arrays.first
        shared = np.zeros((len(first), self.numbers, len(self.others)))
        shared[:, :, : len(self.terms)] = self.rows[first]
        at, cells = len(self.terms), np.arange(len(first))
        for level in CROSSED:
            if level == "model":
                continue
            for k in range(self.numbers):
                shared[cells, k, at + member[level] * self.numbers + k] = 1.0
            at += self.numbers * len(self.arrays.labels[level])
        return Weights(shared=shared, model=member["model"], models=len(self.arrays.labels["model"]))

    def weights_for(self, rows: np.ndarray, labels: dict[str, int]) -> np.ndarray:
        """[K, q]: turns the fixed terms and crossed effects into the mean psi of a new run.

        Args:
            rows: [K, terms] of the run.
            labels: those that it shares with the runs that are known.
        """
        out = np.zeros((self.numbers, self.size))
        out[:, : rows.shape[1]] = rows
        for level, label in labels.items():
            for k in range(self.numbers):
                out[k, self.slots[level].start + label * self.numbers + k] = 1.0
        return out

    def natural(self, psi: np.ndarray) -> np.ndarray:
        """psi [..., K] as the curve takes it, [..., 4]: the level and the pace themselves, and an end of 0 if held."""
        out = np.zeros((*psi.shape[:-1], 4))
        out[..., : self.numbers] = psi
        out[..., 0] += LEVEL_BY_PACE * psi[..., 1]
        out[..., 1] += self.log_pace
        return out

    def counted(self, natural: np.ndarray, log_longer: float = 0.0) -> np.ndarray:
        """The inverse of `natural`; `log_longer` (ln) is how many times as many tokens a recovery takes in them."""
        out = natural[..., : self.numbers].copy()
        out[..., 1] -= self.log_pace + log_longer
        out[..., 0] -= LEVEL_BY_PACE * out[..., 1]
        return out

    def in_tokens_of(self, run: RunCurve, psi: np.ndarray) -> np.ndarray:
        """Natural psi [..., 4] of a run in its own tokens: the model's are those of the usual recipe."""
        out = psi.copy()
        out[..., 1] += self.arrays.usual.log_longer(run)
        return out

    def linearise(self, psi: np.ndarray) -> None:
        """Take the curves as linear around psi [R, K]."""
        self.psi = psi
        self.readings.linearise(self.natural(psi), psi)

    def draw_runs(
        self, posterior: Posterior, which: Sequence[int], heavy: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """psi of these runs, drawn together, [1 + draws, runs, K]; row 0 is the posterior mean.

        What the runs share is drawn once, then every cell, run and start given what lies above it.

        Args:
            heavy: factors [draws] on how far a draw lies from the mean.
        """
        rows, draws = np.asarray(which), len(heavy)
        mine = self.arrays.cell[rows]
        # a sample of the effect's mean moves by the same matrices as the mean itself
        moved = posterior.crossed.draw(draws, self.weights, rng)[:, mine]
        for effect, index in zip(posterior.effects, (mine, rows, rows), strict=True):
            gain = effect.gain[index]
            keep = np.eye(self.numbers) - gain @ effect.below.matrix[index]
            own = rng.standard_normal((draws, len(rows), self.numbers))
            moved = np.einsum("rij,drj->dri", keep, moved) + np.einsum("rij,drj->dri", roots(gain), own)
        mean = posterior.psi[rows]
        return np.concatenate([mean[None], mean + heavy[:, None, None] * moved])

    def posterior(self, spreads: Spreads) -> Posterior:
        """What the readings say at these spreads."""
        arrays, k = self.arrays, self.numbers
        of_runs, sums = self.readings.information(spreads.noise)
        unknown = integrate_out(of_runs, self.unmeasured)
        run = integrate_out(unknown.above, spreads.of("run"))
        cell = integrate_out(run.above.gathered(arrays.cell, len(arrays.first)), spreads.of("cell"))
        precision, of_model = self._prior_precision(spreads), spreads.of("model") ** -2
        prior_mean = np.zeros(len(self.others))
        prior_mean[: len(self.term_mean)] = self.term_mean
        crossed = eliminate(cell.above, self.weights, precision, prior_mean, of_model)
        log_prior = float(np.sum(np.log(precision))) + self.weights.models * float(np.sum(np.log(of_model)))
        log_evidence = cell.above.constant + 0.5 * (
            crossed.fit - float(prior_mean @ (precision * prior_mean)) - crossed.log_determinant + log_prior
        )
        of_cell = cell.given(*crossed.of_cells(self.weights))
        of_run = run.given(of_cell[2][arrays.cell], of_cell[3][arrays.cell])
        of_reading = unknown.given(of_run[2], of_run[3])
        mean = self._in_place(crossed.shared, crossed.models)
        variance = self._in_place(np.diag(crossed.covariance), crossed.model_variances())
        squares = [(mean[s] ** 2 + variance[s]).reshape(-1, k) for s in self.slots.values()]
        squares += [e[0] ** 2 + np.einsum("nkk->nk", e[1]) for e in (of_cell, of_run)]
        by_level = [(s / spreads.of(level) ** 2 - 1).sum(axis=0) for level, s in zip(LEVELS, squares, strict=True)]
        gradient = np.concatenate([*by_level, sums.gradient(spreads.noise, of_reading[2], of_reading[3])])
        return Posterior(
            mean=mean,
            crossed=crossed,
            psi=of_reading[2],
            psi_covariance=of_reading[3],
            cell=of_cell[2],
            cell_covariance=of_cell[3],
            effects=(cell, run, unknown),
            log_evidence=log_evidence,
            gradient=gradient,
        )

    def covariance_of(self, posterior: Posterior, rows: np.ndarray) -> np.ndarray:
        """Covariance [r, r] of what `rows` [r, q] make of the fixed terms and crossed effects."""
        models = rows[:, self.slots["model"]].reshape(len(rows), -1, self.numbers)
        return posterior.crossed.covariance_of(rows[:, self.others], models)

    def _in_place(self, others: np.ndarray, models: np.ndarray) -> np.ndarray:
        """Numbers [a] and those of the models [M, K] as one row [q]."""
        out = np.empty(self.size)
        out[self.others], out[self.slots["model"]] = others, models.ravel()
        return out

    def _prior_precision(self, spreads: Spreads) -> np.ndarray:
        """Of the fixed terms and of all crossed effects but the models', [a]."""
        labels = self.arrays.labels
        effects = [np.tile(spreads.of(level) ** -2, len(labels[level])) for level in CROSSED if level != "model"]
        return np.concatenate([self.term_deviation**-2, *effects])


__all__ = ["Effect", "MixedModel", "Posterior", "Spreads"]
