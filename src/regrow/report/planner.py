"""What the page's planner needs to evaluate laws by itself: their numbers as JSON, GPUs, and the shapes of models."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from markupsafe import Markup

from regrow.arch import Architecture, catalog
from regrow.errors import InputError
from regrow.laws.forms import FORMS
from regrow.laws.law import MOST_SIZE_EFFECT, Law
from regrow.laws.setting import BASIC_NAMES
from regrow.methods import is_masked
from regrow.planning.answer import Plan
from regrow.planning.cost import DEFAULT_MFU, GPUS
from regrow.planning.support import MOST_TIMES_DESIGNED, MOST_TIMES_TOKENS, supported_tokens
from regrow.report.curves import LEVEL
from regrow.shapes import prune_shape

#: Bootstrap draws in the page, of all laws together; each takes about 300 bytes with its noise.
_DRAWS = 4000
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
    if not law.formula.javascript:
        return f"This page can't evaluate the form {law.form}: plan with it by regrow plan."
    unknown = [c.name for c in law.formula.columns if c.name not in law.ranges]
    if unknown or not all(math.isfinite(v) for v in law.params.values()):
        return "This law's file lacks numbers that the page needs: fit it again."
    return ""


def forms_script() -> str:
    """The forms for the page's code, each as it gives itself (`Form.javascript`)."""
    forms = ",\n".join(f"  {json.dumps(form.name)}: {form.javascript}" for form in FORMS.values() if form.javascript)
    return f"const FORMS = {{\n{forms}\n}};\n"


def payload(
    laws: Sequence[Law], plans: Sequence[Plan], models: Mapping[str, Architecture] | None = None
) -> dict[str, Any] | None:
    """Laws, GPUs, models and the setting to begin with, as plain data; None if the page can evaluate none of the laws.

    It begins with the first plan of a law that it can evaluate, or in the middle of that law's data. Of a law that
    failed the page has only the reason.
    """
    usable = [i for i, law in enumerate(laws) if can_evaluate(law)]
    if not usable:
        return None
    most = max(_LEAST_DRAWS, _DRAWS // len(usable))
    methods = sorted({laws[i].method for i in usable})
    return {
        "laws": [_law(law, most) if can_evaluate(law) else _refused(law) for law in laws],
        "gpus": [{"name": g.name, "label": g.label, "peak": g.peak_flops} for g in GPUS.values()],
        "models": [
            _model(name, architecture, methods) for name, architecture in {**catalog(), **(models or {})}.items()
        ],
        "context": CONTEXT,
        "width_step": _WIDTH_RATES[2],
        "level": LEVEL,
        "mostTimesDesigned": MOST_TIMES_DESIGNED,
        "mostTimesTokens": MOST_TIMES_TOKENS,
        "others": _others([laws[i] for i in usable]),
        "start": _start(laws, usable, plans),
    }


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


def _law(law: Law, most: int) -> dict[str, Any]:
    bounds = supported_tokens(law)
    # every n-th, so that all of them together stay a fair sample
    step = max(1, math.ceil(len(law.draws) / most))
    kept = np.flatnonzero(np.isfinite(law.draws).all(axis=1))[::step]
    return {
        "name": _name(law),
        "form": law.form,
        "method": law.method,
        "masked": is_masked(law.method),
        "refused": "",
        "params": dict(law.params),
        "draws": _packed(law.draws[kept], "<f8"),
        "noise": _packed(law.noise_numbers[kept], "<f4"),
        "sizeEffects": _packed(law.size_effect_numbers[kept], "<f8"),
        "sizeSpread": law.size_spread,
        "mostSizeEffect": MOST_SIZE_EFFECT,
        "ranges": {name: list(ends) for name, ends in law.ranges.items()},
        "columns": _columns(law),
        "unsupported": law.unsupported,
        "firstTokens": bounds.first,
        "mostTokens": bounds.most,
    }


def _packed(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")


def _model(name: str, architecture: Architecture, methods: Sequence[str]) -> dict[str, Any]:
    """A named model: its size, its dense FLOPs, and for each method the shapes that pruning can leave."""
    shapes = {method: _shapes(architecture, method) for method in methods}
    return {
        "name": name,
        "params": architecture.params,
        "flops": _flops(architecture),
        "half_block": 0.5 * architecture.block_params / architecture.params,
        "shapes": {method: rows for method, rows in shapes.items() if rows},
    }


def _flops(architecture: Architecture) -> tuple[float, float]:
    """FLOPs of a training token at no context, and what each token of context adds: the count is linear in it."""
    fixed = architecture.training_flops_per_token(0)
    return fixed, architecture.training_flops_per_token(1) - fixed


@cache
def _shapes(architecture: Architecture, method: str) -> list[tuple[float, float, float, float]]:
    """Rate asked for, rate reached and FLOPs (`_flops`) of every shape the page offers, rates ascending."""
    if is_masked(method):
        asked = [0.5]  # the pattern decides, whatever rate is asked for
    elif method == "depth":
        asked = [k * architecture.block_params / architecture.params for k in range(1, architecture.layers)]
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
            rows.append((rate, pruned.rate, *_flops(pruned.architecture)))
    return rows


def _start(laws: Sequence[Law], usable: Sequence[int], plans: Sequence[Plan]) -> dict[str, Any]:
    """The setting that the page opens with; the threshold of its criterion is evaluated at `tokens`."""
    start: dict[str, Any] = {"law": usable[0], "criterion": "gain", "tokens": None, "model": ""}
    start |= {"gpu": "h100", "mfu": DEFAULT_MFU, "price": None}
    names = {float(architecture.params): name for name, architecture in catalog().items()}
    for plan in plans:
        for number in usable:
            law = laws[number]
            if (plan.family, plan.method, plan.form) != (law.family, law.method, law.form):
                continue
            # name the model only if its shape was used, not if a size merely equals its parameters
            exact = plan.flops_how.startswith("exact")
            return {
                **start,
                "law": number,
                "criterion": plan.criterion,
                "tokens": plan.tokens,
                "model": names.get(plan.params_before, "") if exact else "",
                "params_before": plan.params_before,
                "pruning_rate": plan.pruning_rate,
                "loss_before": plan.loss_before,
                "loss_pruned": plan.loss_pruned,
                **plan.others,
                "gpu": plan.gpu,
                "mfu": plan.mfu,
                "price": None if not plan.gpu_hours or plan.cost_usd is None else plan.cost_usd / plan.gpu_hours,
            }
    ranges = laws[usable[0]].ranges
    return {
        **start,
        "params_before": ranges["params_before"][1],
        "pruning_rate": round(sum(ranges["pruning_rate"]) / 2, 3),
        "loss_before": round(sum(ranges["loss_before"]) / 2, 3),
    }
