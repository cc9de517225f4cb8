"""Which method, at which rate: plans side by side, the ones that nothing beats, and the one to take.

A candidate is one law at one pruning rate, planned by `regrow.planning.plan`. It is on the frontier if no other is at
least as good in expected loss, in parameters left and in total cost (training, and serving if asked), and better in
one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.errors import InputError
from regrow.methods import is_masked, parse_pattern
from regrow.planning.answer import Plan
from regrow.planning.cost import (
    check_mfu,
    cost_usd,
    find_gpu,
    gpu_hours,
    pruned_model,
    say_gpu_time,
    say_usd,
)
from regrow.planning.criteria import Budget
from regrow.planning.plan import plan
from regrow.planning.plan_spec import PlanSpec
from regrow.units import check_rate, format_count, read_fields

if TYPE_CHECKING:
    import pandas as pd

    from regrow.laws.law import Law

#: Rates compared where none are given: those of the paper (arXiv 2411.10272).
DEFAULT_RATES = (0.15, 0.25, 0.35)
#: Whole blocks and channels can't be cut to measure: a model this share above the size asked for still has it.
SIZE_SLACK = 0.02
#: Losses this near, in nats, count as equal when one row is chosen, and the cheaper is taken.
SAME_LOSS = 0.01


@dataclass(frozen=True, kw_only=True)
class CompareSpec:
    """What to compare.

    Attributes:
        base: the model, its loss, the criterion, the GPU and its price, as for one plan; its `pruning_rate` stays None.
            With the criterion `Budget` every candidate spends it. With a memory target or parameters of a token every
            method is pruned as far as that takes.
        rates: pruning rates, fractions. Without them the one that leaves `params_after`, else `DEFAULT_RATES`. N:M
            sparsity has a rate of its own.
        masked_rates: that rate by method (`2:4`), where it is known and the shape of the model is not.
        params_after: deployment size: the most parameters that may be left.
        served_tokens: tokens the pruned model is expected to serve; None leaves serving out.
        sparse_speedup: how many times faster than dense the pruned N:M matrices run where the model is served; 1, as
            dense kernels multiply zeros too.
        serving_mfu: share of the GPU's peak that serving reaches; None takes that of training.
    """

    base: PlanSpec
    rates: tuple[float, ...] | None = None
    masked_rates: Mapping[str, float] = field(default_factory=dict)
    params_after: float | None = None
    served_tokens: float | None = None
    sparse_speedup: float = 1.0
    serving_mfu: float | None = None

    def __post_init__(self) -> None:
        where = "compare"
        if isinstance(self.rates, str):
            raise InputError(f"rates {self.rates!r}", where=where, hint="give numbers in a tuple: (0.15, 0.25)")
        counts, numbers = ("params_after", "served_tokens"), ("rates", "sparse_speedup", "serving_mfu")
        read_fields(self, counts=counts, numbers=numbers, where=where)
        if self.base.pruning_rate is not None:
            raise InputError("a single pruning rate", where=where, hint="give the rates to compare as a list")
        if self.base.sizes:
            raise InputError("a single shape", where=where, hint="each method has sizes of its own: give rates")
        if self.base.sets_rate and (self.rates is not None or self.params_after is not None):
            what = "rates" if self.rates is not None else "parameters to leave"
            hint = "each makes the rate: give one of them"
            raise InputError(f"{what} beside memory or parameters of a token", where=where, hint=hint)
        if self.rates is not None:
            object.__setattr__(self, "rates", tuple(dict.fromkeys(self.rates)))
            if not self.rates:
                raise InputError("no pruning rates", where=where, hint="give fractions such as 0.15,0.25,0.35")
        for rate in (*(self.rates or ()), *self.masked_rates.values()):
            check_rate(rate, where=where)
        if self.params_after is not None and not 1 <= self.params_after < self.base.size:
            raise InputError(
                f"{format_count(self.params_after)} parameters after pruning a model of {format_count(self.base.size)}",
                where=where,
                hint="give a positive count below the model's own",
            )
        if self.served_tokens is not None and not (math.isfinite(self.served_tokens) and self.served_tokens > 0):
            raise InputError(
                f"{self.served_tokens:g} served tokens", where=where, hint="give a positive count, e.g. 1T"
            )
        if not (math.isfinite(self.sparse_speedup) and self.sparse_speedup >= 1):
            raise InputError(f"a sparse speed-up of {self.sparse_speedup:g}", where=where, hint="1 is that of dense")
        if self.serving_mfu is not None:
            check_mfu(self.serving_mfu)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One row: a plan, and what serving adds. FLOPs per token, GPU-hours of `plan.gpu`, USD; None where not known.

    Without tokens to serve, serving is None and the total is the training's. `on_frontier`: no other row is as good in
    loss, parameters and total cost and better in one. `chosen`: the row to take under the comparison's rule.
    """

    plan: Plan
    inference_flops_per_token: float
    serving_gpu_hours: float | None
    serving_cost_usd: float | None
    total_gpu_hours: float | None
    total_cost_usd: float | None
    on_frontier: bool = False
    chosen: bool = False

    @property
    def name(self) -> str:
        """Method and rate, as sentences call the row."""
        return f"{self.plan.method} at {self.plan.pruning_rate:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """One flat object: how it ranks, then the keys of `Plan.to_dict`, `flops` and costs named by what they pay."""
        plain = self.plan.to_dict()
        shared = {name: plain.pop(name) for name in ("flops", "gpu_hours", "cost_usd")}
        return {
            **{name: plain.pop(name) for name in ("method", "form", "pruning_rate", "params_before", "params_after")},
            "on_frontier": self.on_frontier,
            "chosen": self.chosen,
            **{f"training_{name}": value for name, value in shared.items()},
            "inference_flops_per_token": self.inference_flops_per_token,
            "serving_gpu_hours": self.serving_gpu_hours,
            "serving_cost_usd": self.serving_cost_usd,
            "total_gpu_hours": self.total_gpu_hours,
            "total_cost_usd": self.total_cost_usd,
            **plain,
        }


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A method and rate that could not be planned, and why. `pruning_rate` is None where the method sets its own."""

    method: str
    pruning_rate: float | None
    why: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Candidates by rising loss (those without an answer last), the refused ones, and the rule of the choice.

    `fitted_rates` are those, from the least to the largest, that every law was fitted to; None where they share none.
    """

    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...]
    rule: str
    spec: CompareSpec
    family: str
    fitted_rates: tuple[float, float] | None = None

    @property
    def frontier(self) -> tuple[Candidate, ...]:
        """The candidates that no other beats, by rising loss."""
        return tuple(row for row in self.candidates if row.on_frontier)

    @property
    def chosen(self) -> Candidate | None:
        """The row to take under the rule; None where no criterion is met."""
        return next((row for row in self.candidates if row.chosen), None)

    def judgement(self) -> str:
        """The verdict on the row to take, in one line; where there is none, on the first."""
        return (self.chosen or self.candidates[0]).plan.judgement()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the object of `regrow plan --compare --json`."""
        chosen = self.chosen
        judged = (chosen or self.candidates[0]).plan
        base = self.spec.base
        return {
            "candidates": [row.to_dict() for row in self.candidates],
            "frontier": [row.to_dict() for row in self.frontier],
            "chosen": None if chosen is None else chosen.to_dict(),
            "verdict": judged.verdict,
            "verdict_because": judged.verdict_because,
            "next_run": judged.next_run,
            "rule": self.rule,
            "refused": [vars(refusal) for refusal in self.refused],
            "family": self.family,
            "params_before": base.size,
            "params_after": self.spec.params_after,
            "max_memory": None if base.memory is None else base.memory.limit,
            "target_active_params": base.active_params,
            "loss_before": base.loss_before,
            "criterion": base.criterion.name,
            "gpu": find_gpu(base.gpu).name,
            "mfu": base.mfu,
            "serving_mfu": self.spec.serving_mfu or base.mfu,
            "served_tokens": self.spec.served_tokens,
            "sparse_speedup": self.spec.sparse_speedup,
            "level": base.level,
        }

    def to_frame(self) -> pd.DataFrame:
        """A table with a row per candidate and the columns of `Candidate.to_dict`."""
        import pandas as pd

        return pd.DataFrame([row.to_dict() for row in self.candidates])

    def stopping(self) -> str:
        """On how many tokens the rows are trained, in one sentence."""
        criterion = self.spec.base.criterion
        if isinstance(criterion, Budget):
            return "Each row spends the whole budget."
        return f"Each row is trained to a D* of its own, by the criterion {criterion.name}, so the costs differ."

    def sentence(self) -> str:
        """The choice in one line, with its rule."""
        model = f"{self.family} of {format_count(self.spec.base.size)}"
        best = self.chosen
        if best is None or best.plan.tokens is None or best.plan.loss is None:
            if all(row.plan.tokens_reason for row in self.candidates):
                return f"{model}: the runs support an answer for none of the candidates."
            return f"{model}: no candidate meets the criterion {self.spec.base.criterion.name}."
        answer = (
            f"{model}: take {best.name} ({format_count(best.plan.params_after)} parameters), "
            f"{format_count(best.plan.tokens)} tokens to a loss of {best.plan.loss:.3f} nats"
        )
        if best.total_gpu_hours is not None:
            answer += f", {say_gpu_time(best.total_gpu_hours)} ({best.plan.gpu}) {self._paid()}"
        if best.total_cost_usd is not None:
            answer += f", {say_usd(best.total_cost_usd)}"
        answer += f". Rule: {self.rule}."
        near = [row.name for row in self.candidates if row is not best and _overlap(row.plan, best.plan)]
        if near:
            answer += f" Its loss interval overlaps that of {', '.join(near)}."
        return answer

    def _paid(self) -> str:
        served = self.spec.served_tokens
        return "to train" if served is None else f"to train and to serve {format_count(served)} tokens"


