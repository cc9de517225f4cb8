"""The question that a design answers: the law's linearisation, the runs there are to choose from, and the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import InputError
from regrow.laws.forms import Form, find_form
from regrow.laws.setting import Reference, Setting
from regrow.methods import is_masked
from regrow.planning.cost import find_gpu, gpu_hours
from regrow.planning.information import (
    Candidates,
    Discrepancy,
    Search,
    gradient_of_log_tokens,
    log_optimal_tokens,
    no_moments,
    not_told,
    run_moments,
)
from regrow.planning.prior import law_vectors, middle_loss, prior_vectors
from regrow.planning.study_design import DesignModel, DesignSpec
from regrow.units import format_count

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.observations import Observations

#: parameter vectors that a design is averaged over
VECTORS = 32
#: spreads of log loss where no law tells them: 0.004 and 0.002 nats at a loss of 2.5
RUN_SPREAD, POINT_SPREAD = 0.0016, 0.0008
#: the first checkpoint of a run as a share of its tokens: where a study reads it by default
FIRST_CHECKPOINT = 1 / 32
#: the shortest run considered, in tokens per parameter of the middle candidate, and the most doublings from there
LEAST_TOKENS_PER_PARAMETER, DOUBLINGS = 0.2, 11


@dataclass(frozen=True, kw_only=True)
class Option:
    """A run that could be made."""

    model: DesignModel
    rate: float
    tokens: float


class Problem:
    """One question: the law's linearisation, the candidate runs, and what is known already."""

    def __init__(self, spec: DesignSpec, law: Law | None, seen: Observations | None) -> None:
        self.spec, self.law, self.seen = spec, law, seen
        self.form: Form = find_form("p2") if law is None else law.formula
        middle = float(np.exp(np.mean([np.log(c.size) for c in spec.candidates])))
        self.ref = Reference(params_before=middle, tokens=middle, pruning_rate=0.25)
        self.rate = spec.rate_of(spec.target, spec.pruning_rate)
        self.warnings: list[str] = []
        theta = prior_vectors(VECTORS) if law is None else law_vectors(law, self.ref, VECTORS)
        target = self._inputs(spec.target, self.rate, np.ones(1))
        with np.errstate(all="ignore"):
            log_tokens = log_optimal_tokens(self.form, theta, target, min_gain=spec.min_gain)
        usable = np.isfinite(log_tokens)
        if not usable.any():
            raise InputError(
                f"the target has no D* at a gain of {spec.min_gain:g} nats", where="design", hint="change the gain"
            )
        if not usable.all():
            self.warnings.append(f"{1 - usable.mean():.0%} of the versions of the law have no D* and are left out")
        self.theta, self.log_tokens = theta[usable], log_tokens[usable]
        self.gradient = gradient_of_log_tokens(self.form, self.theta, target, self.log_tokens)

    # the runs there are to choose from

    @cached_property
    def options(self) -> list[Option]:
        spec = self.spec
        return [
            Option(model=model, rate=rate, tokens=tokens)
            for model in spec.candidates
            for rate in self.rates_of(model)
            for tokens in self.lengths
        ]

    def rates_of(self, model: DesignModel) -> tuple[float, ...]:
        return (self.spec.rate_of(model, None),) if is_masked(self.spec.method) else tuple(sorted(set(self.spec.rates)))

    @cached_property
    def lengths(self) -> tuple[float, ...]:
        """Tokens of a run: those asked for, or doublings up to the target's own D*."""
        if self.spec.tokens:
            return tuple(sorted(set(map(float, self.spec.tokens))))
        least = LEAST_TOKENS_PER_PARAMETER * self.ref["tokens"]
        if self.seen is not None:  # as short as the runs already made
            ends = np.zeros(len(self.seen.runs))
            np.maximum.at(ends, self.seen.run, self.seen.x.tokens)
            least = float(ends.min())
        least = float(f"{least:.2g}")
        most = max(float(np.exp(np.median(self.log_tokens))), least)
        return tuple(least * 2.0**k for k in range(DOUBLINGS + 1) if least * 2.0**k <= most * 1.01)

    # what they tell

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
        before = model.loss_before or self._loss_of(model.size)
        return Setting(self.ref, params_before=model.size, pruning_rate=rate, tokens=tokens, loss_before=before)

    def _loss_of(self, size: float) -> float:
        if self.seen is None:
            return middle_loss(size)
        sizes = self.seen.sizes
        means = [self.seen.x.loss_before[self.seen.x.params_before == n].mean() for n in sizes]
        return float(np.interp(np.log(size), np.log(sizes), means))

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

    @cached_property
    def search(self) -> Search:
        spec, options = self.spec, self.options
        sizes = [id(o.model) for o in options]
        cells = [(id(o.model), o.rate) for o in options]
        candidates = Candidates(
            moments=np.stack([self.expected_moments(o, spec.discrepancy) for o in options]),
            flops=np.array([spec.flops(o.model, o.rate, o.tokens) for o in options]),
            control_flops=np.array([spec.flops(o.model, 0.0, o.tokens) * spec.controls for o in options]),
            size=np.array([sizes.index(s) for s in sizes]),
            cell=np.array([cells.index(c) for c in cells]),
        )
        return Search(
            candidates=candidates,
            base=self.known(spec.discrepancy),
            gradient=self.gradient,
            bends=spec.discrepancy.bends,
            budget=spec.budget,
            seeds=spec.seeds,
            allowed=self.carried,
        )

    # which sets of runs can carry the form

    def carried(self, chosen: Sequence[int]) -> bool:
        return self._missing(chosen) is None

    def _missing(self, chosen: Sequence[int]) -> str | None:
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
        candidates = self.search.candidates
        cost = candidates.flops + candidates.control_flops
        shortest = [i for i in map(int, np.argsort(cost, kind="stable")) if self.options[i].tokens == self.lengths[0]]
        each = list({self.options[i].model.size: i for i in reversed(shortest)}.values())
        # a run of each size, then the cheapest ones of any, as often as they may be repeated
        chosen: list[int] = []
        for i in [*sorted(each, key=shortest.index), *shortest * self.spec.seeds]:
            if self.carried(chosen):
                break
            if chosen.count(i) < self.spec.seeds:
                chosen.append(i)
        if (missing := self._missing(chosen)) is not None:
            raise InputError(
                f"no study of these candidates can carry {self.form.name}: {missing}",
                where="design",
                hint="add candidate sizes or rates, or allow more seeds",
            )
        for i in reversed(chosen.copy()):  # the last ones may have made earlier ones superfluous
            rest = chosen.copy()
            rest.remove(i)
            if self.carried(rest):
                chosen = rest
        price = candidates.cost(chosen)
        if price > self.spec.budget:
            raise InputError(
                f"the least study that can carry {self.form.name}, {len(chosen)} runs of "
                f"{format_count(self.lengths[0])} tokens, takes {self._say(price)}, more than the budget of "
                f"{self._say(self.spec.budget)}",
                where="design",
                hint="raise the budget, or allow shorter runs or smaller models",
            )
        return chosen

    def _say(self, flops: float) -> str:
        hours = gpu_hours(flops, gpu=find_gpu(self.spec.gpu), mfu=self.spec.mfu)
        return f"{flops:.3g} FLOPs ({hours:.3g} GPU-hours)"

    # choosing

    def study(self) -> list[int]:
        """The best study found by exchange from the cheapest that carries the form, and from even ones of any length.

        Even ones: every size at every rate, at the extreme rates, or the smallest at every rate and the others at the
        target's only.
        """
        search, least = self.search, self.least()
        starts = [search.greedy(least, per_flop=per_flop) for per_flop in (True, False)]
        smallest = min(o.model.size for o in self.options)
        rates = [o.rate for o in self.options]
        nearest = min(rates, key=lambda rate: abs(rate - self.rate))
        for tokens in self.lengths:
            grid = [i for i, o in enumerate(self.options) if o.tokens == tokens]
            ends = [i for i in grid if rates[i] in (min(rates), max(rates))]
            star = [i for i in grid if rates[i] == nearest or self.options[i].model.size == smallest]
            starts += [
                runs
                for runs in (grid, ends, star)
                if search.candidates.cost(runs) <= self.spec.budget and self.carried(runs)
            ]
        return search.best(starts)

    def next_runs(self, count: int) -> list[int]:
        """One run after the other, each the one that narrows most within an even share of what is left to spend."""
        search, chosen = self.search, list[int]()
        for step in range(count):
            spent = search.candidates.cost(chosen)
            share = spent + (self.spec.budget - spent) / (count - step)
            new = search.affordable(chosen, share)
            if not new.size:
                break
            chosen.append(int(new[np.argmax(search.gains(chosen, new))]))
        if not chosen:
            least = float(search.candidates.more([]).min()) * count
            raise InputError(
                f"the shortest run costs more than {count} of them may: {self._say(self.spec.budget)} in all",
                where="design", hint=f"give at least {self._say(least)}",
            )  # fmt: skip
        if len(chosen) < count:
            self.warnings.append(f"the budget pays for {len(chosen)} of the {count} runs asked for")
        if (missing := self._missing(chosen)) is not None:
            self.warnings.append(f"after these runs: {missing}")
        return chosen
