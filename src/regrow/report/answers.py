"""Which plans and comparisons a report opens with: those asked for, or those that the runs support best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regrow.errors import InputError, RegrowError, one_of
from regrow.laws.law import Law
from regrow.laws.pooled.scored import MEAN
from regrow.laws.select import laws_of_method
from regrow.methods import is_masked
from regrow.planning.alternatives import Alternatives, alternatives_to
from regrow.planning.answer import Plan
from regrow.planning.frontier import CompareSpec, Comparison, compare
from regrow.planning.plan import plan
from regrow.planning.plan_spec import PlanSpec
from regrow.planning.score_plan import usual_model
from regrow.planning.verdict import CANNOT_SAY, ROUGH, TRUST
from regrow.report.question import Question
from regrow.report.scored import score_spec
from regrow.runs.record import RunRecord
from regrow.units import format_count

#: Sizes this near, as a ratio, are the same model: counts are rounded when people write them.
_SAME_SIZE = 1.01
#: A plan whose rate is this near answers the rate asked for: whole blocks miss it, and N:M patterns set their own.
_NEAR_RATE = 0.05


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Plans, the recommended one first, each with what it was compared with; a comparison for each family that has
    candidates; notes on what has no answer."""

    alternatives: tuple[Alternatives, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans alone."""
        return tuple(one.plan for one in self.alternatives)


def answer(laws: Sequence[Law], runs: Sequence[RunRecord], question: Question | None = None) -> Answers:
    """Plan each law for the model asked for, and compare the methods of each family.

    If no model is asked for, the largest size of the runs that they support an answer for is taken; if no rate, the
    supported one nearest the middle of that size's rates. The first plan is the one to recommend: of the first rate
    asked for, the method with the best verdict, then with the least loss, then the cheapest.

    Args:
        laws: fitted laws; one that failed is left out, as the page says so itself.
        runs: all runs, held out or not; sizes and losses before pruning come from them.

    Raises `InputError` where a model, a rate or a score was asked for and no law can answer; where stages or training
    from scratch were asked for and no plan can be compared with them; and where a comparison was asked for and there
    are fewer than two candidates.
    """
    question = question or Question()
    made: list[_Made] = []
    comparisons: list[Comparison] = []
    errors: list[RegrowError] = []
    alone: list[InputError] = []
    usable = [law for law in asked_laws(laws, question) if law.status != "failed"]
    if (question.stages or question.scratch) and usable and all(law.benchmark is not None for law in usable):
        hint = "plan with a law of losses"
        raise InputError("turns and training from scratch are compared by losses, not by scores", hint=hint)
    for family in dict.fromkeys(law.family for law in usable):
        mine = [law for law in usable if law.family == family]
        of_family = [run for run in runs if run.family == family]
        found = _plans_of_family(mine, of_family, question, family)
        made += found.made
        errors += found.errors
        if found.base is None or question.compare is False or any(law.benchmark is not None for law in mine):
            continue
        try:
            comparisons.append(compare(mine, _compare_spec(mine, of_family, found.base, question)))
        except InputError as error:
            alone.append(error)  # with one candidate the plan is enough, unless a comparison was asked for
    if errors and not made and question.asked:
        raise errors[0]
    if alone and not comparisons and question.compares:
        raise _nothing_to_compare(alone[0], question)
    compared, refused = _compared(_recommended_first(made, question.rates), question)
    notes = [f"no plan: {error}" for error in errors] + refused
    return Answers(alternatives=compared, comparisons=tuple(comparisons), notes=tuple(dict.fromkeys(notes)))


@dataclass(frozen=True)
class _Made:
    """A plan, and what it was made with."""

    law: Law
    spec: PlanSpec
    plan: Plan


@dataclass
class _Found:
    """The plans of one family, the model that they are for, and why others could not be made."""

    made: list[_Made]
    base: PlanSpec | None
    errors: list[RegrowError]


def _compared(made: Sequence[_Made], question: Question) -> tuple[tuple[Alternatives, ...], list[str]]:
    """Each plan with what the question compares it with, and why some could not be compared.

    Raises `InputError` where none could be compared with turns, or none with training from scratch.
    """
    found = [Alternatives(plan=one.plan) for one in made]
    notes: list[str] = []
    turns = {"stages": question.stages, "stage_tokens": question.stage_tokens}
    for kind, asked in (("stages", turns), ("scratch", {"scratch": question.scratch})):
        if not asked[kind]:
            continue
        errors: list[InputError] = []
        for i, one in enumerate(made):
            try:
                other = alternatives_to(one.law, one.spec, one.plan, **asked)  # type: ignore[arg-type]
            except InputError as error:
                errors.append(error)
            else:
                found[i] = replace(found[i], **{kind: getattr(other, kind)})
        if errors and len(errors) == len(made):
            raise errors[0]
        notes += [f"not compared: {error}" for error in errors]
    return tuple(found), notes


def asked_laws(laws: Sequence[Law], question: Question) -> list[Law]:
    """The laws that a question is about, failed ones among them: those of its family, method and benchmarks.

    For a method without runs it is the law over the methods that have (`regrow.laws.select`). Raises `InputError` for a
    family, a method or a benchmark that none has, for scores asked of laws of losses and the other way round, and for
    a score where several benchmarks could be meant.
    """
    found = list(laws)
    if question.family is not None and found:
        one_of(question.family, sorted({law.family for law in found}), what="family", where="laws")
        found = [law for law in found if law.family == question.family]
    if question.method is not None and found:
        found = laws_of_method(found, question.method)
    scored = [law for law in found if law.benchmark is not None]
    if question.scored and found and not scored:
        hint = "fit a law of scores: `regrow fit --score NAME`"
        raise InputError("scores asked of laws of losses", where="report", hint=hint)
    if scored and len(scored) == len(found) and (question.loss_before or question.loss_pruned):
        hint = "give --score-before and --score-pruned"
        raise InputError("losses asked of laws of scores", where="report", hint=hint)
    benchmarks = sorted({str(law.benchmark) for law in scored})
    for name in question.scores if scored else ():
        one_of(name, benchmarks, what="benchmark", where="laws")
    if question.scores:
        found = [law for law in scored if law.benchmark in question.scores]
        benchmarks = [name for name in benchmarks if name in question.scores]
    if len(benchmarks) > 1 and (question.score_before is not None or question.score_pruned is not None):
        raise InputError(
            f"a score, and {len(benchmarks)} benchmarks that it may be of", where="report",
            hint=f"name one with --score: {', '.join(benchmarks)}",
        )  # fmt: skip
    return found


def _plans_of_family(laws: Sequence[Law], runs: Sequence[RunRecord], question: Question, family: str) -> _Found:
    """The plans for the model asked for, or for the largest size of the runs that they support an answer for."""
    found: list[_Found] = []
    for size in _sizes(laws, runs, question):
        one = _Found(made=[], base=None, errors=[])
        found.append(one)
        try:
            one.base = _base(laws, runs, question, size)
        except InputError as error:
            one.errors.append(error)
            continue
        for law in laws:
            _plan_law(law, runs, question, one)
        if any(answered.plan.verdict != CANNOT_SAY for answered in one.made):
            return one
    if not found:
        why = InputError(f"no run of the family {family}", where="report", hint="give the model with --params-before")
        return _Found(made=[], base=None, errors=[why])
    return next((one for one in found if one.made), found[0])


def _sizes(laws: Sequence[Law], runs: Sequence[RunRecord], question: Question) -> list[float]:
    """The size asked for, else those of the runs, the largest first; without runs those of laws of scores."""
    if question.architecture is not None:
        return [float(question.architecture.params)]
    if question.params_before is not None:
        return [question.params_before]
    pruned = [run for run in runs if not run.is_control]
    sizes = sorted({float(run.params_before) for run in pruned or runs}, reverse=True)
    return sizes or sorted({float(usual_model(law)[0]) for law in laws if law.benchmark is not None}, reverse=True)


def _base(laws: Sequence[Law], runs: Sequence[RunRecord], question: Question, size: float) -> PlanSpec:
    """The model to plan for, without a rate. Raises `InputError` where nobody knows its loss before pruning."""
    before = question.loss_before
    if before is None:
        same = [run.loss_before for run in runs if _is_of_size(run, size) and run.loss_before is not None]
        if not same and all(law.benchmark is not None for law in laws):
            return question.base(size=size, loss_before=None)
        if not same:
            hint = "give it with --loss-before, read on the same held-out text"
            raise InputError(f"no run tells the loss of the unpruned {format_count(size)}", where="report", hint=hint)
        before = float(np.median(same))
    return question.base(size=size, loss_before=before)


def _plan_law(law: Law, runs: Sequence[RunRecord], question: Question, found: _Found) -> None:
    """Add a plan for each rate asked for, or one for the supported rate nearest the middle."""
    base = found.base
    assert base is not None
    asked: Sequence[float | None] = question.rates if not is_masked(law.method) else ()
    if base.sets_rate or (is_masked(law.method) and base.architecture is not None):
        asked = (None,)
    first: _Made | None = None
    for rate in asked or list(_rates(law, runs, base.size)):
        try:
            asks = base if law.benchmark is None else score_spec(law, runs, base, question)
            spec = replace(asks, pruning_rate=rate)
            one = _Made(law, spec, plan(law, spec))
        except InputError as error:
            found.errors.append(error)
            continue
        if asked:
            found.made.append(one)
        elif one.plan.verdict != CANNOT_SAY:
            found.made.append(one)
            return
        first = first or one
    if first is not None and not asked:
        found.made.append(first)


def _rates(law: Law, runs: Sequence[RunRecord], size: float) -> Iterator[float | None]:
    """The rates of the law's runs of this size, nearest the middle first; without such runs, the middle of the law's
    rates."""
    here = sorted(run.pruning_rate for run in runs if _is_of_law(run, law) and _is_of_size(run, size))
    if here:
        yield from sorted(dict.fromkeys(here), key=lambda rate: abs(rate - here[len(here) // 2]))
    elif law.benchmark is not None:
        yield usual_model(law, size)[1]
    elif is_masked(law.method):
        yield None
    else:
        yield float(f"{np.mean(law.ranges['pruning_rate']):.3g}")


def _recommended_first(made: Sequence[_Made], rates: Sequence[float]) -> list[_Made]:
    """The plans with the one to recommend moved to the front, and the means of benchmarks before the benchmarks;
    `rates` are those asked for."""
    made = sorted(made, key=lambda one: _of_one_benchmark(one.plan))
    # one plan for each law, at the first rate asked for; a pattern whose own rate is far from it does not count
    first_of_law = {(one.law.family, one.law.method, one.law.form, one.law.target): one for one in made[::-1]}
    near = [one for one in first_of_law.values() if not rates or abs(one.plan.pruning_rate - rates[0]) <= _NEAR_RATE]
    if not near:
        return list(made)
    best = min(near[::-1], key=lambda one: _merit(one.plan))
    return [best, *(one for one in made if one is not best)]


def _of_one_benchmark(answer: Plan) -> bool:
    return answer.scored is not None and answer.scored.benchmark != MEAN


def _merit(answer: Plan) -> tuple[bool, int, float, float]:
    """Sort key: the mean of benchmarks before any of them, then the best verdict, then the lowest loss (to a
    thousandth), then the fewest GPU-hours."""
    order = (TRUST, ROUGH, CANNOT_SAY).index(answer.verdict)
    loss = np.inf if answer.loss is None else round(answer.loss, 3)
    return _of_one_benchmark(answer), order, loss, np.inf if answer.gpu_hours is None else answer.gpu_hours


def _compare_spec(laws: Sequence[Law], runs: Sequence[RunRecord], base: PlanSpec, question: Question) -> CompareSpec:
    """What to compare: at the rates asked for, within the memory or the parameters of a token asked for, or at three
    rates inside what every law was fitted on."""
    given = dict(question.compared)
    rates = given.pop("rates", None)
    base = replace(base, sizes={})
    if rates is not None or "params_after" in given:
        base = replace(base, memory=None, active_params=None)
    elif not base.sets_rate:
        rates = question.rates or _shared_rates(laws)
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
