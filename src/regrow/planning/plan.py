"""The answer: how many tokens to post-train a pruned model, what loss to expect, what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.law import CONTROL_BASELINE
from regrow.laws.setting import Setting
from regrow.methods import is_masked
from regrow.planning.cost import (
    DEFAULT_MFU,
    PrunedModel,
    check_mfu,
    cost_usd,
    find_gpu,
    gpu_hours,
    pruned_model,
    say_gpu_time,
    say_usd,
    teacher_size,
)
from regrow.planning.criteria import Budget, Criterion, Gain, Recovery
from regrow.planning.curves import Curves
from regrow.planning.measuring import worth_measuring
from regrow.planning.solve import FEWEST, MOST, optimal_tokens
from regrow.units import check_context, check_level, check_rate, format_count, format_factor

if TYPE_CHECKING:
    from regrow.arch import Architecture
    from regrow.laws.law import Law

#: A plan may stand this far, as a ratio, outside an input of which the fitted runs show one value only.
_UNSUPPORTED_BEYOND = 1.1
#: How far a rate given for N:M sparsity may lie from the one that the pattern makes of a known shape.
_RATE_SLACK = 0.005
#: Kinds of models that a family's name may tell.
_KINDS = ("llama", "mistral", "qwen")


@dataclass(frozen=True, kw_only=True)
class PlanSpec:
    """What to plan for.

    Attributes:
        params_before: parameters before pruning; or give `architecture`, whose exact FLOPs are then used.
        architecture: the shape of the model before pruning. Depth, width and N:M pruning are then planned as
            a study does them: at the rate that whole blocks, or channels in the rule's proportions, reach.
        pruning_rate: fraction of the parameters removed; may be None for N:M sparsity.
        loss_before: held-out loss of the unpruned model, nats/token, on the evaluation data of the law's runs.
        loss_pruned: held-out loss right after pruning, nats/token; for laws that read it.
        others: values of other columns that the law's form reads, by name.
        criterion: when to stop.
        gpu: name in the GPU table.
        mfu: share of the GPU's peak that training reaches.
        mfu_how: where that share comes from, in words; None for the default or a user's own figure.
        teacher: the shape or the parameters of a model to distil from, whose forward pass is counted; None without.
        price_usd_per_hour: price of a GPU-hour; without it there is no cost.
        context: tokens per training sequence, for the FLOPs of attention.
        level: coverage of the intervals.
    """

    loss_before: float
    params_before: float | None = None
    architecture: Architecture | None = None
    pruning_rate: float | None = None
    loss_pruned: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    criterion: Criterion | Budget = field(default_factory=Gain)
    gpu: str = "h100"
    mfu: float = DEFAULT_MFU
    mfu_how: str | None = None
    teacher: Architecture | float | None = None
    price_usd_per_hour: float | None = None
    context: int = 4096
    level: float = 0.9

    def __post_init__(self) -> None:
        if (self.params_before is None) == (self.architecture is None):
            raise InputError("a plan needs one model", hint="give either its parameters or its architecture")
        if not (np.isfinite(self.size) and self.size >= 1):
            raise InputError(f"{self.size:g} parameters before pruning", hint="give a positive count, e.g. 8B")
        if self.pruning_rate is not None:
            check_rate(self.pruning_rate)
        if not (np.isfinite(self.loss_before) and self.loss_before > 0):
            raise InputError(f"a loss before pruning of {self.loss_before:g}", hint="give nats per token")
        if self.loss_pruned is not None and not (np.isfinite(self.loss_pruned) and self.loss_pruned > 0):
            raise InputError(f"a loss right after pruning of {self.loss_pruned:g}", hint="give nats per token")
        check_level(self.level, where="plan")
        check_context(self.context, where="plan")
        if self.teacher is not None:
            teacher_size(self.teacher)
        check_mfu(self.mfu)
        find_gpu(self.gpu)
        cost_usd(None, price_usd_per_hour=self.price_usd_per_hour)
        if isinstance(self.criterion, Budget) and self.criterion.usd is not None and not self.price_usd_per_hour:
            raise InputError("a budget in USD needs the price of a GPU-hour", hint="give a price above 0")

    @property
    def size(self) -> float:
        """Parameters before pruning."""
        return float(self.architecture.params if self.architecture is not None else self.params_before or 0.0)

    def setting(self, pruning_rate: float) -> Setting:
        """Where a law is read, at the rate that pruning reaches; without tokens."""
        pruned = self.loss_pruned
        if pruned is None and isinstance(self.criterion, Recovery):
            pruned = self.criterion.loss_pruned
        return Setting(
            params_before=self.size,
            pruning_rate=pruning_rate,
            loss_before=self.loss_before,
            loss_pruned=pruned,
            **self.others,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A planned post-training run. Tokens in tokens, losses in nats/token; what is not known is None.

    `tokens_low` to `tokens_high` and `loss_low` to `loss_high` are intervals of coverage `level`: of D* over the law's
    bootstrap draws, and of the loss a run would measure at `tokens`. A budget fixes the tokens, so there the loss alone
    has an interval. `next_doubling_gain` is what twice the tokens would buy (nats), `floor` the loss the law
    approaches. `params_after` and `pruning_rate` are those reached, of whole blocks or channels where the shape is
    known. `loss_pruned` and `others` are what else it was asked with. `extrapolates` maps an input outside the
    fitted data to the factor, above 1, by which it is.
    """

    tokens: float | None
    tokens_low: float | None
    tokens_high: float | None
    criterion: str
    because: str
    loss: float | None
    loss_low: float | None
    loss_high: float | None
    next_doubling_gain: float | None
    floor: float | None
    flops: float | None
    flops_how: str
    gpu_hours: float | None
    cost_usd: float | None
    gpu: str
    mfu: float
    mfu_how: str
    level: float
    params_before: float
    params_after: float
    pruning_rate: float
    loss_before: float
    family: str
    method: str
    form: str
    baseline: str
    extrapolates: Mapping[str, float]
    warnings: tuple[str, ...]
    loss_pruned: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the keys of `regrow plan --json`, and some more."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        lists = {"extrapolates": dict(self.extrapolates), "others": dict(self.others), "warnings": list(self.warnings)}
        return {**plain, **lists}

    def __str__(self) -> str:
        """The answer, and below it what to beware of."""
        return "\n".join([self.sentence(), *(f"  ! {warning}" for warning in self.warnings)])

    def sentence(self) -> str:
        """The answer in one line."""
        model = f"{self.family} of {format_count(self.params_before)}, {self.method} pruned at {self.pruning_rate:.3g}"
        if self.tokens is None:
            return f"{model}: no number of tokens up to {MOST:.0e} is enough that {self.because}."
        if self.criterion == Budget.name:
            interval = ""
        elif self.tokens_low is None:
            interval = " (no interval)"
        elif self.tokens_high is None:
            interval = f" ({format_count(self.tokens_low)} or more, {self.level:.0%})"
        else:
            interval = f" ({format_count(self.tokens_low)} to {format_count(self.tokens_high)}, {self.level:.0%})"
        answer = (
            f"{model}: stop at {format_count(self.tokens)} tokens{interval} by the criterion {self.criterion}, "
            f"because from there {self.because}."
        )
        if self.loss is not None:
            bounds = f" ({self.loss_low:.3f} to {self.loss_high:.3f})" if self.loss_low and self.loss_high else ""
            answer += f" Expected loss {self.loss:.3f}{bounds} nats"
            if self.gpu_hours is not None:
                answer += f", {say_gpu_time(self.gpu_hours)} ({self.gpu}, MFU {self.mfu:.3g} {self.mfu_how})"
            answer += f", {say_usd(self.cost_usd)}." if self.cost_usd is not None else "."
            if self.criterion != Gain.name and self.next_doubling_gain is not None:
                answer += f" The next doubling of the tokens would buy {self.next_doubling_gain:.2g} nats."
        return answer


