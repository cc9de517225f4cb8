"""The design question for `regrowth`: what the runs of other models tell of a target, where models differ at random."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import InputError
from regrow.laws.forms.regrowth import Regrowth
from regrow.laws.regrowth.curve import gap_and_jacobian
from regrow.laws.regrowth.effects import TAILS
from regrow.laws.setting import Setting
from regrow.planning.design_model import DesignModel
from regrow.planning.design_problem import FIRST_CHECKPOINT, VECTORS, Option, Problem
from regrow.planning.information import Discrepancy, log_optimal_tokens
from regrow.planning.pooled_information import Pooled, of_readings, shrunk
from regrow.planning.pooled_state import State, StateOfLaw, StateOfRuns, same_size
from regrow.planning.study_design import DesignSpec, OfTarget
from regrow.planning.support import MOST_TIMES_TOKENS, too_far

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.observations import Observations
    from regrow.runs.record import RunRecord

#: share of D* that the target's own run has made when it is looked at early
EARLY = 0.05


class PooledProblem(Problem):
    """The candidate runs, what they tell under a law of the form `regrowth`, and what is known already.

    Args:
        records: the runs that the law was fitted to, with their controls. They are fitted again, because the law's file
            doesn't say how well the effect of each model is known. Without them every model counts as a new one.
    """

    may_bend = False

    def __init__(
        self, spec: DesignSpec, law: Law, seen: Observations | None, records: Sequence[RunRecord] | None
    ) -> None:
        super().__init__(spec, law, seen)
        form = law.formula
        assert isinstance(form, Regrowth)
        self.form, self.fitted_law = form, law
        self.state: State = StateOfLaw(law) if records is None else StateOfRuns(law, records)
        if records is None and any(same_size(size, model.size) for model in spec.candidates for size in law.sizes):
            self.warnings.append(
                "without the runs that the law was fitted to, every candidate counts as a model that was never run: "
                "give them with --runs"
            )
        why = too_far(law, law.extrapolates(self._inputs(spec.target, self.rate, np.full(1, law.ranges["tokens"][1]))))
        if why:
            self.warnings.append(f"the law gives no plan for the target yet, so its D* here is a guess: {why}")
        every = law.parameters_at(spec.target.size)[1:]
        target = self._inputs(spec.target, self.rate, np.ones(1))
        with np.errstate(all="ignore"):
            log_tokens = log_optimal_tokens(form, every, target, min_gain=spec.min_gain)
        usable = np.flatnonzero(self.usable(log_tokens))
        usable = usable[np.unique(np.linspace(0, len(usable) - 1, VECTORS).round().astype(int))]
        self.theta, self.log_tokens = every[usable], log_tokens[usable]
        self.own = _Curve(self, spec.target, self.rate)
        self.gradient = self._gradient(target)

    @property
    def longest(self) -> float:
        """As long as an even study of every size and rate could be, within what is known of the curves."""
        middle = super().longest
        return min(max(middle, self.even_tokens), MOST_TIMES_TOKENS * middle)

    def _inputs(self, model: DesignModel, rate: float, tokens: np.ndarray) -> Setting:
        columns = {"loss_pruned": model.loss_pruned} if model.loss_pruned is not None else {}
        return Setting(
            params_before=model.size, pruning_rate=rate, tokens=tokens, loss_before=self.loss_of(model), **columns
        )

    def _gradient(self, target: Setting) -> np.ndarray:
        """d ln D* / d psi of the target, [B, 4], by implicit differentiation of L(D) - L(2D) = min_gain."""
        tokens = np.exp(self.log_tokens)
        steeper = self.own.slopes(tokens)
        by_psi = self.own.jacobian(tokens[:, None])[:, 0] - self.own.jacobian(2 * tokens[:, None])[:, 0]
        return -by_psi / (steeper - self.own.slopes(2 * tokens))[:, None]

    # what runs tell

    @cached_property
    def models(self) -> list[float]:
        """Sizes of the candidates and the target whose effect the state before has no place for."""
        sizes: list[float] = []
        for model in (*self.spec.candidates, self.spec.target):
            if self.state.label(model.size) is None and not any(same_size(size, model.size) for size in sizes):
                sizes.append(model.size)
        return sizes

    @cached_property
    def covariance(self) -> np.ndarray:
        """Of the state before the study, with an effect for each new model, [Q, Q]."""
        before, new = self.state.covariance, len(self.models)
        out = np.zeros((len(before) + 4 * new, len(before) + 4 * new))
        out[: len(before), : len(before)] = before
        out[len(before) :, len(before) :] = np.kron(np.eye(new), self.state.of("model"))
        return out

    def weights(self, curve: _Curve) -> np.ndarray:
        """[B, 4, Q]: turns the state into the mean psi of a cell."""
        rows = np.stack([self.state.weights(curve.size, curve.rate, float(gap)) for gap in curve.gap])
        out = np.concatenate([rows, np.zeros((len(rows), 4, 4 * len(self.models)))], axis=2)
        for i, size in enumerate(self.models):
            if same_size(size, curve.size):
                start = rows.shape[2] + 4 * i
                out[:, :, start : start + 4] += np.eye(4)
        return out

    def tell(self, curve: _Curve, tokens: float | np.ndarray, *, first: float = FIRST_CHECKPOINT) -> np.ndarray:
        """Information [B, 4, 4] on a run's psi in the readings of a run of so many tokens (of each draw)."""
        shares = np.geomspace(first, 1.0, self.spec.checkpoints)
        at = np.broadcast_to(np.asarray(tokens, dtype=float), len(curve.gap))[:, None] * shares
        return of_readings(curve.psi, curve.gap, curve.loss_before, at, self.state.noise)

    def _judge(self, runs: Sequence[Option]) -> Pooled:
        """The judge of these candidate runs."""
        cells = list(dict.fromkeys((o.model, o.rate) for o in runs))
        curves = [_Curve(self, model, rate) for model, rate in cells]
        index = [cells.index((o.model, o.rate)) for o in runs]
        of_run = self.state.of("run")
        weights = self.weights(self.own)
        fresh = self.state.of("cell") + of_run
        return Pooled(
            covariance=self.covariance,
            cell=np.array(index, dtype=int),
            weights=np.array([self.weights(curve) for curve in curves]),
            information=np.array(
                [shrunk(self.tell(curves[i], o.tokens), of_run) for i, o in zip(index, runs, strict=True)]
            ),
            made=np.array([self._made(curve) for curve in curves]),
            of_cell=self.state.of("cell"),
            gradient=np.einsum("bk,bkq->bq", self.gradient, weights),
            rest=np.einsum("bi,ij,bj->b", self.gradient, fresh, self.gradient),
        )

    def make_judge(self) -> Pooled:
        return self._judge(self.options)

    def _made(self, curve: _Curve) -> np.ndarray:
        """Information [B, 4, 4] on the mean of a cell in the runs of it that were made."""
        out = np.zeros((len(curve.gap), 4, 4))
        seen = self.seen
        if seen is None:
            return out
        for run in range(len(seen.runs)):
            mine = seen.x.keep(seen.run == run)
            same = same_size(curve.size, float(mine.params_before[0])) and abs(curve.rate - mine.pruning_rate[0]) < 5e-3
            if same:
                tokens = np.broadcast_to(mine.tokens, (len(out), len(mine.tokens)))
                information = of_readings(curve.psi, curve.gap, curve.loss_before, tokens, self.state.noise)
                out = out + shrunk(information, self.state.of("run"))
        return out

    def _variances(self, chosen: Sequence[Option]) -> np.ndarray:
        return self._judge(chosen).variances(range(len(chosen)))

    def _log_factor(self, variance: np.ndarray) -> np.ndarray:
        from scipy.special import stdtrit

        return float(stdtrit(TAILS, 0.5 * (1 + self.spec.level))) * np.sqrt(variance)

    def log_factors(self, chosen: Sequence[Option], discrepancy: Discrepancy) -> np.ndarray:
        return self._log_factor(self._variances(chosen))

    def study(self) -> list[int]:
        """The best study found by exchange from none, filled greedily, and from even ones of any length."""
        search = self.search
        starts = [search.greedy([], per_flop=per_flop) for per_flop in (True, False)]
        found = search.best([*starts, *self.even_starts()])
        if not found:
            least = float(search.candidates.more([]).min())
            if least > self.spec.budget:
                raise InputError(
                    f"the shortest run costs more than the budget of {self.say(self.spec.budget)}",
                    where="design",
                    hint=f"give at least {self.say(least)}",
                )
            raise InputError(
                "no run of these candidates narrows D* of the target by more than its own spread allows",
                where="design",
                hint=f"start the target's own run and forecast it at {EARLY:.0%} of its tokens (docs/forecast.md)",
            )
        return found

    # what only the target itself can tell

    def of_target(self, chosen: Sequence[Option]) -> OfTarget:
        """How well D* is known without the target's gap, with every model known, and early in its own run."""
        judge = self._judge(chosen)
        every = range(len(chosen))
        fresh = self.state.of("cell") + self.state.of("run")
        known = self.state.label(self.spec.target.size) is not None
        least = fresh if known else fresh + self.state.of("model")
        floor = np.einsum("bi,ij,bj->b", self.gradient, least, self.gradient)
        tokens = EARLY * np.exp(self.log_tokens)
        weights = self.weights(self.own)
        prior = weights @ judge.after(every) @ np.swapaxes(weights, 1, 2) + fresh
        information = self.tell(self.own, tokens)
        posterior = np.linalg.inv(np.linalg.inv(prior) + information)
        early = np.einsum("bi,bij,bj->b", self.gradient, posterior, self.gradient)
        guessed = None
        if self.spec.target.loss_pruned is None:
            guessed = self._mean_factor(judge.variances(every) + self._variance_of_gap())
        middle = float(np.exp(np.median(self.log_tokens))) * EARLY
        return OfTarget(
            factor_without_gap=guessed,
            factor_least=self._mean_factor(floor),
            factor_early=self._mean_factor(early),
            early_tokens=middle,
        )

    def _variance_of_gap(self) -> np.ndarray:
        """Variance [B] of log D* because the gap right after pruning is predicted and not measured."""
        spread = np.log(self.form.gap_pruned(self.fitted_law.draws, self.own.x))
        return (self.own.by_log_gap(np.exp(self.log_tokens)) * float(spread.std())) ** 2

    def _mean_factor(self, variance: np.ndarray) -> float:
        return float(np.exp(np.exp(np.log(self._log_factor(variance)).mean())))


