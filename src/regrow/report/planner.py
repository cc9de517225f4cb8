"""What the page's planner needs to evaluate laws by itself: their numbers as JSON, GPUs, and the shapes of models."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from markupsafe import Markup

from regrow.arch import Architecture, catalog
from regrow.errors import InputError
from regrow.laws.forms import FORMS
from regrow.laws.law import MOST_SIZE_EFFECT, SAME_SIZE, Law
from regrow.laws.setting import BASIC_NAMES
from regrow.methods import EXPERTS, is_masked
from regrow.planning.answer import Plan
from regrow.planning.cost import DEFAULT_MFU, GPUS
from regrow.planning.recipe import in_recipe
from regrow.planning.support import MOST_TIMES_DESIGNED, MOST_TIMES_TOKENS, supported_tokens
from regrow.planning.verdict import ROUGH_WIDTH, TRUST_ERROR, TRUST_TIMES, TRUST_WIDTH
from regrow.report.curves import LEVEL
from regrow.shapes import prune_shape

#: Rate asked for, rate reached, FLOPs of a training token.
_Shape = tuple[float, float, float]
#: Bootstrap draws that travel with the page, all laws together: with its noise each weighs about 170 bytes.
_DRAWS = 4000
#: The largest number of 16 bits, and the least one that a float of 32 bits tells to six digits.
_SHORT, _LEAST_SINGLE = 32767, 1e-37
_MOST_WHOLE = 1e15
#: Bytes for the parameters of sizes that the fits have seen, all laws together.
_SIZES_BYTES = 50_000
#: A law keeps at least this many of its draws.
_LEAST_DRAWS = 100
#: Tokens of a training sequence, where a named model's attention is counted.
CONTEXT = 4096
#: Rates of width-pruned shapes of named models that the page knows: first, last, step.
_WIDTH_RATES = (0.05, 0.5, 0.01)


def can_evaluate(law: Law) -> bool:
    """Whether the page can work with a law by itself."""
    return not _why_not(law)


def _why_not(law: Law) -> str:
    """Why the page can't work with a law by itself; empty if it can."""
    if law.status == "failed":
        why = "; ".join(law.warnings) or "no reason given"
        return f"This law failed to fit ({why}). Add runs or choose another form before planning with it."
    if law.benchmark is not None:
        return f"This page's planner reads losses: plan the score {law.benchmark} by regrow plan."
    if not law.formula.javascript:
        return f"This page can't evaluate the form {law.form}: plan with it by regrow plan."
    unknown = [c.name for c in law.formula.columns if c.name not in law.ranges]
    if unknown or not all(math.isfinite(v) for v in law.params.values()):
        return "This law's file lacks numbers that the page needs: fit it again."
    return ""


def forms_script(names: Collection[str] | None = None) -> str:
    """The forms of these names (None: all) for the page's code, each as it gives itself (`Form.javascript`)."""
    used = [form for form in FORMS.values() if form.javascript and (names is None or form.name in names)]
    forms = ",\n".join(f"  {json.dumps(form.name)}: {form.javascript}" for form in used)
    return f"const FORMS = {{\n{forms}\n}};\n"