def plan(law: Law, spec: PlanSpec) -> Plan:
    """Plan the post-training of one pruned model with a fitted law.

    Raises `InputError` for a law whose fit failed, a rate that is missing or that no shape reaches, a target under the
    law's floor, a budget of less than a token, and a setting of which the law's runs say nothing.
    """
    if law.status == "failed":
        raise InputError(
            f"the law of {law.family}, {law.method} failed to fit ({'; '.join(law.warnings) or 'no reason given'})",
            hint="add runs or choose another form before planning with it",
        )
    model, notes = _model(law, spec)
    warnings = [*_about(law), *notes]
    setting = spec.setting(model.pruning_rate)
    _refuse_unsupported(law, setting)
    curves = Curves(law, setting)
    per_token = model.training_flops(spec.context, spec.teacher)
    gpu = find_gpu(spec.gpu)
    tokens, low, high, notes = _answer(spec, curves, per_token.per_token)
    warnings += notes
    # where no number of tokens will do, only the other inputs can lie outside the data
    reached = setting.at(law.ranges["tokens"][0] if tokens is None else tokens)
    extrapolates = law.extrapolates(reached)
    warnings += _beyond(law, reached, extrapolates)
    if tokens is not None:
        warnings[:0] = worth_measuring(law, setting, tokens, spec.level)
    at = _at(law, curves, tokens, spec.level)
    flops = None if tokens is None else tokens * per_token.per_token
    hours = None if flops is None else gpu_hours(flops, gpu=gpu, mfu=spec.mfu)
    floor = float(curves.point().floor()[0, 0])
    return Plan(
        tokens=tokens,
        tokens_low=low,
        tokens_high=high,
        criterion=spec.criterion.name,
        because=spec.criterion.describe(curves),
        **at,
        floor=floor if np.isfinite(floor) else None,
        flops=flops,
        flops_how=per_token.how,
        gpu_hours=hours,
        cost_usd=cost_usd(hours, price_usd_per_hour=spec.price_usd_per_hour),
        gpu=gpu.name,
        mfu=spec.mfu,
        mfu_how=spec.mfu_how or ("assumed" if spec.mfu == DEFAULT_MFU else "given"),
        level=spec.level,
        params_before=model.params_before,
        params_after=model.params_after,
        pruning_rate=model.pruning_rate,
        loss_before=spec.loss_before,
        loss_pruned=spec.loss_pruned,
        others=spec.others,
        family=law.family,
        method=law.method,
        form=law.form,
        baseline=law.baseline,
        extrapolates=extrapolates,
        warnings=tuple(warnings),
    )


