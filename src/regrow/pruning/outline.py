"""A plan as far as the architecture decides it: shapes and counts, no indices. Light: no torch."""

from __future__ import annotations

from dataclasses import replace

from regrow.active import shapes_for_active
from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.families import linear_inputs
from regrow.footprint import MemoryTarget, experts_for_memory, layers_for_memory, shapes_for_memory
from regrow.methods import DEPTH, EXPERTS
from regrow.pruning.plan import PrunePlan
from regrow.pruning.spec import PruneSpec
from regrow.shapes import (
    RATE_TOLERANCE,
    check_dense,
    check_experts,
    experts_for_rate,
    explicit_shape,
    layers_for_rate,
    shapes_for_rate,
)
from regrow.units import format_count


def outline(before: Architecture, spec: PruneSpec) -> PrunePlan:
    """The plan as far as the architecture and the spec decide it: shapes and counts, no indices yet.

    Raises `InputError` if no shape reaches the target, or if a matrix does not divide into groups of M.
    """
    return outlines(before, spec)[0]


def outlines(before: Architecture, spec: PruneSpec) -> list[PrunePlan]:
    """The plans that a spec with `search` chooses from, the rule's first; one plan without. Raises as `outline`."""
    assert spec.scorer is not None  # set by PruneSpec itself
    plan = PrunePlan(method=spec.method, scorer=spec.scorer, target_rate=spec.rate, before=before, after=before)
    if spec.pattern is not None:
        check_dense(before, spec.method)
        _check_divisible(before, spec.pattern[1])
        return [plan]
    if spec.method == EXPERTS:
        check_experts(before)
    if spec.shape is not None:
        return [replace(plan, after=explicit_shape(before, dict(spec.shape)))]
    if spec.memory is not None:
        return [replace(plan, after=after, target_memory=spec.memory) for after in _within(before, spec, spec.memory)]
    if spec.active_params is not None:
        return [
            replace(plan, after=after, target_active_params=spec.active_params)
            for after in shapes_for_active(
                before, spec.method, spec.active_params, spec.shapes_tried, axes=spec.axes,
                multiple_of=spec.multiple_of, strict=spec.strict,
            )
        ]  # fmt: skip
    rate = _target_rate(before, spec)
    plan = replace(plan, target_rate=rate, target_params=spec.params)
    if spec.method == DEPTH:
        return [replace(plan, after=layers_for_rate(before, rate, tolerance=RATE_TOLERANCE if spec.strict else None))]
    if spec.method == EXPERTS:
        return [replace(plan, after=experts_for_rate(before, rate))]
    shapes = shapes_for_rate(before, rate, spec.shapes_tried, axes=spec.axes, multiple_of=spec.multiple_of)
    return [replace(plan, after=after) for after in shapes]


def _within(before: Architecture, spec: PruneSpec, memory: MemoryTarget) -> list[Architecture]:
    """The shapes within a memory target that a spec with `search` chooses from."""
    if spec.method == DEPTH:
        return [layers_for_memory(before, memory)]
    if spec.method == EXPERTS:
        return [experts_for_memory(before, memory)]
    return shapes_for_memory(before, memory, spec.shapes_tried, axes=spec.axes, multiple_of=spec.multiple_of)


def _target_rate(before: Architecture, spec: PruneSpec) -> float:
    if spec.params is None:
        assert spec.rate is not None
        return spec.rate
    if spec.params >= before.params:
        raise InputError(
            f"{format_count(spec.params)} parameters asked of a model that has {format_count(before.params)}",
            where="params",
            hint="give fewer; the count is of all parameters, tied embeddings once",
        )
    return 1 - spec.params / before.params


def _check_divisible(arch: Architecture, m: int) -> None:
    widths = {"hidden": arch.hidden, "query": arch.heads * arch.head_dim, "intermediate": arch.intermediate}
    for matrix, axis in linear_inputs(arch.family).items():
        width = widths[axis]
        if width % m:
            raise InputError(
                f"the input dimension {width} of {matrix} does not divide into groups of {m}",
                where="N:M",
                hint="choose an M that divides it",
            )
