"""The answer: how many tokens to post-train a pruned model, what loss to expect, what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.laws.pooled.unseen import methods_of
from regrow.laws.setting import Setting
from regrow.methods import DEPTH_AND_WIDTH, is_masked
from regrow.planning.answer import Plan
from regrow.planning.answering import Answer, as_supported, known, tokens_of
from regrow.planning.cost import (
    DEFAULT_MFU,
    Gpu,
    PrunedModel,
    TrainingFlops,
    cost_usd,
    find_gpu,
    gpu_hours,
    pruned_model,
)
from regrow.planning.criteria import Budget, options_of
from regrow.planning.curves import Curves
from regrow.planning.measuring import expected_start, worth_measuring
from regrow.planning.notes import about, beyond, no_gap, other_family, ranked
from regrow.planning.plan_spec import PlanSpec
from regrow.planning.recipe import about_recipe, in_recipe
from regrow.planning.removal import check_pattern_rate, shapes_beside, what_goes
from regrow.planning.score_plan import in_errors, score_answer
from regrow.planning.unseen import about_method, check_start
from regrow.planning.verdict import CANNOT_SAY, next_run, verdict

#: A plan may stand this far, as a ratio, outside an input of which the fitted runs show one value only.
_UNSUPPORTED_BEYOND = 1.1


def plan(law: Law, spec: PlanSpec) -> Plan:
    """Plan the post-training of one pruned model with a fitted law.

    Raises `InputError` for a law whose fit failed, a rate that is missing or that no shape reaches, a target under the
    law's floor, a budget of less than a token, and a setting of which the law's runs say nothing.
    """
    _check_law(law)
    spec = in_errors(law, spec)
    recipe_notes, law = about_recipe(law, spec.others, spec.level), in_recipe(law, spec.others)
    model, notes = _model(law, spec)
    warnings = [*about(law), *notes, *no_gap(spec.known_loss_before, spec.loss_pruned, score=law.benchmark is not None)]
    setting = spec.setting(model.pruning_rate)
    _refuse_unsupported(law, setting)
    check_start(law, setting)
    curves = Curves(law, setting)
    per_token = model.training_flops(spec.context, spec.taught_by)
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
    warnings += [*answer.notes, *beyond(law, reached, extrapolates), *recipe_notes]
    warnings += worth_measuring(law, setting, tokens, spec.level)
    warnings += about_method(law, setting, tokens, spec.level)
    word, why = verdict(
        law, answered=not answer.reason and raw.tokens is not None, width=raw.width, extrapolates=extrapolates,
        why_not=answer.reason or "the criterion is never met",
    )  # fmt: skip
    missing = None if word != CANNOT_SAY else _next_run(law, model, spec, None if answer.too_far else raw.tokens)
    losses = _losses(law, curves, spec, None if answer.reason else tokens, far=answer.too_far)
    return Plan(
        **_tokens(answer),
        verdict=word,
        verdict_because=why,
        next_run=missing,
        **_stopping(spec, curves),
        **losses,
        scored=score_answer(law, spec, losses),
        **_costs(spec, tokens, per_token, gpu),
        level=spec.level,
        **_removed(spec, model),
        others=spec.others,
        family=law.family,
        method=law.method,
        form=law.form,
        baseline=law.baseline,
        extrapolates=extrapolates,
        warnings=ranked(warnings),
    )


def _stopping(spec: PlanSpec, curves: Curves) -> dict[str, Any]:
    """When to stop, and why: fields of the plan."""
    return {
        "criterion": spec.criterion.name,
        "criterion_options": options_of(spec.criterion),
        "because": spec.criterion.describe(curves),
    }


def _tokens(answer: Answer) -> dict[str, Any]:
    """D*, its interval, why there is none, and what the runs support: fields of the plan."""
    return {
        "tokens": answer.tokens,
        "tokens_low": answer.low,
        "tokens_high": answer.high,
        "tokens_reason": answer.reason or None,
        "tokens_supported": answer.supported,
    }


def _removed(spec: PlanSpec, model: PrunedModel) -> dict[str, Any]:
    """Which model is pruned, what goes and what is left: fields of the plan."""
    return {
        "model": spec.model,
        "params_before": model.params_before,
        "params_after": model.params_after,
        "pruning_rate": model.pruning_rate,
        "removed": what_goes(model),
        "beside": shapes_beside(model, spec.pruning_rate),
        "memory": _memory(spec, model),
        **_active(spec, model),
    }


def _losses(law: Law, curves: Curves, spec: PlanSpec, tokens: float | None, *, far: bool) -> dict[str, Any]:
    """The losses before and right after pruning, given or expected by the law, and at `tokens`: fields of the plan.

    A model too far outside the runs has no expected loss right after pruning, and no floor, either.
    """
    setting = curves.setting
    start = None if far else expected_start(law, setting)
    floor = np.nan if far else float(curves.point().floor()[0, 0])
    return {
        **_at(law, curves, tokens, spec.level),
        "floor": floor if np.isfinite(floor) else None,
        "loss_before": spec.known_loss_before,
        "loss_pruned": spec.loss_pruned,
        "loss_start": setting.point().get("loss_pruned", start),
        "loss_start_guessed": "loss_pruned" not in setting and start is not None,
    }


def _memory(spec: PlanSpec, model: PrunedModel) -> dict[str, Any] | None:
    """What the pruned model takes where it is served, bytes: a field of the plan; None where nobody asked."""
    if spec.memory is None or model.after is None:
        return None
    taken = spec.memory.footprint(model.after)
    return {**spec.memory.to_dict(), **taken._asdict(), "total": taken.total}


def _active(spec: PlanSpec, model: PrunedModel) -> dict[str, Any]:
    """Of a mixture of experts, the parameters that a token is computed with: fields of the plan."""
    if model.before is None or not model.before.experts:
        return {}
    return {
        "active_params_before": model.before.active_params,
        "active_params_after": None if model.after is None else model.after.active_params,
        "target_active_params": spec.active_params,
    }


def _next_run(law: Law, model: PrunedModel, spec: PlanSpec, tokens: float | None) -> str:
    """The run that would support an answer for this model."""
    of = {"params_before": model.params_before, "pruning_rate": model.pruning_rate}
    return next_run(law, **of, tokens=tokens, gpu=find_gpu(spec.gpu), mfu=spec.mfu)


def _check_law(law: Law) -> None:
    """Raise `InputError` for what is not one law, and for a law whose fit failed."""
    if not isinstance(law, Law):
        hint = "give one law: regrow.select_law(regrow.load_laws(path), method=...)"
        raise InputError(f"{type(law).__name__} in the place of a law", where="plan", hint=hint)
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
        "context": spec.context,
        "flops_per_token": per_token.per_token,
        "teacher_flops": per_token.teacher,
        "gpu_hours": hours,
        "cost_usd": cost_usd(hours, price_usd_per_hour=spec.price_usd_per_hour),
        "price_usd_per_hour": spec.price_usd_per_hour,
        "gpu": gpu.name,
        "mfu": spec.mfu,
        "mfu_how": spec.mfu_how or ("assumed" if spec.mfu == DEFAULT_MFU else "given"),
    }


def _model(law: Law, spec: PlanSpec) -> tuple[PrunedModel, list[str]]:
    """The model that pruning leaves, and what has to be said about its rate."""
    rate, notes = spec.pruning_rate, other_family(law, spec.shape)
    if rate is None and spec.shape is None and is_masked(law.method) and not methods_of(law):
        low, high = law.ranges["pruning_rate"]
        rate = 0.5 * (low + high)
        notes.append(
            f"the rate of {law.method} sparsity depends on the model's shape, which is not known: {rate:.3g} is "
            f"assumed, the middle of the fitted {low:.3g} to {high:.3g}"
        )
    model = pruned_model(
        method=law.method, pruning_rate=rate, params_before=spec.size, architecture=spec.shape, sizes=spec.sizes,
        memory=spec.memory, active_params=spec.least_active,
    )  # fmt: skip
    if law.method == DEPTH_AND_WIDTH and model.after is not None:
        notes.append("depth+width: text chooses among the mixes (`regrow prune`); the shape is that of the middle one")
    if rate is not None and is_masked(law.method):
        check_pattern_rate(law.method, rate, model.pruning_rate)
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


def _at(law: Law, curves: Curves, tokens: float | None, level: float) -> dict[str, Any]:
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