def payload(
    laws: Sequence[Law],
    plans: Sequence[Plan],
    models: Mapping[str, Architecture] | None = None,
    sure: Sequence[str] = (),
) -> dict[str, Any] | None:
    """Laws, GPUs, models and the setting to begin with, as plain data; None if the page can evaluate none of the laws.

    It begins with the first plan of a law that it can evaluate, or in the middle of that law's data. Of a law that
    failed the page has only the reason.

    Args:
        models: shapes to offer besides the catalogue's, by name.
        sure: a sentence on the held-out errors of each law.
    """
    usable = [i for i, law in enumerate(laws) if can_evaluate(law) and law.benchmark is None]
    if not usable:
        return None
    offered = {**catalog(), **(models or {})}
    first = _first_plan(laws, usable, plans)
    context = first.context if first is not None else CONTEXT
    laws = [_in_recipe(law, first) if can_evaluate(law) else law for law in laws]
    others = _others([laws[i] for i in usable])
    known = {other["name"] for other in others}
    words = [*sure, *([""] * len(laws))]
    arrays: list[str] = []
    room = _Room(draws=max(_LEAST_DRAWS, _DRAWS // len(usable)), sizes=_SIZES_BYTES // len(usable))
    return {
        "laws": [
            _law(law, says, plans, room, arrays) if can_evaluate(law) and law.benchmark is None else _refused(law)
            for law, says in zip(laws, words, strict=False)
        ],
        "arrays": arrays,
        "gpus": [{"name": g.name, "label": g.label, "peak": g.peak_flops} for g in GPUS.values()],
        "models": _models(offered, [laws[i] for i in usable], context, first),
        "context": context,
        "teacher": 0.0 if first is None else first.teacher_flops,
        "width_step": _WIDTH_RATES[2],
        "level": LEVEL if first is None else first.level,
        "mostTimesDesigned": MOST_TIMES_DESIGNED,
        "mostTimesTokens": MOST_TIMES_TOKENS,
        "verdict": {"width": TRUST_WIDTH, "times": TRUST_TIMES, "error": TRUST_ERROR, "roughWidth": ROUGH_WIDTH},
        "others": others,
        "carried": {} if first is None else {key: value for key, value in first.others.items() if key not in known},
        "start": _start(laws, usable, first, offered),
    }


def _in_recipe(law: Law, plan: Plan | None) -> Law:
    """The law with its tokens counted as in the plan's recipe; as it is where it can't be compared with that."""
    try:
        return law if plan is None else in_recipe(law, plan.others)
    except InputError:
        return law


def _others(laws: Sequence[Law]) -> list[dict[str, Any]]:
    """Columns that a law reads and that have no field of their own on the page: their labels and first values."""
    columns = {c.name: (c, law) for law in laws for c in law.formula.columns if c.name not in BASIC_NAMES}
    return [
        {"name": name, "label": column.spoken[:1].upper() + column.spoken[1:], "hint": column.hint,
         "below": column.below if math.isfinite(column.below) else None, "count": column.is_count,
         "start": law.middle.point()[name]}
        for name, (column, law) in columns.items()
    ]  # fmt: skip


def as_script(data: dict[str, Any] | None) -> Markup:
    """JSON that may stand inside a script element: no `</` and no `<!--` can end or comment it out."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _name(law: Law) -> str:
    return f"{law.family}, {law.method} ({law.form})"


def _columns(law: Law) -> list[dict[str, Any]]:
    """The columns that the law's form reads, with what the page needs of them."""
    return [
        {"name": c.name, "spoken": c.spoken, "designed": c.designed, "count": c.is_count} for c in law.formula.columns
    ]


def _refused(law: Law) -> dict[str, Any]:
    return {
        "name": f"{_name(law)}, failed" if law.status == "failed" else _name(law),
        "method": law.method,
        "columns": _columns(law),
        "ranges": {},
        "refused": _why_not(law),
    }


@dataclass(frozen=True, kw_only=True)
class _Room:
    """How many draws of a law travel, and how many bytes of what its fit knows of single sizes."""

    draws: int
    sizes: int


def _law(law: Law, sure: str, plans: Sequence[Plan], room: _Room, arrays: list[str]) -> dict[str, Any]:
    """A law's numbers; its draws and noise go to `arrays`, once where laws share them, and are named by their place."""

    def place(text: str) -> int:
        if text not in arrays:
            arrays.append(text)
        return arrays.index(text)

    bounds = supported_tokens(law)
    # every n-th, so that all of them together stay a fair sample
    step = max(1, math.ceil(len(law.draws) / room.draws))
    kept = np.flatnonzero(np.isfinite(law.draws).all(axis=1))[::step]
    return {
        "name": _name(law),
        "form": law.form,
        "method": law.method,
        "masked": is_masked(law.method),
        "refused": "",
        "params": dict(law.params),
        "status": law.status,
        "heldOut": law.diagnostics.get("held_out_error"),
        "sure": sure,
        **_draws(law.draws[kept], place),
        **_noise(law.noise_numbers[kept], place),
        **_known_sizes(law, kept, [plan.params_before for plan in plans], room, place),
        "sizeEffects": place(_packed(law.size_effect_numbers[kept], "<f8")),
        "sizeSpread": law.size_spread,
        "mostSizeEffect": MOST_SIZE_EFFECT,
        "ranges": {name: list(ends) for name, ends in law.ranges.items()},
        "columns": _columns(law),
        "unsupported": law.unsupported,
        "firstTokens": bounds.first,
        "mostTokens": bounds.most,
    }


def _known_sizes(
    law: Law, kept: np.ndarray, planned: Sequence[float], room: _Room, place: Callable[[str], int]
) -> dict[str, Any]:
    """The parameters for models that the fit has seen (`Law.sizes`): those with a plan, and others as far as they fit.

    The sizes that are left out are named, so that the page can say so.
    """
    order = sorted(law.sizes, key=lambda size: (not any(abs(n / size - 1) < SAME_SIZE for n in planned), -size))
    asked = sum(any(abs(n / size - 1) < SAME_SIZE for n in planned) for size in law.sizes)
    most = max(room.sizes // (law.theta.nbytes * (len(kept) + 1)), asked)
    known = [
        {"size": size, "point": list(law.sizes[size][0]), **_draws(law.sizes[size][1:][kept], place)}
        for size in order[:most]
    ]
    return {"known": known, "unknown": order[most:], "sameSize": SAME_SIZE}


def _draws(rows: np.ndarray, place: Callable[[str], int]) -> dict[str, Any]:
    """Draws [n, parameters]: a column for each parameter that varies, and the values of the others.

    A law file rounds draws to six digits, and those a float of half the size still tells.
    """
    varying = np.flatnonzero((rows != rows[:1]).any(axis=0))
    sent = rows[:, varying]
    rounded = np.array([float(f"{value:.6g}") for value in sent.ravel()]).reshape(sent.shape)
    short = bool((rounded == sent).all()) and bool((np.abs(sent[sent != 0]) > _LEAST_SINGLE).all())
    columns = {str(i): place(_packed(rows[:, i], "<f4" if short else "<f8")) for i in varying}
    usual = [_short(value) for value in rows[0]] if len(rows) else []
    return {"count": len(rows), "draws": columns, "usual": usual, "sixDigits": short}


def _short(value: float) -> float:
    """A whole number without a point: a law has many zeros."""
    return int(value) if value.is_integer() and abs(value) < _MOST_WHOLE else float(value)


def _noise(values: np.ndarray, place: Callable[[str], int]) -> dict[str, Any]:
    """Noise [n, k] in 16 bits each, on a scale that is even near zero and logarithmic in the tails.

    Its ends of an interval are off by less than a thousandth of its spread.
    """
    scale = float(np.median(np.abs(values))) or 1.0
    bent = np.arcsinh(values / scale)
    most = float(np.max(np.abs(bent), initial=0.0)) or 1.0
    return {"noise": place(_packed(np.round(bent / most * _SHORT), "<i2")), "noiseScale": scale, "noiseMost": most}


def _packed(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")


def _models(
    offered: Mapping[str, Architecture], laws: Sequence[Law], context: int, first: Plan | None
) -> list[dict[str, Any]]:
    """Named models: size, FLOPs of a dense token, and the shapes that pruning can leave, where some law answers.

    `own` is the shape of the first plan, whichever sizes it was given by: method, rate, and FLOPs of a training token.
    """
    methods = sorted({law.method for law in laws})
    models = []
    for name, architecture in offered.items():
        of_plan = first is not None and _is_plan_of(first, name, architecture)
        answered = [m for m in methods if any(_answers(law, architecture.params) for law in laws if law.method == m)]
        if first is not None and of_plan and first.method not in answered:
            answered.append(first.method)
        shapes = {method: _shapes(architecture, method, context) for method in answered}
        models.append(
            {
                "name": name,
                "params": architecture.params,
                "flops": architecture.training_flops_per_token(context),
                "half_block": 0.5 * architecture.block_params / architecture.params,
                "shapes": {method: _packed_shapes(rows, method) for method, rows in shapes.items() if rows},
                "own": _own_shape(first) if first is not None and of_plan else None,
            }
        )
    return models


def _answers(law: Law, params: float) -> bool:
    """Whether the law answers for models of this size (`regrow.planning.support`)."""
    if "params_before" not in (c.name for c in law.formula.columns):
        return True
    low, high = law.ranges["params_before"]
    return low <= params * MOST_TIMES_DESIGNED and params <= high * MOST_TIMES_DESIGNED


def _is_plan_of(plan: Plan, name: str, architecture: Architecture) -> bool:
    """Whether the plan was made for this model's shape."""
    known = plan.flops_how.startswith("exact for the pruned shape")
    return known and plan.params_before == architecture.params and plan.model in (None, name)


def _own_shape(plan: Plan) -> tuple[str, float, float]:
    return plan.method, plan.pruning_rate, (plan.flops_per_token or 0.0) - plan.teacher_flops


def _packed_shapes(rows: Sequence[_Shape], method: str) -> dict[str, Any]:
    """Shapes as arrays of rates reached and of FLOPs, in 32 bits each, and the rates asked for where they differ."""
    asked, reached, flops = zip(*rows, strict=True)
    first, last, step = _WIDTH_RATES
    every = [round(first + i * step, 6) for i in range(round((last - first) / step) + 1)]
    skipped = [i for i, rate in enumerate(every) if rate not in asked] if method == "width" else []
    return {
        "reached": _packed(np.array(reached), "<f4"),
        "flops": _packed(np.array(flops), "<f4"),
        "asked": {"first": first, "step": step, "count": len(every), "skipped": skipped} if method == "width" else None,
    }


@cache
def _shapes(architecture: Architecture, method: str, context: int) -> list[_Shape]:
    """Every shape that the page offers, rates ascending."""
    if is_masked(method):
        asked = [0.5]  # the pattern decides, whatever rate is asked for
    elif method == "depth":
        asked = [k * architecture.block_params / architecture.params for k in range(1, architecture.layers)]
    elif method == EXPERTS and architecture.experts:
        unit = architecture.layers * (architecture.expert_params + architecture.hidden)
        most = architecture.experts - max(1, architecture.active_experts)
        asked = [k * unit / architecture.params for k in range(1, most + 1)]
    elif method == "width":
        first, last, step = _WIDTH_RATES
        asked = [round(first + i * step, 6) for i in range(round((last - first) / step) + 1)]
    else:
        return []
    rows = []
    for rate in asked:
        try:
            pruned = prune_shape(architecture, method, rate)
        except InputError:
            continue
        if pruned is not None:
            flops = pruned.architecture.training_flops_per_token(context)
            rows.append((rate, pruned.rate, flops))
    return rows


def _first_plan(laws: Sequence[Law], usable: Sequence[int], plans: Sequence[Plan]) -> Plan | None:
    """The first plan of a law that the page can evaluate."""
    known = {(laws[i].family, laws[i].method, laws[i].form) for i in usable}
    return next((plan for plan in plans if (plan.family, plan.method, plan.form) in known), None)


def _thresholds(plan: Plan) -> dict[str, float]:
    """The thresholds of the plan's criterion; a budget in USD as GPU-hours, which the page asks for."""
    options = dict(plan.criterion_options)
    usd = options.pop("budget_usd", None)
    if usd is not None and plan.price_usd_per_hour:
        options["budget_hours"] = usd / plan.price_usd_per_hour
    return options


def _start(
    laws: Sequence[Law], usable: Sequence[int], plan: Plan | None, offered: Mapping[str, Architecture]
) -> dict[str, Any]:
    """The setting to begin with; `tokens` are those that the threshold of its criterion is read off."""
    start: dict[str, Any] = {"law": usable[0], "criterion": "gain", "tokens": None, "model": ""}
    start |= {"gpu": "h100", "mfu": DEFAULT_MFU, "price": None}
    if plan is None:
        ranges = laws[usable[0]].ranges
        return {
            **start,
            "params_before": ranges["params_before"][1],
            "pruning_rate": round(sum(ranges["pruning_rate"]) / 2, 3),
            "loss_before": round(sum(ranges["loss_before"]) / 2, 3),
        }
    made_with = (plan.family, plan.method, plan.form)
    known = [name for name, shape in offered.items() if _is_plan_of(plan, name, shape)]
    return {
        **start,
        "law": next(i for i in usable if (laws[i].family, laws[i].method, laws[i].form) == made_with),
        "criterion": plan.criterion,
        "tokens": plan.tokens,
        "model": known[0] if known else "",
        "params_before": plan.params_before,
        "pruning_rate": plan.pruning_rate,
        "loss_before": plan.loss_before,
        "loss_pruned": plan.loss_pruned,
        **_thresholds(plan),
        **plan.others,
        "gpu": plan.gpu,
        "mfu": plan.mfu,
        "price": plan.price_usd_per_hour,
    }
