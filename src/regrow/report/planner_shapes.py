"""Named models for the page's planner: the shapes that pruning can leave, and what a token of each costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.methods import EXPERTS, is_masked
from regrow.planning.answer import Plan
from regrow.planning.support import MOST_TIMES_DESIGNED
from regrow.report.planner_arrays import packed
from regrow.shapes import prune_shape

#: Rate asked for, rate reached, FLOPs of a training token.
_Shape = tuple[float, float, float]
#: Rates of width-pruned shapes of named models that the page knows: first, last, step.
WIDTH_RATES = (0.05, 0.5, 0.01)


def models_offered(
    offered: Mapping[str, Architecture], laws: Sequence[Law], context: int, first: Plan | None
) -> list[dict[str, Any]]:
    """Named models: size, FLOPs of a dense token, and the shapes that pruning can leave, where some law answers.

    `own` is the shape of the first plan, whichever sizes it was given by: method, rate, and FLOPs of a training token.
    """
    methods = sorted({law.method for law in laws})
    models = []
    for name, architecture in offered.items():
        of_plan = first is not None and is_plan_of(first, name, architecture)
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


def is_plan_of(plan: Plan, name: str, architecture: Architecture) -> bool:
    """Whether the plan was made for this model's shape."""
    known = plan.flops_how.startswith("exact for the pruned shape")
    return known and plan.params_before == architecture.params and plan.model in (None, name)


def _own_shape(plan: Plan) -> tuple[str, float, float]:
    return plan.method, plan.pruning_rate, (plan.flops_per_token or 0.0) - plan.teacher_flops


def _packed_shapes(rows: Sequence[_Shape], method: str) -> dict[str, Any]:
    """Shapes as arrays of rates reached and of FLOPs, in 32 bits each, and the rates asked for where they differ."""
    asked, reached, flops = zip(*rows, strict=True)
    first, last, step = WIDTH_RATES
    every = [round(first + i * step, 6) for i in range(round((last - first) / step) + 1)]
    skipped = [i for i, rate in enumerate(every) if rate not in asked] if method == "width" else []
    return {
        "reached": packed(np.array(reached), "<f4"),
        "flops": packed(np.array(flops), "<f4"),
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
        first, last, step = WIDTH_RATES
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
