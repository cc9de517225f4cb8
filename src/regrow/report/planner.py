"""What the page's planner begins with: laws, GPUs, models and the setting of the first plan, as JSON.

`planner_laws` gives the numbers of a law, `planner_shapes` the shapes of named models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from regrow.arch import Architecture, catalog
from regrow.errors import InputError
from regrow.laws.forms import FORMS
from regrow.laws.law import Law
from regrow.laws.setting import BASIC_NAMES
from regrow.planning.answer import Plan
from regrow.planning.cost import DEFAULT_MFU, GPUS
from regrow.planning.recipe import in_recipe
from regrow.planning.support import MOST_TIMES_DESIGNED, MOST_TIMES_TOKENS
from regrow.planning.verdict import ROUGH_WIDTH, TRUST_ERROR, TRUST_TIMES, TRUST_WIDTH
from regrow.report.curves import LEVEL
from regrow.report.planner_laws import Room, can_evaluate, law_numbers, refused_law
from regrow.report.planner_shapes import WIDTH_RATES, is_plan_of, models_offered

#: Bootstrap draws that travel with the page, all laws together: with its noise each weighs about 170 bytes.
_DRAWS = 4000
#: A law keeps at least this many of its draws.
_LEAST_DRAWS = 100
#: Bytes for the parameters of sizes that the fits have seen, all laws together.
_SIZES_BYTES = 50_000
#: Tokens of a training sequence, where a named model's attention is counted.
CONTEXT = 4096


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
    usable = [i for i, law in enumerate(laws) if can_evaluate(law)]
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
    room = Room(draws=max(_LEAST_DRAWS, _DRAWS // len(usable)), sizes=_SIZES_BYTES // len(usable))
    return {
        "laws": [
            law_numbers(law, says, plans, room, arrays) if can_evaluate(law) else refused_law(law)
            for law, says in zip(laws, words, strict=False)
        ],
        "arrays": arrays,
        "gpus": [{"name": g.name, "label": g.label, "peak": g.peak_flops} for g in GPUS.values()],
        "models": models_offered(offered, [laws[i] for i in usable], context, first),
        "context": context,
        "teacher": 0.0 if first is None else first.teacher_flops,
        "width_step": WIDTH_RATES[2],
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
    known = [name for name, shape in offered.items() if is_plan_of(plan, name, shape)]
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