def compare(laws: Iterable[Law], spec: CompareSpec) -> Comparison:
    """Plan every law at every rate, and mark the frontier and the choice.

    What can't be planned (a failed law, a rate no shape reaches, a target under a floor, a size above the one asked
    for) is among the `refused`, with the reason.

    Raises `InputError` for laws of several families, fewer than two candidates, or none that can be planned.
    """
    laws = list(laws)
    families = sorted({law.family for law in laws})
    if len(families) != 1:
        hint = f"choose one of: {', '.join(families)}" if families else "fit one first"
        raise InputError(f"laws of {len(families)} families", where="compare", hint=hint)
    asked = [(law, rate) for law in laws for rate in _rates(law, spec)]
    if len(asked) < 2:
        raise InputError(
            "one candidate: there is nothing to compare",
            where="compare",
            hint="give several rates, or a law file of several methods; without --compare one is planned",
        )
    rows: list[Candidate] = []
    refused: list[Refusal] = []
    for law, rate in asked:
        try:
            row = _candidate(law, rate, spec)
        except InputError as error:
            refused.append(Refusal(method=law.method, pruning_rate=rate, why=str(error)))
            continue
        # two rates may come down to the same whole blocks
        if all(_identity(other.plan) != _identity(row.plan) for other in rows):
            rows.append(row)
    if not rows:
        raise InputError(f"no candidate can be planned: {refused[0].method}: {refused[0].why}", where="compare")
    rows = _marked(rows)
    rule = f"the least loss; of the rows within {SAME_LOSS:g} nats of it the least total cost"
    return Comparison(
        candidates=tuple(rows), refused=tuple(refused), rule=rule, spec=spec, family=families[0],
        fitted_rates=_shared_rates(laws),
    )  # fmt: skip