class _Curve:
    """The curve of a new run of one cell at the draws that a design is averaged over."""

    def __init__(self, problem: PooledProblem, model: DesignModel, rate: float) -> None:
        self.form, self.theta = problem.form, problem.theta
        self.size, self.rate, self.loss_before = model.size, rate, problem.loss_of(model)
        self.x = problem._inputs(model, rate, np.ones(1))
        gap = np.broadcast_to(self.form.gap_pruned(self.theta, self.x), (len(self.theta), 1))
        self.gap = gap[:, 0]
        self.psi = self.form.numbers(self.theta, self.x, gap)[:, 0]

    def jacobian(self, tokens: np.ndarray) -> np.ndarray:
        """Derivatives [B, n, 4] of the loss by psi at tokens [B, n]."""
        return gap_and_jacobian(self.psi, self.gap, np.full(len(self.gap), self.loss_before), tokens)[1]

    def slopes(self, tokens: np.ndarray) -> np.ndarray:
        """dL / d ln D [B] of each draw at its own tokens [B]."""
        return np.diagonal(self.form.slope(self.theta, self.x.at(tokens))).copy()

    def by_log_gap(self, tokens: np.ndarray) -> np.ndarray:
        """d ln D* / d ln G0 [B] where each draw's D* is `tokens` [B]."""
        column = self.form.index("gap")

        def rows(at: np.ndarray) -> np.ndarray:
            found = self.form.value_and_jacobian(self.theta, self.x.at(at))[1]
            assert found is not None
            return np.diagonal(found[:, column]).copy()

        steeper = self.slopes(tokens) - self.slopes(2 * tokens)
        return -(rows(tokens) - rows(2 * tokens)) / steeper
