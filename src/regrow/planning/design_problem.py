"""The question that a design answers: the runs there are to choose from, what they cost, and the choice.

What runs tell of D* depends on the law: `regrow.planning.parametric_problem` for `p2` and its kin,
`regrow.planning.pooled_problem` for `regrowth`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import InputError
from regrow.methods import is_masked
from regrow.planning.cost import find_gpu, gpu_hours
from regrow.planning.design_model import DesignModel
from regrow.planning.information import Discrepancy
from regrow.planning.prior import middle_loss
from regrow.planning.search import Candidates, Judge, Search
from regrow.planning.study_design import DesignSpec, OfTarget

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.observations import Observations

#: draws of a law, or of a prior, that a design is averaged over
VECTORS = 32
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


class Problem(ABC):
    """One question: the candidate runs, what they tell, and what is known already.

    Attributes:
        log_tokens: [B] ln D* of the target at the draws that the design is averaged over.
        warnings: what the reader should know of the question.
    """

    #: whether a model discrepancy is added to the law (`regrow.planning.information.Discrepancy`)
    may_bend = True
    log_tokens: np.ndarray

    def __init__(self, spec: DesignSpec, law: Law | None, seen: Observations | None) -> None:
        self.spec, self.law, self.seen = spec, law, seen
        self.middle = float(np.exp(np.mean([np.log(c.size) for c in spec.candidates])))
        self.rate = spec.rate_of(spec.target, spec.pruning_rate)
        self.warnings: list[str] = []

    @abstractmethod
    def make_judge(self) -> Judge:
        """How well D* is known after a choice among `options`."""

    @abstractmethod
    def log_factors(self, chosen: Sequence[Option], discrepancy: Discrepancy) -> np.ndarray:
        """Logarithm [B] of the factor to within which D* is known after the runs already made and these."""

    @abstractmethod
    def study(self) -> list[int]:
        """The best study found: indices into `options`."""

    def missing(self, chosen: Sequence[int]) -> str | None:
        """What these runs, with those already made, cannot tell apart; None if a law can be fitted to them."""
        return None

    def of_target(self, chosen: Sequence[Option]) -> OfTarget | None:
        """What these runs can't tell and the target itself can, where the law knows it."""
        return None

    def usable(self, log_tokens: np.ndarray) -> np.ndarray:
        """Which versions of the law have a D* at the target. Raises `InputError` where none has."""
        usable = np.isfinite(log_tokens)
        if not usable.any():
            raise InputError(
                f"the target has no D* at a gain of {self.spec.min_gain:g} nats", where="design", hint="change the gain"
            )
        if not usable.all():
            self.warnings.append(f"{1 - usable.mean():.0%} of the versions of the law have no D* and are left out")
        return usable

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
        """Tokens of a run: those asked for, or doublings up to `longest`."""
        if self.spec.tokens:
            return tuple(sorted(set(map(float, self.spec.tokens))))
        least = LEAST_TOKENS_PER_PARAMETER * self.middle
        if self.seen is not None:  # as short as the runs already made
            ends = np.zeros(len(self.seen.runs))
            np.maximum.at(ends, self.seen.run, self.seen.x.tokens)
            least = float(ends.min())
        least = float(f"{least:.2g}")
        most = max(self.longest, least)
        return tuple(least * 2.0**k for k in range(DOUBLINGS + 1) if least * 2.0**k <= most * 1.01)

    @property
    def longest(self) -> float:
        """Tokens that no run of the study needs more of: the target's own D*."""
        return float(np.exp(np.median(self.log_tokens)))

    @property
    def even_tokens(self) -> float:
        """Tokens of each run where every size at every rate is run once and the runs spend the budget."""
        spec = self.spec
        per_token = sum(spec.flops(m, r, 1.0) for m in spec.candidates for r in self.rates_of(m))
        per_token += sum(spec.flops(m, 0.0, 1.0) * spec.controls for m in spec.candidates)
        return spec.budget / per_token

    def loss_of(self, model: DesignModel) -> float:
        """Its loss before pruning, nats/token: as given, else between those of the runs already made, else typical."""
        if model.loss_before is not None:
            return model.loss_before
        if self.seen is None:
            return middle_loss(model.size)
        sizes = self.seen.sizes
        means = [self.seen.x.loss_before[self.seen.x.params_before == n].mean() for n in sizes]
        return float(np.interp(np.log(model.size), np.log(sizes), means))

    @cached_property
    def search(self) -> Search:
        spec, options = self.spec, self.options
        sizes = [id(o.model) for o in options]
        cells = [(id(o.model), o.rate) for o in options]
        candidates = Candidates(
            flops=np.array([spec.flops(o.model, o.rate, o.tokens) for o in options]),
            control_flops=np.array([spec.flops(o.model, 0.0, o.tokens) * spec.controls for o in options]),
            size=np.array([sizes.index(s) for s in sizes]),
            cell=np.array([cells.index(c) for c in cells]),
        )
        return Search(
            candidates=candidates,
            judge=self.make_judge(),
            budget=spec.budget,
            seeds=spec.seeds,
            allowed=lambda chosen: self.missing(chosen) is None,
        )

    # choosing

    def even_starts(self) -> list[list[int]]:
        """Even studies of each length that the budget pays for and that a law can be fitted to.

        Every size at every rate, at the extreme rates, or the smallest at every rate and the others at the target's
        only.
        """
        search = self.search
        starts: list[list[int]] = []
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
                if search.candidates.cost(runs) <= self.spec.budget and search.allowed(runs)
            ]
        return starts

    def next_runs(self, count: int) -> list[int]:
        """One run after the other, each the one that narrows most within an even share of what is left to spend."""
        search, chosen = self.search, list[int]()
        for step in range(count):
            spent = search.candidates.cost(chosen)
            share = spent + (self.spec.budget - spent) / (count - step)
            new = search.affordable(chosen, share)
            if not new.size:
                break
            chosen.append(int(new[np.argmax(search.judge.gains(chosen, new))]))
        if not chosen:
            least = float(search.candidates.more([]).min()) * count
            raise InputError(
                f"the shortest run costs more than {count} of them may: {self.say(self.spec.budget)} in all",
                where="design", hint=f"give at least {self.say(least)}",
            )  # fmt: skip
        if len(chosen) < count:
            self.warnings.append(f"the budget pays for {len(chosen)} of the {count} runs asked for")
        if (missing := self.missing(chosen)) is not None:
            self.warnings.append(f"after these runs: {missing}")
        return chosen

    def say(self, flops: float) -> str:
        """A cost in words."""
        hours = gpu_hours(flops, gpu=find_gpu(self.spec.gpu), mfu=self.spec.mfu)
        return f"{flops:.3g} FLOPs ({hours:.3g} GPU-hours)"