def _shared_rates(laws: Sequence[Law]) -> tuple[float, float] | None:
    """The rates that every law was fitted to; N:M sparsity, whose rate is its own, does not count."""
    ends = [law.ranges["pruning_rate"] for law in laws if not is_masked(law.method)]
    low, high = max((one for one, _ in ends), default=1.0), min((other for _, other in ends), default=0.0)
    return (low, high) if low < high else None


def non_dominated(points: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Which rows of points [n, k] no other row is at or under everywhere and under somewhere, [n] of bool.

    Less is better in every column. Equal rows don't exclude each other; a row with a NaN is never on the frontier and
    excludes none.
    """
    values = np.asarray(points, dtype=float)
    if not values.size:
        return np.zeros(len(values), dtype=bool)
    known = ~np.isnan(values).any(axis=1)
    # [i, j]: row j beats row i
    beats = (values[None] <= values[:, None]).all(axis=2) & (values[None] < values[:, None]).any(axis=2)
    return known & ~(beats & known[None]).any(axis=1)


def _rates(law: Law, spec: CompareSpec) -> Sequence[float | None]:
    if spec.base.sets_rate:
        return (None,)
    if is_masked(law.method):
        return (spec.masked_rates.get(law.method),)
    if spec.rates is not None:
        return spec.rates
    return DEFAULT_RATES if spec.params_after is None else (1.0 - spec.params_after / spec.base.size,)


def _candidate(law: Law, rate: float | None, spec: CompareSpec) -> Candidate:
    base = spec.base
    answer = plan(law, replace(base, pruning_rate=rate))
    # a rate worked out from the size is as near as whole blocks get; one that was given must fit
    given = spec.rates is not None or is_masked(law.method)
    if spec.params_after is not None and given and answer.params_after > spec.params_after * (1 + SIZE_SLACK):
        raise InputError(f"leaves {format_count(answer.params_after)}, above {format_count(spec.params_after)}")
    pattern = parse_pattern(law.method)
    if pattern is not None and spec.sparse_speedup > pattern[1] / pattern[0]:
        raise InputError(
            f"a sparse speed-up of {spec.sparse_speedup:g}",
            hint=f"{law.method} saves {pattern[1] / pattern[0]:g} at most",
        )
    model = pruned_model(
        method=law.method,
        pruning_rate=answer.pruning_rate if rate is None else rate,
        params_before=base.size,
        architecture=base.shape,
        memory=base.memory,
        active_params=base.least_active,
    )
    per_token = model.inference_flops(base.context, sparse_speedup=spec.sparse_speedup)
    gpu, serving = find_gpu(base.gpu), None
    if spec.served_tokens is not None:
        serving = gpu_hours(per_token * spec.served_tokens, gpu=gpu, mfu=spec.serving_mfu or base.mfu)
    total = None if answer.gpu_hours is None else answer.gpu_hours + (serving or 0.0)
    price = base.price_usd_per_hour
    return Candidate(
        plan=answer,
        inference_flops_per_token=per_token,
        serving_gpu_hours=serving,
        serving_cost_usd=cost_usd(serving, price_usd_per_hour=price),
        total_gpu_hours=total,
        total_cost_usd=cost_usd(total, price_usd_per_hour=price),
    )


def _identity(answer: Plan) -> tuple[str, str, float]:
    return answer.method, answer.form, answer.pruning_rate


def _merits(row: Candidate) -> tuple[float, float, float]:
    """Loss, total cost, parameters left: less is better. NaN where there is no answer."""
    # money is hours times one price: hours order the rows as well, and are there without a price
    # a row whose tokens the runs don't support is never chosen
    supported = row.plan.tokens_reason is None
    loss, hours = (math.nan if v is None or not supported else v for v in (row.plan.loss, row.total_gpu_hours))
    # rounded, as rows that spend one budget or reach one target differ by rounding only
    return float(f"{loss:.9g}"), float(f"{hours:.9g}"), row.plan.params_after


def _marked(rows: Sequence[Candidate]) -> list[Candidate]:
    """The rows by rising loss, the frontier and the choice marked."""
    ranked = sorted(rows, key=lambda row: tuple(math.inf if math.isnan(v) else v for v in _merits(row)))
    merits = np.array([_merits(row) for row in ranked])
    on_frontier = non_dominated(merits)
    best = None
    if on_frontier.any():
        near = np.flatnonzero(on_frontier & (merits[:, 0] <= np.nanmin(merits[:, 0]) + SAME_LOSS))
        best = min(near.tolist(), key=lambda i: (merits[i, 1], merits[i, 2]))
    return [replace(row, on_frontier=bool(on_frontier[i]), chosen=i == best) for i, row in enumerate(ranked)]


def _overlap(one: Plan, other: Plan) -> bool:
    ends = (one.loss_low, one.loss_high, other.loss_low, other.loss_high)
    if any(end is None for end in ends):
        return False
    low, high, other_low, other_high = ends
    return low <= other_high and other_low <= high  # type: ignore[operator]
