"""The design question for `p2` and its kin, whose few parameters every run shares: the law, linearised."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import InputError
from regrow.laws.forms import Form, find_form
from regrow.laws.setting import Reference, Setting
from regrow.methods import is_masked
from regrow.planning.design_model import DesignModel
from regrow.planning.design_problem import FIRST_CHECKPOINT, VECTORS, Option, Problem
from regrow.planning.information import (
    Discrepancy,
    Moments,
    gradient_of_log_tokens,
    log_optimal_tokens,
    no_moments,
    not_told,
    run_moments,
    variance,
)
from regrow.planning.prior import law_vectors, prior_vectors
from regrow.planning.study_design import DesignSpec
from regrow.units import format_count, plural

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.observations import Observations

#: spreads of log loss where no law tells them: 0.004 and 0.002 nats at a loss of 2.5
RUN_SPREAD, POINT_SPREAD = 0.0016, 0.0008


class ParametricProblem(Problem):
    """The law's linearisation at draws of its parameters, the candidate runs, and what is known already."""

    def __init__(self, spec: DesignSpec, law: Law | None, seen: Observations | None) -> None:
        super().__init__(spec, law, seen)
        self.form: Form = find_form("p2") if law is None else law.formula
        self.ref = Reference(params_before=self.middle, tokens=self.middle, pruning_rate=0.25)
        theta = prior_vectors(VECTORS) if law is None else law_vectors(law, self.ref, VECTORS)
        target = self._inputs(spec.target, self.rate, np.ones(1))
        with np.errstate(all="ignore"):
            log_tokens = log_optimal_tokens(self.form, theta, target, min_gain=spec.min_gain)
        usable = self.usable(log_tokens)
        self.theta, self.log_tokens = theta[usable], log_tokens[usable]
        self.gradient = gradient_of_log_tokens(self.form, self.theta, target, self.log_tokens)

    @property
    def _spreads(self) -> dict[str, float]:
        spec, law = self.spec, self.law
        run = RUN_SPREAD if law is None else law.run_spread
        point = POINT_SPREAD if law is None else law.point_spread
        return {
            "run_spread": spec.run_spread or run,
            "point_spread": max(spec.point_spread or point, 1e-6),  # a law fitted to exact curves has none
        }

    def _inputs(self, model: DesignModel, rate: float, tokens: np.ndarray) -> Setting:
        before = self.loss_of(model)
        return Setting(self.ref, params_before=model.size, pruning_rate=rate, tokens=tokens, loss_before=before)

    def expected_moments(self, option: Option, discrepancy: Discrepancy) -> np.ndarray:
        shares = np.linspace(np.log(FIRST_CHECKPOINT), 0.0, self.spec.checkpoints)
        x = self._inputs(option.model, option.rate, option.tokens * np.exp(shares))
        return self._moments(x, discrepancy)

    def known(self, discrepancy: Discrepancy) -> np.ndarray:
        """Moments [B, p, 2 p + 3] of the runs already made."""
        known, seen = no_moments(*self.theta.shape), self.seen
        if seen is None:
            return known
        return known + sum(
            self._moments(seen.x.keep(seen.run == r).relative_to(self.ref), discrepancy) for r in range(len(seen.runs))
        )

    def _moments(self, x: Setting, discrepancy: Discrepancy) -> np.ndarray:
        return run_moments(self.form, self.theta, x, **self._spreads, gap_discrepancy=discrepancy.gap)

    def make_judge(self) -> Moments:
        discrepancy = self.spec.discrepancy
        return Moments(
            candidates=np.stack([self.expected_moments(o, discrepancy) for o in self.options]),
            base=self.known(discrepancy),
            gradient=self.gradient,
            bends=discrepancy.bends,
        )

    def log_factors(self, chosen: Sequence[Option], discrepancy: Discrepancy) -> np.ndarray:
        known = self.known(discrepancy) + sum(self.expected_moments(o, discrepancy) for o in chosen)
        return NormalDist().inv_cdf(0.5 * (1 + self.spec.level)) * np.sqrt(
            variance(known, self.gradient, discrepancy.bends)
        )

    # which sets of runs can carry the form

    def missing(self, chosen: Sequence[int]) -> str | None:
        """What these runs, with those already made, cannot tell apart; None if they can carry the form."""
        picked, seen = [self.options[i] for i in chosen], self.seen
        sizes = np.array([o.model.size for o in picked] + ([] if seen is None else [*seen.x.params_before]))
        rates = np.array([o.rate for o in picked] + ([] if seen is None else [*seen.x.pruning_rate]))
        runs = len(picked) + (0 if seen is None else len(seen.runs))
        return not_told(self.form, sizes, rates, runs=runs, masked=is_masked(self.spec.method))

    def least(self) -> list[int]:
        """The cheapest runs that carry the form with those already made: indices into `options`.

        Raises `InputError` where the candidates cannot, or cost more than the budget.
        """
        search = self.search
        candidates = search.candidates
        cost = candidates.flops + candidates.control_flops
        shortest = [i for i in map(int, np.argsort(cost, kind="stable")) if self.options[i].tokens == self.lengths[0]]
        each = list({self.options[i].model.size: i for i in reversed(shortest)}.values())
        # a run of each size, then the cheapest ones of any, as often as they may be repeated
        chosen: list[int] = []
        for i in [*sorted(each, key=shortest.index), *shortest * self.spec.seeds]:
            if search.allowed(chosen):
                break
            if chosen.count(i) < self.spec.seeds:
                chosen.append(i)
        if (missing := self.missing(chosen)) is not None:
            raise InputError(
                f"no study of these candidates can carry {self.form.name}: {missing}",
                where="design",
                hint="add candidate sizes or rates, or allow more seeds",
            )
        for i in reversed(chosen.copy()):  # the last ones may have made earlier ones superfluous
            rest = chosen.copy()
            rest.remove(i)
            if search.allowed(rest):
                chosen = rest
        price = candidates.cost(chosen)
        if price > self.spec.budget:
            raise InputError(
                f"the least study that can carry {self.form.name}, {plural(len(chosen), 'run')} of "
                f"{format_count(self.lengths[0])} tokens, takes {self.say(price)}, more than the budget of "
                f"{self.say(self.spec.budget)}",
                where="design",
                hint="raise the budget, or allow shorter runs or smaller models",
            )
        return chosen

    def study(self) -> list[int]:
        """The best study found by exchange from the cheapest that carries the form, and from even ones."""
        search, least = self.search, self.least()
        starts = [search.greedy(least, per_flop=per_flop) for per_flop in (True, False)]
        return search.best([*starts, *self.even_starts()])
