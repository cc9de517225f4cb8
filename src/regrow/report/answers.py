"""Which plans and comparisons a report opens with: those asked for, or those that the runs support best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from regrow.arch import Architecture
from regrow.errors import InputError, RegrowError, one_of
from regrow.footprint import MemoryTarget
from regrow.laws.law import Law
from regrow.laws.prediction import LOSS
from regrow.methods import is_masked
from regrow.planning.answer import Plan
from regrow.planning.cost import DEFAULT_MFU
from regrow.planning.criteria import Budget, Criterion, Gain
from regrow.planning.frontier import CompareSpec, Comparison, compare
from regrow.planning.plan import plan
from regrow.planning.plan_spec import PlanSpec
from regrow.planning.verdict import CANNOT_SAY, ROUGH, TRUST
from regrow.report.scored import score_spec
from regrow.runs.record import RunRecord
from regrow.units import check_rate, format_count

#: Sizes this near, as a ratio, are the same model: counts are rounded when people write them.
_SAME_SIZE = 1.01
#: A plan whose rate is this near answers the rate asked for: whole blocks miss it, and N:M patterns set their own.
_NEAR_RATE = 0.05
#: Fields of a `PlanSpec` that a question passes on as they are.
_OF_PLAN = (
    *("model", "sizes", "memory", "active_params", "loss_pruned", "criterion", "gpu", "mfu", "mfu_how", "teacher"),
    *("price_usd_per_hour", "context", "level", "others"),
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a report is asked. A field that is None is taken from the runs.

    Attributes:
        params_before, architecture: the model, by its parameters or its shape; else a size among the family's runs.
        pruning_rates: rates to plan for; else a rate of that size's runs, or the middle of the law's.
        loss_before: held-out loss of the unpruned model, nats/token; else that of the runs of this size.
        family, method: plan with the laws of these only.
        model, sizes, memory, active_params, loss_pruned, criterion, gpu, mfu, mfu_how, teacher, price_usd_per_hour,
            context, level, others: as in `PlanSpec`.
        compare: whether to compare methods and rates; None where there are two candidates or more.
        compared: what else to compare by, as fields of `CompareSpec`: `rates`, `params_after`, `served_tokens`,
            `sparse_speedup`, `serving_mfu`.
    """

    params_before: float | None = None
    architecture: Architecture | None = None
    pruning_rates: tuple[float, ...] = ()
    loss_before: float | None = None
    family: str | None = None
    method: str | None = None
    model: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    memory: MemoryTarget | None = None
    active_params: float | None = None
    loss_pruned: float | None = None
    criterion: Criterion | Budget = field(default_factory=Gain)
    gpu: str = "h100"
    mfu: float = DEFAULT_MFU
    mfu_how: str | None = None
    teacher: Architecture | float | None = None
    price_usd_per_hour: float | None = None
    context: int = 4096
    level: float = 0.9
    others: Mapping[str, float] = field(default_factory=dict)
    compare: bool | None = None
    compared: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.params_before is not None and self.architecture is not None:
            raise InputError("a model by name and by size", where="report", hint="give one of them")
        for rate in self.pruning_rates:
            check_rate(rate, where="report")
        if self.pruning_rates and (self.sizes or self.memory is not None or self.active_params is not None):
            what = "a rate beside a shape, a memory target or parameters of a token"
            raise InputError(what, where="report", hint="give one of them")
        if self.compare is False and self.compared:
            named = ", ".join(self.compared)
            raise InputError(f"{named} without a comparison", where="report", hint="leave it out, or compare")
        # refuse at once what no runs can make right
        self.base(size=self.params_before or 1e9, loss_before=self.loss_before or 1.0)

    @property
    def asked(self) -> bool:
        """Whether the user named the model or a rate. Then a missing answer is an error; otherwise it is a note."""
        return bool(self.params_before or self.architecture or self.pruning_rates)

    @property
    def compares(self) -> bool:
        """Whether the user asked for a comparison. Then it is an error if there is nothing to compare."""
        return bool(self.compare or self.compared)

    def base(self, *, size: float, loss_before: float) -> PlanSpec:
        """The plan to make, without a rate; `size` counts where no shape is known."""
        return PlanSpec(
            params_before=None if self.architecture is not None else size,
            architecture=self.architecture,
            loss_before=loss_before,
            **{name: getattr(self, name) for name in _OF_PLAN},
        )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Plans, the recommended one first; a comparison for each family that has candidates; notes on what has no
    answer."""

    plans: tuple[Plan, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


def answer(laws: Sequence[Law], runs: Sequence[RunRecord], question: Question | None = None) -> Answers:
    """Plan each law for the model asked for, and compare the methods of each family.

    If no model is asked for, the largest size of the runs that they support an answer for is taken; if no rate, the
    supported one nearest the middle of that size's rates. The first plan is the one to recommend: of the first rate
    asked for, the method with the best verdict, then with the least loss, then the cheapest.

    Args:
        laws: fitted laws; one that failed is left out, as the page says so itself.
        runs: all runs, held out or not; sizes and losses before pruning come from them.

    Raises `InputError` where a model or a rate was asked for and no law can answer, and where a comparison was asked
    for and there are fewer than two candidates.
    """
    question = question or Question()
    plans: list[Plan] = []
    comparisons: list[Comparison] = []
    errors: list[RegrowError] = []
    alone: list[InputError] = []
    usable = _wanted(laws, question)
    for family in dict.fromkeys(law.family for law in usable):
        mine = [law for law in usable if law.family == family]
        of_family = [run for run in runs if run.family == family]
        found = _plans_of_family(mine, of_family, question, family)
        plans += found.plans
        errors += found.errors
        if found.base is None or question.compare is False or any(law.benchmark is not None for law in mine):
            continue
        try:
            comparisons.append(compare(mine, _compare_spec(mine, of_family, found.base, question)))
        except InputError as error:
            alone.append(error)  # with one candidate the plan is enough, unless a comparison was asked for
    if errors and not plans and question.asked:
        raise errors[0]
    if alone and not comparisons and question.compares:
        raise _nothing_to_compare(alone[0], question)
    notes = tuple(f"no plan: {error}" for error in errors)
    return Answers(plans=_recommended_first(plans, question.pruning_rates), comparisons=tuple(comparisons), notes=notes)


@dataclass
class _Found:
    """The plans of one family, the model that they are for, and why others could not be made."""

    plans: list[Plan]
    base: PlanSpec | None
    errors: list[RegrowError]


def _wanted(laws: Sequence[Law], question: Question) -> list[Law]:
    """The laws to plan with. Raises `InputError` for a family or a method that none has."""
    usable = [law for law in laws if law.status != "failed"]
    for what in ("family", "method"):
        name = getattr(question, what)
        if name is not None and usable:
            one_of(name, sorted({getattr(law, what) for law in usable}), what=what, where="laws")
            usable = [law for law in usable if getattr(law, what) == name]
    return usable


def _plans_of_family(laws: Sequence[Law], runs: Sequence[RunRecord], question: Question, family: str) -> _Found:
    """The plans for the model asked for, or for the largest size of the runs that they support an answer for."""
    found: list[_Found] = []
    for size in _sizes(runs, question):
        one = _Found(plans=[], base=None, errors=[])
        found.append(one)
        try:
            one.base = _base(runs, question, size, family)
        except InputError as error:
            one.errors.append(error)
            continue
        for law in laws:
            _plan_law(law, runs, question, one)
        if any(answer.verdict != CANNOT_SAY for answer in one.plans):
            return one
    if not found:
        why = InputError(f"no run of the family {family}", where="report", hint="give the model with --params-before")
        return _Found(plans=[], base=None, errors=[why])
    return next((one for one in found if one.plans), found[0])


def _sizes(runs: Sequence[RunRecord], question: Question) -> list[float]:
    """The size asked for, else those of the runs, the largest first."""
    if question.architecture is not None:
        return [float(question.architecture.params)]
    if question.params_before is not None:
        return [question.params_before]
    pruned = [run for run in runs if not run.is_control]
    return sorted({float(run.params_before) for run in pruned or runs}, reverse=True)


def _base(runs: Sequence[RunRecord], question: Question, size: float, family: str) -> PlanSpec:
    """The model to plan for, without a rate. Raises `InputError` where nobody knows its loss before pruning."""
    before = question.loss_before
    if before is None:
        same = [run.loss_before for run in runs if _is_of_size(run, size) and run.loss_before is not None]
        if not same and any(_is_of_size(run, size) for run in runs):
            return replace(question.base(size=size, loss_before=1.0), loss_before=None)  # runs of scores alone
        if not same:
            hint = "give it with --loss-before, read on the same held-out text"
            raise InputError(f"no run tells the loss of the unpruned {format_count(size)}", where="report", hint=hint)
        before = float(np.median(same))
    return question.base(size=size, loss_before=before)


def _plan_law(law: Law, runs: Sequence[RunRecord], question: Question, found: _Found) -> None:
    """Add a plan for each rate asked for, or one for the supported rate nearest the middle."""
    base = found.base
    assert base is not None
    asked: Sequence[float | None] = question.pruning_rates if not is_masked(law.method) else ()
    if base.sets_rate or (is_masked(law.method) and base.architecture is not None):
        asked = (None,)
    first: Plan | None = None
    for rate in asked or list(_rates(law, runs, base.size)):
        try:
            asks = base if law.benchmark is None else score_spec(law, runs, base)
            one = plan(law, replace(asks, pruning_rate=rate))
        except InputError as error:
            found.errors.append(error)
            continue
        if asked:
            found.plans.append(one)
        elif one.verdict != CANNOT_SAY:
            found.plans.append(one)
            return
        first = first or one
    if first is not None and not asked:
        found.plans.append(first)


def _rates(law: Law, runs: Sequence[RunRecord], size: float) -> Iterator[float | None]:
    """The rates of the law's runs of this size, nearest the middle first; without such runs, the middle of the law's
    rates."""
    here = sorted(run.pruning_rate for run in runs if _is_of_law(run, law) and _is_of_size(run, size))
    if here:
        yield from sorted(dict.fromkeys(here), key=lambda rate: abs(rate - here[len(here) // 2]))
    elif is_masked(law.method):
        yield None
    else:
        yield float(f"{np.mean(law.ranges['pruning_rate']):.3g}")


def _recommended_first(plans: Sequence[Plan], rates: Sequence[float]) -> tuple[Plan, ...]:
    """The plans with the one to recommend moved to the front; `rates` are those asked for."""
    # one plan for each law, at the first rate asked for; a pattern whose own rate is far from it does not count
    first_of_law = list({(one.family, one.method, one.form, _of(one)): one for one in reversed(plans)}.values())
    near = [one for one in first_of_law if not rates or abs(one.pruning_rate - rates[0]) <= _NEAR_RATE]
    if not near:
        return tuple(plans)
    best = min(reversed(near), key=_merit)
    return (best, *(one for one in plans if one is not best))


def _of(one: Plan) -> str:
    """What a plan is of: the loss, or a benchmark's score."""
    return LOSS if one.scored is None else one.scored.target