def _model(law: Law, spec: PlanSpec) -> tuple[PrunedModel, list[str]]:
    """The model that pruning leaves, and what has to be said about its rate."""
    rate, notes = spec.pruning_rate, _says_other_family(law, spec)
    if rate is None and spec.architecture is None and is_masked(law.method):
        low, high = law.ranges["pruning_rate"]
        rate = 0.5 * (low + high)
        notes.append(
            f"the rate of {law.method} sparsity depends on the model's shape, which is not known: {rate:.3g} is "
            f"assumed, the middle of the fitted {low:.3g} to {high:.3g}"
        )
    model = pruned_model(
        method=law.method, pruning_rate=rate, params_before=spec.params_before, architecture=spec.architecture
    )
    if rate is not None and is_masked(law.method) and abs(model.pruning_rate - rate) > _RATE_SLACK:
        raise InputError(
            f"pruning rate {rate:g}",
            where=law.method,
            hint=f"the pattern removes {model.pruning_rate:.3g} of this model: leave the rate out",
        )
    return model, notes


def _says_other_family(law: Law, spec: PlanSpec) -> list[str]:
    """A warning where the law's family names one kind of model and the architecture is of another."""
    named = [kind for kind in _KINDS if kind in law.family.lower()]
    if spec.architecture is None or not named or any(kind in spec.architecture.model_type for kind in named):
        return []
    kind = spec.architecture.model_type
    return [f"the law is of the family {law.family}, the model a {kind}: a law holds within its family"]


