"""Which small runs to make so that the tokens of a large one are known best, and what they cost.

`design` proposes a study (sizes, rates, tokens, repeats) within a budget, or the next runs after those already made.
What is asked and answered is in `regrow.planning.study_design`, the choice of runs in `regrow.planning.design_problem`.
The statistics are in `regrow.planning.information` for `p2` and its kin, and in `regrow.planning.pooled_information`
for `regrowth`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import InputError
from regrow.laws.forms.regrowth import Regrowth
from regrow.laws.observations import observe, of_loss
from regrow.laws.pooled.unseen import methods_of
from regrow.planning.cost import cost_usd, find_gpu, gpu_hours
from regrow.planning.design_model import DesignModel
from regrow.planning.design_problem import Option, Problem
from regrow.planning.information import BENT, EXACT, Discrepancy
from regrow.planning.parametric_problem import ParametricProblem
from regrow.planning.pooled_problem import PooledProblem
from regrow.planning.prior import PRIOR
from regrow.planning.removal import check_pattern_rate
from regrow.planning.study_design import DesignRun, DesignSpec, Expected, StudyDesign
from regrow.planning.unseen import about_method
from regrow.units import plural

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.observations import Observations
    from regrow.runs.record import RunRecord

#: Ends of ranges this near to each other, as a share, are the same.
_SAME = 1e-4

__all__ = ["PRIOR", "DesignModel", "DesignRun", "DesignSpec", "Discrepancy", "Expected", "StudyDesign", "design"]


def design(spec: DesignSpec, law: Law | None = None, runs: Sequence[RunRecord] | None = None) -> StudyDesign:
    """Propose the runs that make the interval of D* at the target narrowest.

    Args:
        law: a pilot law of the form `regrowth`, or `p2` or its kin; its draws say what is not known of it. Without one
            a stated prior of `p2` is used (`PRIOR`).
        runs: the runs that the law was fitted to, with their controls: what they tell already is counted.

    Raises:
        InputError: a budget below the least study (which is named), too few sizes or rates for the form, a law that
            cannot be used, or runs without a law.
    """
    if runs is not None and law is None:
        raise InputError("runs already made, but no law", where="design", hint="fit them first: `regrow fit --out`")
    if spec.next is not None and runs is None:
        raise InputError("which runs come next depends on those made", where="design", hint="give the law and its runs")
    if law is not None and (law.method != spec.method or law.status == "failed"):
        what = "failed to fit" if law.status == "failed" else f"is of {law.method}, the target of {spec.method}"
        raise InputError(f"the law {what}", where="design", hint="give a fitted law of the target's method")
    if spec.target.loss_pruned is not None and (law is None or not isinstance(law.formula, Regrowth)):
        raise InputError(
            "the target's loss right after pruning is given, and no law that reads it",
            where="design",
            hint="give a law of the form regrowth, or leave it out",
        )
    if spec.pruning_rate is not None:
        check_pattern_rate(spec.method, spec.pruning_rate, spec.rate_of(spec.target, spec.pruning_rate))
    seen = None if law is None or runs is None else _seen(law, runs)
    problem: Problem
    if law is not None and isinstance(law.formula, Regrowth):
        problem = PooledProblem(spec, law, seen, None if runs is None else of_loss(runs, law.loss_kind))
    elif law is None or set(PRIOR) <= set(law.formula.names):
        problem = ParametricProblem(spec, law, seen)
    else:
        raise InputError(f"a law of the form {law.form}", where="design", hint="fit regrowth, or p2 or one of its kin")
    if law is not None:
        problem.warnings += about_method(law)
    if law is not None and seen is not None:
        problem.warnings += _other_runs(law, seen)
    return _answer(problem, problem.study() if spec.next is None else problem.next_runs(spec.next))


def _expected(problem: Problem, chosen: Sequence[Option], flops: float) -> Expected:
    def logs(discrepancy: Discrepancy) -> np.ndarray:
        return np.log(problem.log_factors(chosen, discrepancy))

    own = logs(problem.spec.discrepancy)
    low, high = np.quantile(own, [0.1, 0.9])
    hours = gpu_hours(flops, gpu=find_gpu(problem.spec.gpu), mfu=problem.spec.mfu)
    return Expected(
        factor=_factor(own.mean()),
        factor_low=_factor(low),
        factor_high=_factor(high),
        factor_exact=_factor(logs(EXACT).mean()) if problem.may_bend else None,
        factor_bent=_factor(logs(BENT).mean()) if problem.may_bend else None,
        n_runs=len(chosen),
        flops=flops,
        gpu_hours=hours,
        cost_usd=cost_usd(hours, price_usd_per_hour=problem.spec.price_usd_per_hour),
    )


def _grid(problem: Problem) -> list[Option]:
    """Every size at every rate, once each, equally long, for the whole budget."""
    tokens = problem.even_tokens
    return [Option(model=m, rate=r, tokens=tokens) for m in problem.spec.candidates for r in problem.rates_of(m)]


def _answer(problem: Problem, chosen: list[int]) -> StudyDesign:
    spec = problem.spec
    picked = [problem.options[i] for i in chosen]
    grid = _grid(problem)
    tokens = float(np.exp(np.median(problem.log_tokens)))
    low, high = np.exp(np.quantile(problem.log_tokens, [0.05, 0.95]))
    flops = spec.flops(spec.target, problem.rate, tokens)
    hours = gpu_hours(flops, gpu=find_gpu(spec.gpu), mfu=spec.mfu)
    basis = (
        "a stated prior"
        if problem.law is None
        else f"{plural(len(problem.log_tokens), 'draw')} of the law of {problem.law.family}"
    )
    if problem.seen is not None:
        basis += f", and {plural(len(problem.seen.runs), 'run')} already made"
    return StudyDesign(
        spec=spec,
        family=spec.family or ("FILL-IN" if problem.law is None else problem.law.family),
        runs=tuple(_rows(problem, picked)),
        expected=_expected(problem, picked, problem.search.candidates.cost(chosen)),
        grid=_expected(problem, grid, spec.budget),
        grid_tokens=grid[0].tokens,
        before=None if problem.seen is None and problem.may_bend else _expected(problem, [], 0.0).factor,
        tokens=tokens,
        tokens_low=float(low),
        tokens_high=float(high),
        target_flops=flops,
        target_gpu_hours=hours,
        target_cost_usd=cost_usd(hours, price_usd_per_hour=spec.price_usd_per_hour),
        assumes=basis,
        of_target=problem.of_target(picked),
        warnings=tuple(problem.warnings),
    )


def _rows(problem: Problem, picked: list[Option]) -> list[DesignRun]:
    """The runs, in the order in which to make them where that was asked, else alike ones together."""
    rows = []
    ordered = problem.spec.next is not None
    alone = sorted(dict.fromkeys(picked), key=lambda o: (o.model.size, o.rate, o.tokens))
    for i, option in enumerate(picked if ordered else alone):
        repeats = 1 if ordered else picked.count(option)
        after = (
            _factor(np.log(problem.log_factors(picked[: i + 1], problem.spec.discrepancy)).mean()) if ordered else None
        )
        rows.append(
            DesignRun(
                model=option.model.label,
                params_before=option.model.size,
                pruning_rate=option.rate,
                tokens=option.tokens,
                repeats=repeats,
                flops=repeats * problem.spec.flops(option.model, option.rate, option.tokens),
                factor_after=after,
            )
        )
    return rows


def _factor(log_log: float) -> float:
    """exp(exp(.)), infinite where a float holds no more."""
    return float(np.exp(min(np.exp(min(log_log, 10.0)), 700.0)))


def _seen(law: Law, runs: Sequence[RunRecord]) -> Observations:
    """The runs of the law's own family and method, as it saw them."""
    groups = observe(of_loss(runs, law.loss_kind), baseline=law.baseline, columns=law.formula.columns)
    mine = [g for g in groups if (g.family, g.method) == (law.family, law.method)]
    if not mine:
        there = ", ".join(f"{g.family} {g.method}" for g in groups)
        hint = f"there are: {there}" + ("; leave the runs out" if methods_of(law) else "")
        raise InputError(f"no run of {law.family} {law.method}", where="design", hint=hint)
    return mine[0].keep(mine[0].x.tokens > 0)


def _other_runs(law: Law, seen: Observations) -> list[str]:
    """A warning where the runs given, `seen`, are not those that the law was fitted to, by their number and ranges."""
    given = seen.x.ranges()
    same = all(
        np.allclose(law.ranges[name][1:] if name == "tokens" else law.ranges[name],
                    given[name][1:] if name == "tokens" else given[name], rtol=_SAME)
        for name in ("params_before", "pruning_rate", "loss_before", "tokens")
        if name in law.ranges and name in given
    )  # fmt: skip
    if same and len(seen.runs) == law.n_runs:
        return []
    what = f"{plural(len(seen.runs), 'run')} of {law.family}, {law.method}"
    return [
        f"the runs given are not those that the law was fitted to ({what}, the law rests on {law.n_runs}): fit the law "
        "to them first, as both are counted together here"
    ]
