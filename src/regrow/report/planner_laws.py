"""A law as the page's planner reads it: its numbers, its draws, and what it knows of single sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.laws.law import MOST_SIZE_EFFECT, SAME_SIZE, Law
from regrow.methods import is_masked
from regrow.planning.answer import Plan
from regrow.planning.support import supported_tokens
from regrow.report.planner_arrays import draws, noise, packed


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


def _name(law: Law) -> str:
    return f"{law.family}, {law.method} ({law.form})"


def _columns(law: Law) -> list[dict[str, Any]]:
    """The columns that the law's form reads, with what the page needs of them."""
    return [
        {"name": c.name, "spoken": c.spoken, "designed": c.designed, "count": c.is_count} for c in law.formula.columns
    ]


def refused_law(law: Law) -> dict[str, Any]:
    """What the page has of a law that it can't work with: its name, and why."""
    return {
        "name": f"{_name(law)}, failed" if law.status == "failed" else _name(law),
        "method": law.method,
        "columns": _columns(law),
        "ranges": {},
        "refused": _why_not(law),
    }


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many draws of a law travel, and how many bytes of what its fit knows of single sizes."""

    draws: int
    sizes: int


def law_numbers(law: Law, sure: str, plans: Sequence[Plan], room: Room, arrays: list[str]) -> dict[str, Any]:
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
        **draws(law.draws[kept], place),
        **noise(law.noise_numbers[kept], place),
        **_known_sizes(law, kept, [plan.params_before for plan in plans], room, place),
        "sizeEffects": place(packed(law.size_effect_numbers[kept], "<f8")),
        "sizeSpread": law.size_spread,
        "mostSizeEffect": MOST_SIZE_EFFECT,
        "ranges": {name: list(ends) for name, ends in law.ranges.items()},
        "columns": _columns(law),
        "unsupported": law.unsupported,
        "firstTokens": bounds.first,
        "mostTokens": bounds.most,
    }


def _known_sizes(
    law: Law, kept: np.ndarray, planned: Sequence[float], room: Room, place: Callable[[str], int]
) -> dict[str, Any]:
    """The parameters for models that the fit has seen (`Law.sizes`): those with a plan, and others as far as they fit.

    The sizes that are left out are named, so that the page can say so.
    """
    order = sorted(law.sizes, key=lambda size: (not any(abs(n / size - 1) < SAME_SIZE for n in planned), -size))
    asked = sum(any(abs(n / size - 1) < SAME_SIZE for n in planned) for size in law.sizes)
    most = max(room.sizes // (law.theta.nbytes * (len(kept) + 1)), asked)
    known = [
        {"size": size, "point": list(law.sizes[size][0]), **draws(law.sizes[size][1:][kept], place)}
        for size in order[:most]
    ]
    return {"known": known, "unknown": order[most:], "sameSize": SAME_SIZE}