def _merit(answer: Plan) -> tuple[int, float, float]:
    """Sort key: the best verdict first, then the lowest loss (to a thousandth), then the fewest GPU-hours."""
    order = (TRUST, ROUGH, CANNOT_SAY).index(answer.verdict)
    loss = np.inf if answer.loss is None else round(answer.loss, 3)
    return order, loss, np.inf if answer.gpu_hours is None else answer.gpu_hours


def _compare_spec(laws: Sequence[Law], runs: Sequence[RunRecord], base: PlanSpec, question: Question) -> CompareSpec:
    """What to compare: at the rates asked for, within the memory or the parameters of a token asked for, or at three
    rates inside what every law was fitted on."""
    given = dict(question.compared)
    rates = given.pop("rates", None)
    base = replace(base, sizes={})
    if rates is not None or "params_after" in given:
        base = replace(base, memory=None, active_params=None)
    elif not base.sets_rate:
        rates = question.pruning_rates or _shared_rates(laws)
    return CompareSpec(
        base=base,
        rates=rates or None,
        masked_rates=_masked_rates(laws, runs, base),
        **given,
    )


def _nothing_to_compare(error: InputError, question: Question) -> InputError:
    """Why there is no comparison where one was asked for."""
    if "one candidate" not in error.what:
        return error
    named = ", ".join(f"--{name.replace('_', '-')}" for name in question.compared) or "--compare"
    return InputError(
        f"{named} compares two candidates or more, and there is one",
        where="report",
        hint="give two rates (--rate 0.25 --rate 0.35), or a law file of several methods",
    )


def _is_of_law(run: RunRecord, law: Law) -> bool:
    return (run.family, run.method) == (law.family, law.method)


def _is_of_size(run: RunRecord, size: float) -> bool:
    return size / _SAME_SIZE <= run.params_before <= size * _SAME_SIZE


def _masked_rates(laws: Sequence[Law], runs: Sequence[RunRecord], base: PlanSpec) -> dict[str, float]:
    """The rates of N:M sparsity at this size, from its runs; empty if the shape is known, which gives them exactly."""
    if base.architecture is not None:
        return {}
    masked = [law for law in laws if is_masked(law.method)]
    rates = {law.method: next(iter(_rates(law, runs, base.size))) for law in masked}
    return {method: rate for method, rate in rates.items() if rate is not None}


def _shared_rates(laws: Sequence[Law]) -> tuple[float, ...]:
    """Three rates inside what every law was fitted on; none if they share none."""
    ends = [law.ranges["pruning_rate"] for law in laws if not is_masked(law.method)]
    low, high = max((a for a, _ in ends), default=0.0), min((b for _, b in ends), default=0.0)
    if not 0 < low < high:
        return ()
    return tuple(dict.fromkeys(float(f"{rate:.3g}") for rate in np.linspace(low, high, 3)))
