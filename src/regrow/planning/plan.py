"""The answer: how many tokens to post-train a pruned model, what loss to expect, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.setting import Setting
from regrow.methods import is_masked
from regrow.planning.answering import as_supported, known, tokens_of
from regrow.planning.cost import (
    DEFAULT_MFU,
    Gpu,
    PrunedModel,
    TrainingFlops,
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
from regrow.planning.notes import about, beyond, other_family, ranked
from regrow.planning.solve import MOST
from regrow.planning.verdict import CANNOT_SAY, next_run, verdict
from regrow.units import check_context, check_level, check_rate, format_count

if TYPE_CHECKING:
    from regrow.arch import Architecture
    from regrow.laws.law import Law

#: A plan may stand this far, as a ratio, outside an input of which the fitted runs show one value only.
_UNSUPPORTED_BEYOND = 1.1
#: How far a rate given for N:M sparsity may lie from the one that the pattern makes of a known shape.
_RATE_SLACK = 0.005


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
    known. Where the law's runs support no number (`regrow.planning.support`), `tokens` is None, `tokens_reason` says
    why ("less than ..."), and an end of the interval that they don't support is None as well. `verdict` is `trust`,
    `rough` or `cannot say` (`regrow.planning.verdict`) with its reason, and `next_run` the run to make where it can't
    say. `warnings` come by their weight for this answer. `loss_pruned` and `others` are what else it was asked with.
    `extrapolates` maps an input outside the fitted data to the factor, above 1, by which it is.
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
    verdict: str = CANNOT_SAY
    verdict_because: str = ""
    next_run: str | None = None
    tokens_reason: str | None = None
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

    def judgement(self) -> str:
        """The verdict in one line, with the run to make where the law cannot say."""
        more = f". Next: {self.next_run}" if self.next_run else ""
        return f"{self.verdict}: {self.verdict_because}{more}."

    def interval(self) -> str:
        """The interval of D* in words; an end that the runs don't support is open."""
        low, high = self.tokens_low, self.tokens_high
        if low is None and high is None:
            return "no interval"
        if low is None:
            return f"up to {format_count(high or 0.0)}, {self.level:.0%}"
        if high is None:
            return f"{format_count(low)} or more, {self.level:.0%}"
        return f"{format_count(low)} to {format_count(high)}, {self.level:.0%}"

    def sentence(self) -> str:
        """The answer in one line."""
        model = f"{self.family} of {format_count(self.params_before)}, {self.method} pruned at {self.pruning_rate:.3g}"
        if self.tokens is None:
            why = self.tokens_reason or f"no number of tokens up to {MOST:.0e} is enough that {self.because}"
            return f"{model}: {why}."
        if self.tokens_reason is not None:
            return (
                f"{model}: no loss is given for the {format_count(self.tokens)} tokens paid for: {self.tokens_reason}."
            )
        interval = "" if self.criterion == Budget.name else f" ({self.interval()})"
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
    _refuse_failed(law)
    model, notes = _model(law, spec)
    warnings = [*about(law), *notes]
    setting = spec.setting(model.pruning_rate)
    _refuse_unsupported(law, setting)
    curves = Curves(law, setting)
    per_token = model.training_flops(spec.context, spec.teacher)
    gpu = find_gpu(spec.gpu)
    raw = tokens_of(
        spec.criterion, curves, level=spec.level, price=spec.price_usd_per_hour,
        tokens_per_hour=3600.0 * gpu.peak_flops * spec.mfu / per_token.per_token,
    )  # fmt: skip
    # where no number of tokens will do, only the other inputs can lie outside the data
    reached = setting.at(law.ranges["tokens"][0] if raw.tokens is None else raw.tokens)
    extrapolates = law.extrapolates(reached)
    answer = as_supported(law, raw, extrapolates, fixed=isinstance(spec.criterion, Budget))
    tokens = answer.tokens
    if tokens is None:
        reached = setting.at(law.ranges["tokens"][0])
        extrapolates = law.extrapolates(reached)
    warnings += [*answer.notes, *beyond(law, reached, extrapolates)]
    warnings += [] if tokens is None else worth_measuring(law, setting, tokens, spec.level)
    word, why = verdict(
        law, answered=not answer.reason and raw.tokens is not None, width=raw.width, extrapolates=extrapolates,
        why_not=answer.reason or "the criterion is never met",
    )  # fmt: skip
    missing = None
    if word == CANNOT_SAY:
        of = {"params_before": model.params_before, "pruning_rate": model.pruning_rate}
        missing = next_run(law, **of, tokens=None if answer.too_far else raw.tokens, gpu=gpu, mfu=spec.mfu)
    at: dict[str, Any] = _at(law, curves, None if answer.reason else tokens, spec.level)
    floor = float(curves.point().floor()[0, 0])
    return Plan(
        tokens=tokens,
        tokens_low=answer.low,
        tokens_high=answer.high,
        tokens_reason=answer.reason or None,
        verdict=word,
        verdict_because=why,
        next_run=missing,
        criterion=spec.criterion.name,
        because=spec.criterion.describe(curves),
        **at,
        floor=floor if np.isfinite(floor) else None,
        **_costs(spec, tokens, per_token, gpu),
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
        warnings=ranked(warnings),
    )


def _refuse_failed(law: Law) -> None:
    """Raise `InputError` for a law whose fit failed."""
    if law.status == "failed":
        raise InputError(
            f"the law of {law.family}, {law.method} failed to fit ({'; '.join(law.warnings) or 'no reason given'})",
            hint="add runs or choose another form before planning with it",
        )


def _costs(spec: PlanSpec, tokens: float | None, per_token: TrainingFlops, gpu: Gpu) -> dict[str, Any]:
    """What training on `tokens` takes, and how that was counted: fields of the plan."""
    flops = None if tokens is None else tokens * per_token.per_token
    hours = None if flops is None else gpu_hours(flops, gpu=gpu, mfu=spec.mfu)
    return {
        "flops": flops,
        "flops_how": per_token.how,
        "gpu_hours": hours,
        "cost_usd": cost_usd(hours, price_usd_per_hour=spec.price_usd_per_hour),
        "gpu": gpu.name,
        "mfu": spec.mfu,
        "mfu_how": spec.mfu_how or ("assumed" if spec.mfu == DEFAULT_MFU else "given"),
    }


def _model(law: Law, spec: PlanSpec) -> tuple[PrunedModel, list[str]]:
    """The model that pruning leaves, and what has to be said about its rate."""
    rate, notes = spec.pruning_rate, other_family(law, spec.architecture)
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
        "loss_low": known(low),
        "loss_high": known(high),
        "next_doubling_gain": float(once - twice),
    }