def _refuse_unsupported(law: Law, setting: Setting) -> None:
    """Raise `InputError` where the setting leaves the one value of an input that the law's runs show."""
    beyond = law.extrapolates(setting)
    for column in law.formula.columns:
        name = column.name
        if name in law.unsupported and beyond.get(name, 1.0) > _UNSUPPORTED_BEYOND:
            wanted, fitted = column.say(float(setting[name])), column.say(law.ranges[name][1])
            raise InputError(
                f"the law can't say what happens at a {column.spoken} of {wanted}: {law.unsupported[name]}",
                where=f"{law.family}, {law.method}",
                hint=f"a run at another {column.spoken} than {fitted}, best between it and {wanted}, would support it",
            )


def _answer(
    spec: PlanSpec, curves: Curves, flops_per_token: float
) -> tuple[float | None, float | None, float | None, list[str]]:
    """The tokens to train on, their interval, and what has to be said about them; a budget fixes the tokens."""
    if isinstance(spec.criterion, Budget):
        paid = _paid_tokens(spec, spec.criterion, flops_per_token)
        return paid, paid, paid, []
    return _solve(spec.criterion, curves, spec.level)


def _solve(
    criterion: Criterion, curves: Curves, level: float
) -> tuple[float | None, float | None, float | None, list[str]]:
    """D*, its interval, and what has to be said about them."""
    notes = []
    found = optimal_tokens(criterion, curves)
    tokens, draws = found[0], found[1:]
    if tokens == np.inf:
        notes.append(f"the criterion is not met up to {MOST:.0e} tokens: there is no optimal number of tokens to give")
    if tokens == FEWEST:
        notes.append("the criterion is met from the first token on: by it, no post-training is needed")
    if not draws.size:
        return _known(tokens), None, None, [*notes, "the law has no bootstrap draws: there is no interval"]
    never = float(np.mean(draws == np.inf))
    if never:
        notes.append(f"in {never:.0%} of the law's draws the criterion is never met")
    # order statistics, not interpolation: a draw may be infinite
    ordered = np.sort(draws)
    low, high = (ordered[max(math.ceil(share * len(draws)) - 1, 0)] for share in ((1 - level) / 2, (1 + level) / 2))
    return _known(tokens), _known(low), _known(high), notes


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _at(law: Law, curves: Curves, tokens: float | None, level: float) -> dict[str, float | None]:
    """The loss expected at `tokens`, its interval, and what twice as many would buy."""
    if tokens is None:
        return {"loss": None, "loss_low": None, "loss_high": None, "next_doubling_gain": None}
    once, twice = curves.point().loss(np.array([tokens, 2 * tokens]))[0]
    low = high = np.nan
    if len(law.draws):
        low, high = map(float, law.interval(curves.setting.at(tokens), level=level))
    return {
        "loss": float(once),
        "loss_low": _known(low),
        "loss_high": _known(high),
        "next_doubling_gain": float(once - twice),
    }


def _beyond(law: Law, x: Setting, factors: Mapping[str, float]) -> list[str]:
    """In words, which columns of a single setting lie outside the fitted ranges, and by what factor."""
    notes = []
    for column in law.formula.columns:
        if column.name in factors:
            low, high = law.ranges[column.name]
            side, edge = ("above the largest", high) if x[column.name] > high else ("below the smallest", low)
            times = format_factor(factors[column.name])
            notes.append(f"extrapolates: the {column.spoken} is {times} times {side} fitted, {format_count(edge)}")
    return notes


def _about(law: Law) -> list[str]:
    """What every plan with this law has to say."""
    notes = [] if law.status == "ok" else [f"the law's fit is {law.status}, so take its numbers with care"]
    notes += [f"the law: {warning}" for warning in law.warnings]
    return [*notes, *([CONTROL_BASELINE] if law.baseline == "control" else [])]


def _paid_tokens(spec: PlanSpec, budget: Budget, flops_per_token: float) -> float:
    """The tokens that a budget pays for. Raises `InputError` for less than one."""
    hours = budget.gpu_hours
    if hours is None:
        hours = (budget.usd or 0.0) / (spec.price_usd_per_hour or np.nan)
    paid = hours * 3600.0 * find_gpu(spec.gpu).peak_flops * spec.mfu / flops_per_token
    if paid < FEWEST:
        raise InputError("the budget pays for less than one token", where="criterion", hint="give more")
    return paid
