"""The words and numbers of the page: dataclasses in, rows of text out. The template only lays them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.laws.law import Law
from regrow.planning.cost import say_gpu_time, say_usd
from regrow.planning.plan import Plan
from regrow.report.curves import RunFit
from regrow.report.figures import ParameterRow
from regrow.report.trends import Trends
from regrow.runs.record import RunRecord
from regrow.units import format_count

#: How a missing number looks.
MISSING = "not known"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table, already in words."""

    cells: tuple[str, ...]
    held_out: bool = False


def number(value: Any, spec: str = ".4f") -> str:
    """A number by format, a missing or undefined one as words, anything else as it is."""
    if value is None:
        return MISSING
    if isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool):
        return format(float(value), spec) if np.isfinite(value) else MISSING
    return str(value)


def count(value: float | None) -> str:
    """A count with its suffix, or words where it is missing."""
    return MISSING if value is None else format_count(value)


def per_cent(value: Any) -> str:
    """A fraction as a percentage, for readers; data and command line keep fractions."""
    return number(value, ".2%")


def plan_card(plan: Plan) -> dict[str, Any]:
    """A plan as the template shows it."""
    facts = [("Loss there", number(plan.loss, ".3f"))]
    if plan.loss_low is not None and plan.loss_high is not None:
        facts.append((f"{plan.level:.0%} of runs", f"{plan.loss_low:.3f} to {plan.loss_high:.3f}"))
    facts += [
        ("Floor, with endless tokens", number(plan.floor, ".3f")),
        ("Next doubling buys", f"{number(plan.next_doubling_gain)} nats" if plan.next_doubling_gain else MISSING),
        ("Compute", f"{plan.flops:.2e} FLOPs" if plan.flops is not None else MISSING),
        (
            f"{plan.gpu.upper()} at MFU {plan.mfu:g}",
            MISSING if plan.gpu_hours is None else say_gpu_time(plan.gpu_hours),
        ),
        ("Cost", say_usd(plan.cost_usd) if plan.cost_usd is not None else "no price given"),
    ]
    if plan.tokens is None:
        reason = f"No number of tokens is enough that {plan.because}."
    else:
        reason = f"From there {plan.because}."
    size = f"{count(plan.params_before)} parameters"
    return {
        "heading": f"{plan.family}, {size}, {plan.method} at rate {plan.pruning_rate:.3g}",
        "tokens": count(plan.tokens) if plan.tokens is not None else "no number of",
        "interval": _interval(plan),
        "reason": reason,
        "facts": facts,
        "warnings": plan.warnings,
        "sentence": plan.sentence(),
    }


def _interval(plan: Plan) -> str:
    if plan.criterion == "budget":
        return "fixed by the budget"
    if plan.tokens_low is None:
        return "no interval"
    high = "without upper end" if plan.tokens_high is None else f"to {count(plan.tokens_high)}"
    return f"{count(plan.tokens_low)} {high}, {plan.level:.0%} of the law's bootstrap draws"


def about_law(law: Law) -> str:
    """One paragraph on where a law comes from and how well it fits."""
    shown = {"r2": "R²", "mape": "mean error", "asd": "ASD", "huber": "Huber loss"}
    told = []
    for key, name in shown.items():
        value = law.metrics.get(key)
        if value is not None:
            told.append(f"{name} {per_cent(value) if key == 'mape' else number(value, '.4g')}")
    quality = f" On the fitted points: {', '.join(told)}." if told else ""
    formula = law.formula.formula
    return (
        f"Status {law.status}. loss = {formula}, fitted to {law.n_points} checkpoints of {law.n_runs} runs, "
        f"{len(law.draws)} bootstrap draws, baseline {law.baseline}.{quality}"
    )


