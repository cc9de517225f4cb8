"""What the page's planner needs to evaluate laws by itself: their numbers as JSON, and the table of GPUs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from regrow.laws.law import Law
from regrow.planning.cost import DEFAULT_MFU, GPUS, is_masked
from regrow.planning.plan import Plan

#: Forms that planner.js evaluates.
EVALUATED = ("p2", "p2_odds", "p2_shifted", "p2_counts")
#: Bootstrap draws that travel with the page; more would narrow nothing and weigh on it.
_DRAWS = 400


def can_evaluate(law: Law) -> bool:
    """Whether the page can work with a law by itself."""
    return law.form in EVALUATED and law.status != "failed" and all(math.isfinite(v) for v in law.params.values())


def payload(laws: Sequence[Law], plans: Sequence[Plan]) -> dict[str, Any] | None:
    """Laws, GPUs and the setting to begin with, as plain data; None if the page can evaluate none of the laws.

    It begins with the first plan of a law that it can evaluate, or in the middle of the first law's data.
    """
    usable = [law for law in laws if can_evaluate(law)]
    if not usable:
        return None
    return {
        "laws": [_law(law) for law in usable],
        "gpus": [{"name": g.name, "label": g.label, "peak": g.peak_flops} for g in GPUS.values()],
        "start": _start(usable, plans),
    }


def as_script(data: dict[str, Any] | None) -> Markup:
    """JSON that may stand inside a script element: no `</` and no `<!--` can end or comment it out."""
    text = json.dumps(data, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _law(law: Law) -> dict[str, Any]:
    step = max(1, math.ceil(len(law.draws) / _DRAWS))
    draws = [row for row in law.draws[::step].tolist() if all(math.isfinite(v) for v in row)]
    return {
        "name": f"{law.family}, {law.method} ({law.form})",
        "form": law.form,
        "masked": is_masked(law.method),
        "params": dict(law.params),
        "draws": draws,
        "ranges": {name: list(ends) for name, ends in law.ranges.items()},
        "usesLoss": "loss_before" in law.formula.uses,
    }


def _start(laws: Sequence[Law], plans: Sequence[Plan]) -> dict[str, Any]:
    start: dict[str, Any] = {"law": 0, "min_gain": 0.01, "gpu": "h100", "mfu": DEFAULT_MFU, "price": None}
    for plan in plans:
        for number, law in enumerate(laws):
            if (plan.family, plan.method, plan.form) == (law.family, law.method, law.form):
                return {
                    **start,
                    "law": number,
                    "params_before": plan.params_before,
                    "pruning_rate": plan.pruning_rate,
                    "loss_before": plan.loss_before,
                    "gpu": plan.gpu,
                    "mfu": plan.mfu,
                    "price": None if not plan.gpu_hours or plan.cost_usd is None else plan.cost_usd / plan.gpu_hours,
                }
    ranges = laws[0].ranges
    return {
        **start,
        "params_before": ranges["params_before"][1],
        "pruning_rate": round(sum(ranges["pruning_rate"]) / 2, 3),
        "loss_before": round(sum(ranges["loss_before"]) / 2, 3),
    }
