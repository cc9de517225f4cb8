"""Which plans and comparisons a report opens with: those asked for, or the largest size among the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from regrow.arch import Architecture
from regrow.errors import InputError, RegrowError
from regrow.laws.law import Law
from regrow.methods import is_masked
from regrow.planning.answer import Plan
from regrow.planning.cost import DEFAULT_MFU, check_mfu, cost_usd, find_gpu
from regrow.planning.frontier import CompareSpec, Comparison, compare
from regrow.planning.plan import plan
from regrow.planning.plan_spec import PlanSpec
from regrow.runs.record import RunRecord
from regrow.units import check_rate, format_count

#: Sizes this near, as a ratio, are the same model: counts are rounded when people write them.
_SAME_SIZE = 1.01


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a report is asked; what is None is taken from the runs.

    Attributes:
        params_before, architecture: the model, by its parameters or its shape; else the largest size of each family.
        pruning_rates: rates to plan for; else the middle rate of that size's runs, or of the law's.
        loss_before: held-out loss of the unpruned model, nats/token; else that of the runs of this size.
        gpu, mfu, price_usd_per_hour: what the cost is counted with, as in `PlanSpec`.
        served_tokens: tokens the pruned model will serve, for the comparison.
    """

    params_before: float | None = None
    architecture: Architecture | None = None
    pruning_rates: tuple[float, ...] = ()
    loss_before: float | None = None
    gpu: str = "h100"
    mfu: float = DEFAULT_MFU
    price_usd_per_hour: float | None = None
    served_tokens: float | None = None

    def __post_init__(self) -> None:
        if self.params_before is not None and self.architecture is not None:
            raise InputError("a model by name and by size", where="report", hint="give one of them")
        for rate in self.pruning_rates:
            check_rate(rate, where="report")
        find_gpu(self.gpu)
        check_mfu(self.mfu)
        cost_usd(None, price_usd_per_hour=self.price_usd_per_hour)

    @property
    def asked(self) -> bool:
        """Whether a reader named the model or a rate, so that no answer is an error and not a remark."""
        return bool(self.params_before or self.architecture or self.pruning_rates)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Plans, one comparison a family where there is something to compare, and what could not be answered."""

    plans: tuple[Plan, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


def answer(laws: Sequence[Law], runs: Sequence[RunRecord], question: Question | None = None) -> Answers:
    """Plan each law for the model asked for, and compare the methods of each family.

    Args:
        laws: fitted laws; one that failed is left out, as the page says so itself.
        runs: all runs, held out or not: they say which size is the largest, and its loss before pruning.

    Raises `InputError` where a model or a rate was asked for and no law can answer.
    """
    question = question or Question()
    plans: list[Plan] = []
    comparisons: list[Comparison] = []
    notes: list[str] = []
    errors: list[RegrowError] = []
    usable = [law for law in laws if law.status != "failed"]
    for family in dict.fromkeys(law.family for law in usable):
        mine = [law for law in usable if law.family == family]
        try:
            base = _base([run for run in runs if run.family == family], question, family)
        except InputError as error:
            errors.append(error)
            continue
        for law in mine:
            for rate in _rates(law, runs, base.size, question):
                try:
                    plans.append(plan(law, replace(base, pruning_rate=rate)))
                except InputError as error:
                    errors.append(error)
        try:
            spec = CompareSpec(
                base=base,
                rates=_compared(mine, question),
                masked_rates=_masked_rates(mine, runs, base),
                served_tokens=question.served_tokens,
            )
            comparisons.append(compare(mine, spec))
        except InputError:
            pass  # one candidate: the plan above says it all
    if errors and not plans and question.asked:
        raise errors[0]
    notes += [f"no plan: {error}" for error in errors]
    return Answers(plans=tuple(plans), comparisons=tuple(comparisons), notes=tuple(notes))


def _base(runs: Sequence[RunRecord], question: Question, family: str) -> PlanSpec:
    """The model to plan for, without a rate."""
    size = question.architecture.params if question.architecture is not None else question.params_before
    if size is None:
        if not runs:
            raise InputError(
                f"no run of the family {family}", where="report", hint="give the model with --params-before"
            )
        size = float(max(run.params_before for run in runs))
    before = question.loss_before
    if before is None:
        same = [run.known_loss_before for run in runs if _is_of_size(run, size)]
        if not same:
            hint = "give it with --loss-before, read on the same held-out text"
            raise InputError(f"no run tells the loss of the unpruned {format_count(size)}", where="report", hint=hint)
        before = float(np.median(same))
    return PlanSpec(
        params_before=None if question.architecture is not None else size,
        architecture=question.architecture,
        loss_before=before,
        gpu=question.gpu,
        mfu=question.mfu,
        price_usd_per_hour=question.price_usd_per_hour,
    )


def _rates(law: Law, runs: Sequence[RunRecord], size: float, question: Question) -> Sequence[float | None]:
    """The rates to plan a law for."""
    if is_masked(law.method) and question.architecture is not None:
        return (None,)
    if not is_masked(law.method) and question.pruning_rates:
        return question.pruning_rates
    here = _rate_of_runs(law, runs, size)
    if here is not None:
        return (here,)
    return (None,) if is_masked(law.method) else (float(f"{np.mean(law.ranges['pruning_rate']):.3g}"),)


def _is_of_size(run: RunRecord, size: float) -> bool:
    return size / _SAME_SIZE <= run.params_before <= size * _SAME_SIZE


def _rate_of_runs(law: Law, runs: Sequence[RunRecord], size: float) -> float | None:
    """The middle rate of the law's runs of this size; None without any."""
    here = sorted(
        run.pruning_rate
        for run in runs
        if (run.family, run.method) == (law.family, law.method) and _is_of_size(run, size)
    )
    return here[len(here) // 2] if here else None


def _masked_rates(laws: Sequence[Law], runs: Sequence[RunRecord], base: PlanSpec) -> dict[str, float]:
    """What N:M sparsity removes of this model, as its runs say; a shape says it better, and then nothing is needed."""
    if base.architecture is not None:
        return {}
    found = {law.method: _rate_of_runs(law, runs, base.size) for law in laws if is_masked(law.method)}
    return {method: rate for method, rate in found.items() if rate is not None}


def _compared(laws: Sequence[Law], question: Question) -> tuple[float, ...] | None:
    """The rates to compare: those asked for, or three inside what every law was fitted on; None if they share none."""
    if question.pruning_rates:
        return question.pruning_rates
    ends = [law.ranges["pruning_rate"] for law in laws if not is_masked(law.method)]
    low, high = max((a for a, _ in ends), default=0.0), min((b for _, b in ends), default=0.0)
    if not 0 < low < high:
        return None
    return tuple(dict.fromkeys(float(f"{rate:.3g}") for rate in np.linspace(low, high, 3)))
