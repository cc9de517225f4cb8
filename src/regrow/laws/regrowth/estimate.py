"""The fit: spreads by the highest marginal likelihood, everything else given them (empirical Bayes)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from regrow.laws.memory import keep_freed_memory
from regrow.laws.regrowth.effects import LEVELS, LOSSES, Expected, Term
from regrow.laws.regrowth.mixed import MixedModel, Posterior, Spreads
from regrow.laws.regrowth.runs import RunCurve, side_by_side

#: times that the curves are linearised anew, and the step in psi at which that ends
_ROUNDS, _SETTLED = 40, 2e-2
#: the largest step in psi of one round
_STEP = 1.0
#: rounds of whole steps
_WHOLE = 8
#: steps of the search for the spreads: in the first rounds, and once psi hardly moves
_SEARCH, _REFINE = 60, 20
#: standard deviations of their priors within which the logarithms of the spreads are searched: a line search that steps
#: further has left the numbers that can be computed with
_FAR = 8.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Hierarchy:
    """A fitted hierarchical law: the model at its last linearisation, its spreads and its posterior."""

    model: MixedModel
    spreads: Spreads
    posterior: Posterior
    #: log density of the readings, with that of the spreads' priors
    log_evidence: float
    settled: bool

    def known(self, run: RunCurve) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean and covariance of psi of a run that was fitted, or of a new run of a cell that was; None for others."""
        cell = run.label("cell")
        mine = self._by_run.get((run.run, cell))
        if mine is not None:
            return self.posterior.psi[mine], self.posterior.psi_covariance[mine]
        sister = self._by_cell.get(cell)
        if sister is None:
            return None
        spread = np.diag(self.spreads.of("run") ** 2)
        return self.posterior.cell[sister], self.posterior.cell_covariance[sister] + spread

    @cached_property
    def _by_run(self) -> dict[tuple[object, ...], int]:
        return {(run.run, run.label("cell")): i for i, run in enumerate(self.model.arrays.runs)}

    @cached_property
    def _by_cell(self) -> dict[tuple[object, ...], int]:
        arrays = self.model.arrays
        return {arrays.runs[first].label("cell"): i for i, first in enumerate(arrays.first)}


def fit_hierarchy(
    runs: Sequence[RunCurve],
    *,
    end: float = 0.0,
    terms: Sequence[Term] | None = None,
    before: Expected = LOSSES,
    near: Hierarchy | None = None,
) -> Hierarchy:
    """Fit all runs together.

    Args:
        runs: at least one, each with at least one reading.
        end: standard deviation that the common end is expected to have, a share of the loss before pruning; 0 for none.
        terms: the fixed terms; None for those of `before`.
        before: what is expected of the spreads.
        near: a fit of nearly the same runs, as of one run more: the search starts where that ended.
    """
    from scipy.optimize import minimize

    keep_freed_memory()
    model = MixedModel(side_by_side(runs), end, before.terms if terms is None else terms)
    centre, width = _expected(model, before, end)
    bounds = list(zip(centre - _FAR * width, centre + _FAR * width, strict=True))

    def objective(logs: np.ndarray) -> tuple[float, np.ndarray]:
        found = model.posterior(Spreads.from_log(logs, model.numbers))
        off = (logs - centre) / width
        return 0.5 * float(off @ off) - found.log_evidence, off / width - found.gradient

    logs, settled = centre, False
    if near is not None and near.model.numbers == model.numbers:
        logs = np.clip(near.spreads.to_log(), *np.transpose(bounds))
        model.linearise(_as_in(near, model))
    for number in range(_ROUNDS):
        steps = _SEARCH if number < 2 else _REFINE
        logs = minimize(objective, logs, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}).x
        posterior = model.posterior(Spreads.from_log(logs, model.numbers))
        step = np.clip(posterior.psi - model.psi, -_STEP, _STEP)
        # two linearisations may answer each other for ever: half steps end that
        step *= 1.0 if number < _WHOLE else 0.5
        model.linearise(model.psi + step)
        settled = bool(np.abs(step).max() < _SETTLED)
        if settled:
            break
    spreads = Spreads.from_log(logs, model.numbers)
    return Hierarchy(
        model=model,
        spreads=spreads,
        posterior=model.posterior(spreads),
        log_evidence=-objective(logs)[0],
        settled=settled,
    )


def _expected(model: MixedModel, before: Expected, end: float) -> tuple[np.ndarray, np.ndarray]:
    """What is expected of the spreads before any run is seen: the centres and the widths of their logs."""
    expected = Spreads(
        effects=np.array([before.effects[level] for level in LEVELS])[:, : model.numbers],
        noise=np.array(before.noise),
    )
    if end:
        expected.effects[:, 3] *= end / before.effects["family"][3]
    effects = np.full((len(LEVELS), 4), before.width)
    effects[:, 3] = before.end_width
    width = np.concatenate([effects[:, : model.numbers].ravel(), np.full(3, before.width)])
    return expected.to_log(), width


def _as_in(near: Hierarchy, model: MixedModel) -> np.ndarray:
    """psi [R, K] of the runs of a model as another fit has them; of runs that it has not, as they stand."""
    psi, usual = model.psi.copy(), model.arrays.usual
    for row, run in enumerate(model.arrays.runs):
        known = near.known(run)
        if known is None:
            continue
        natural = near.model.in_tokens_of(run, near.model.natural(known[0]))
        psi[row] = model.counted(natural, usual.log_longer(run))
    return psi