def run_rows(fits: Sequence[RunFit]) -> list[Row]:
    """The table of runs, in the order of the residual chart."""
    return [
        Row(
            cells=(
                fit.run.run,
                count(fit.run.params_before),
                f"{fit.run.pruning_rate:.3g}",
                count(float(fit.tokens[-1])),
                number(next((p.loss for p in fit.run.curve if p.tokens == 0), None)),
                number(fit.loss[-1]),
                number(fit.predicted[-1]),
                per_cent(fit.mape),
                per_cent(fit.worst),
                number(fit.asd, ".2g"),
            ),
            held_out=fit.held_out,
        )
        for fit in fits
    ]


def point_rows(fits: Sequence[RunFit]) -> list[Row]:
    """Every checkpoint: run, tokens, measured, predicted, error."""
    return [
        Row(cells=(fit.run.run, count(float(d)), number(m), number(p), f"{r:+.2%}"), held_out=fit.held_out)
        for fit in fits
        for d, m, p, r in zip(fit.tokens, fit.loss, fit.predicted, fit.residual, strict=True)
    ]


def parameter_cells(rows: Iterable[ParameterRow]) -> list[Row]:
    """The table of a law's parameters."""
    return [
        Row(cells=(r.name, number(r.value, ".4g"), number(r.low, ".4g"), number(r.high, ".4g"), r.meaning))
        for r in rows
    ]


def trend_table(trends: Trends) -> dict[str, Any]:
    """D* by size and rate."""
    rows = [
        Row(cells=(count(size), *(f"{count(c.tokens)}{'' if c.measured else ' *'}" for c in cells)))
        for size, cells in trends.rows
    ]
    starred = any(not cell.measured for _, cells in trends.rows for cell in cells)
    caption = f"Tokens from which on {trends.criterion}, by size and rate."
    return {
        "caption": caption + (" A star marks a size and rate without a run of its own." if starred else ""),
        "head": ("Size", *(f"rate {rate:.3g}" for rate in trends.rates)),
        "rows": rows,
        "checks": [(check.name, check.explanation) for check in trends.checks],
    }


def held_out_row(law: Law, fits: Sequence[RunFit]) -> Row | None:
    """A law's errors over the runs it was never fitted on; None if there are none."""
    out = [fit for fit in fits if fit.held_out]
    if not out:
        return None
    errors = np.concatenate([np.abs(fit.predicted / fit.loss - 1) for fit in out])
    asds = [fit.asd for fit in out if fit.asd is not None]
    inside = [(fit.share_inside, len(fit.loss)) for fit in out if fit.share_inside is not None]
    coverage = sum(s * n for s, n in inside) / sum(n for _, n in inside) if inside else None
    return Row(
        cells=(
            f"{law.family}, {law.method} ({law.form})",
            str(len(out)),
            str(len(errors)),
            per_cent(float(errors.mean())),
            per_cent(float(errors.max())),
            number(float(np.mean(asds)) if asds else None, ".2g"),
            per_cent(coverage),
        ),
        held_out=True,
    )


def validation_row(row: Mapping[str, Any]) -> Row:
    """One result of `regrow validate`; keys that are missing are said to be."""
    return Row(
        cells=(
            f"{row.get('family', MISSING)}, {row.get('method', MISSING)}",
            number(row.get("form")),
            number(row.get("hold_out")),
            per_cent(row.get("mape")),
            per_cent(row.get("max_ape")),
            number(row.get("asd"), ".2g"),
            per_cent(row.get("coverage")),
            ", ".join(f"{name} {per_cent(v)}" for name, v in (row.get("baselines") or {}).items() if v is not None)
            or "none",
        )
    )


def control_row(run: RunRecord) -> Row:
    """How far an unpruned control moved."""
    seen = [p for p in run.curve if p.tokens > 0 and np.isfinite(p.loss)]
    last = max(seen, key=lambda p: p.tokens) if seen else None
    drifts = [p.loss - run.loss_before for p in seen]
    return Row(
        cells=(
            run.run,
            count(run.params_before),
            count(last.tokens if last else None),
            number(run.loss_before),
            number(last.loss if last else None),
            number(last.loss - run.loss_before if last else None, "+.4f"),
            number(max(drifts, key=abs) if drifts else None, "+.4f"),
        )
    )
