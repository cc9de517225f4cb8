"""The words and numbers of a report: dataclasses in, tables of text out. Page, Markdown and picture lay them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.laws.law import Law
from regrow.planning.answer import Plan
from regrow.planning.cost import say_usd
from regrow.planning.frontier import Candidate, Comparison
from regrow.planning.trends import Trend
from regrow.report.curves import RunFit
from regrow.report.figures import ParameterRow
from regrow.report.scored import heading as law_heading
from regrow.report.scored import shown
from regrow.report.trends import Cell, Trends
from regrow.runs.record import RunRecord
from regrow.units import format_count, plural

#: How a missing number looks.
MISSING = "not known"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table, already in words; `held_out` and `strong` rows stand out.

    The first cell stands for `spans` rows; 0 in those that have it from a row above.
    """

    cells: tuple[str, ...]
    spans: int = 1
    held_out: bool = False
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table in words. `label` names it for screen readers; the last column is text if `wide_end`, else numbers.

    Cells break into lines if it `wraps`; else a table that is wider than the page is scrolled.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    label: str
    wide_end: bool = False
    wraps: bool = False


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


def bound(plan: Plan) -> str:
    """The text in place of a number of tokens that the law can't give: "less than 6.14k", or no number."""
    words = (plan.tokens_reason or "").split(" tokens", 1)[0]
    return words if words.startswith(("less than", "more than")) else "no number of"


def about_law(law: Law) -> str:
    """One paragraph on where a law comes from and how well it fits."""
    shown = {"r2": "R²", "mape": "mean error", "asd": "ASD", "huber": "Huber loss"}
    quality_parts = []
    for key, name in shown.items():
        value = law.metrics.get(key)
        if value is not None:
            quality_parts.append(f"{name} {per_cent(value) if key == 'mape' else number(value, '.4g')}")
    quality = f" On the fitted points: {', '.join(quality_parts)}." if quality_parts else ""
    kind = f"{law.loss_kind} losses" if law.benchmark is None else f"of {law.target}"
    return (
        f"Status {law.status}. Fitted to {plural(law.n_points, 'checkpoint')} of {plural(law.n_runs, 'run')}, "
        f"{len(law.draws)} bootstrap draws, baseline {law.baseline}, {kind}.{quality}"
    )


def formula_of(law: Law) -> str:
    """The law's formula."""
    return f"{'loss' if law.benchmark is None else '1 - score'} = {law.formula.formula}"


def run_table(law: Law, fits: Sequence[RunFit], label: str) -> Table:
    """The runs of a law, in the order of the residual chart; errors of scores are in points."""

    def errors(fit: RunFit) -> tuple[str, str]:
        if law.benchmark is None:
            return per_cent(fit.mape), per_cent(fit.worst)
        off = 100 * np.abs(fit.predicted - fit.loss)
        return number(float(np.mean(off)), ".2f"), number(float(np.max(off)), ".2f")

    rows = tuple(
        Row(
            cells=(
                fit.run.run,
                count(fit.run.params_before),
                f"{fit.run.pruning_rate:.3g}",
                count(float(fit.tokens[-1])),
                number(next((shown(law, p.known_loss) for p in fit.run.curve if p.tokens == 0), None)),
                number(shown(law, fit.loss[-1])),
                number(shown(law, fit.predicted[-1])),
                *errors(fit),
                number(fit.asd, ".2g"),
            ),
            held_out=fit.held_out,
        )
        for fit in fits
    )
    what, of = ("loss", "the predicted loss") if law.benchmark is None else ("score", "the predicted score in points")
    return Table(
        caption=f"Runs of this law; errors of {of}. Held-out runs were never fitted.",
        head=("Run", "Size", "Rate", "Tokens", "Right after pruning", f"Last {what}", "Predicted last", "Mean error",
              "Worst", "ASD"),
        rows=rows,
        label=f"{label}, runs",
    )  # fmt: skip


def point_table(law: Law, fits: Sequence[RunFit], label: str) -> Table:
    """The checkpoints behind the charts: run, tokens, measured, predicted, error."""
    rows = tuple(
        Row(
            cells=(
                fit.run.run,
                count(float(d)),
                number(shown(law, m)),
                number(shown(law, p)),
                f"{m / p - 1:+.2%}" if law.benchmark is None else f"{100 * (p - m):+.2f} points",
            ),
            held_out=fit.held_out,
            spans=0 if i else len(fit.kept),
        )
        for fit in fits
        for i, (d, m, p) in enumerate(zip(*fit.drawn, strict=True))
    )
    thin = any(len(fit.kept) < len(fit.tokens) for fit in fits)
    return Table(
        caption="Every checkpoint behind the charts."
        + (" Long runs are drawn, and listed, at evenly spaced checkpoints only; errors count all." if thin else ""),
        head=("Run", "Tokens", "Measured", "Predicted", "Error"),
        rows=rows,
        label=f"{label}, checkpoints",
    )


def parameter_table(rows: Iterable[ParameterRow], label: str) -> Table:
    """A law's parameters."""
    return Table(
        caption="Fitted parameters in natural units (parameters, tokens, nats), with intervals from refits on "
        "resampled runs.",
        head=("Parameter", "Value", "Low", "High", "Meaning"),
        rows=tuple(
            Row(cells=(r.name, number(r.value, ".4g"), number(r.low, ".4g"), number(r.high, ".4g"), r.meaning))
            for r in rows
        ),
        label=f"{label}, parameters",
        wide_end=True,
    )


def check_table(checks: Sequence[Trend], label: str) -> Table:
    """What a law of pruned models must show, and whether this one does."""
    verdicts = {True: "holds", False: "does not hold", None: "can't tell"}
    return Table(
        caption="What a law of pruned models must show, over the fitted range.",
        head=("Trend", "This law", "Share of its draws"),
        rows=tuple(
            Row(cells=(t.name, verdicts[t.holds], MISSING if t.share is None else f"{t.share:.0%}")) for t in checks
        ),
        label=f"{label}, trends",
    )


def trend_table(trends: Trends, label: str) -> Table:
    """D* by size and rate."""

    def says(cell: Cell) -> str:
        if not cell.known:
            return MISSING
        tokens = "no number is enough" if cell.tokens is None else count(cell.tokens)
        return tokens if cell.measured else f"{tokens} *"

    rows = tuple(Row(cells=(count(size), *map(says, cells))) for size, cells in trends.rows)
    starred = any(cell.known and not cell.measured for _, cells in trends.rows for cell in cells)
    return Table(
        caption=f"D*, the tokens from which on {trends.criterion}, by size and rate."
        + (" A star marks a size and rate without a run of its own." if starred else ""),
        head=("Size", *(f"rate {rate:.3g}" for rate in trends.rates)),
        rows=rows,
        label=f"{label}, D*",
    )


def comparison_table(comparison: Comparison) -> Table:
    """Methods and rates side by side, by rising loss."""
    serves = comparison.spec.served_tokens is not None
    priced = any(row.total_cost_usd is not None for row in comparison.candidates)
    spent = [row.total_gpu_hours for row in comparison.candidates if row.total_gpu_hours is not None]
    # small models take less than a hundredth of an hour, and a column has one unit
    unit, scale = ("GPU-hours", 1.0) if max(spent, default=1.0) >= 0.01 else ("GPU-seconds", 3600.0)

    def cells(row: Candidate) -> tuple[str, ...]:
        plan = row.plan
        known = plan.loss_low is not None and plan.loss_high is not None
        hours = [plan.gpu_hours, *([row.serving_gpu_hours, row.total_gpu_hours] if serves else [])]
        money = [] if row.total_cost_usd is None else [say_usd(row.total_cost_usd).removesuffix(" USD")]
        return (
            row.name,
            count(plan.params_after),
            count(plan.tokens) if plan.tokens is not None else bound(plan),
            "fixed" if plan.criterion == "budget" else _between(plan),
            number(plan.loss, ".3f"),
            f"{plan.loss_low:.3f} to {plan.loss_high:.3f}" if known else MISSING,
            *(MISSING if one is None else format_count(one * scale) for one in hours),
            *(money or [MISSING] * priced),
            "take this" if row.chosen else "on it" if row.on_frontier else "beaten" if plan.tokens else "no answer",
        )

    return Table(
        caption=f"Methods and rates for {comparison.family} of {count(comparison.spec.base.size)}, by rising loss. "
        f"D* by the criterion {comparison.spec.base.criterion.name}; training{', serving' if serves else ''} in "
        f"{unit}. On the frontier: no other row is as good in loss, parameters and total cost, and better in one.",
        head=(
            *("Candidate", "Left", "D*", "Interval", "Loss", "Interval", "Training"),
            *(("Serving", "Total") if serves else ()),
            *(("USD",) if priced else ()),
            "Frontier",
        ),
        rows=tuple(Row(cells=cells(row), strong=row.chosen) for row in comparison.candidates),
        label=f"{comparison.family}, methods and rates",
        wide_end=True,
    )


def _between(plan: Plan) -> str:
    """The interval of D*, without its probability; beside a bound only an end that the runs support."""
    if plan.tokens is None and plan.tokens_low is None and plan.tokens_high is None:
        return MISSING
    return plan.interval().rsplit(", ", 1)[0]


def held_out_row(law: Law, fits: Sequence[RunFit]) -> Row | None:
    """A law's errors over the runs it was never fitted on; None if there are none."""
    out = [fit for fit in fits if fit.held_out]
    if not out:
        return None
    errors = np.concatenate([np.abs(fit.predicted / fit.loss - 1) for fit in out])
    asds = [fit.asd for fit in out if fit.asd is not None]
    inside = [(fit.share_inside, fit.compared) for fit in out if fit.share_inside is not None]
    coverage = sum(s * n for s, n in inside) / sum(n for _, n in inside) if inside else None
    return Row(
        cells=(
            f"{law_heading(law)} ({law.form})",
            str(len(out)),
            str(len(errors)),
            per_cent(float(errors.mean())),
            per_cent(float(errors.max())),
            number(float(np.mean(asds)) if asds else None, ".2g"),
            number(coverage, ".0%"),
        ),
        held_out=True,
    )


def held_out_table(rows: Sequence[Row]) -> Table:
    """The errors of laws on runs they were never fitted on."""
    return Table(
        caption="Runs that were never fitted, by law; errors of the predicted loss, of scores those of 1 - score, over "
        "their checkpoints.",
        head=("Law", "Runs", "Checkpoints", "Mean error", "Worst", "ASD", "Inside the band"),
        rows=tuple(rows),
        label="Held-out runs",
    )


def validation_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """What `regrow validate` found."""
    return Table(
        caption="Validation: fitted without these, then compared. The last column is the mean error of simpler "
        "guesses on the same points.",
        head=("Law", "Form", "Held out", "Mean error", "Worst", "ASD", "Inside the band", "Simple guesses"),
        rows=tuple(validation_row(row) for row in results),
        label="Validation",
        wide_end=True,
    )


def control_table(controls: Sequence[RunRecord]) -> Table:
    """How far the unpruned controls moved."""
    return Table(
        caption="Loss of each control before and after, nats/token.",
        head=("Control", "Size", "Tokens", "Before", "After", "Drift", "Largest drift"),
        rows=tuple(control_row(run) for run in controls),
        label="Controls",
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
            number(row.get("coverage"), ".0%"),
            ", ".join(f"{name} {per_cent(v)}" for name, v in (row.get("baselines") or {}).items() if v is not None)
            or "none",
        )
    )


def control_row(run: RunRecord) -> Row:
    """How far an unpruned control moved."""
    seen = [p for p in run.curve if p.tokens > 0 and np.isfinite(p.known_loss)]
    last = max(seen, key=lambda p: p.tokens) if seen else None
    drifts = [p.known_loss - run.known_loss_before for p in seen]
    return Row(
        cells=(
            run.run,
            count(run.params_before),
            count(last.tokens if last else None),
            number(run.loss_before),
            number(last.loss if last else None),
            number(last.known_loss - run.known_loss_before if last else None, "+.4f"),
            number(max(drifts, key=abs) if drifts else None, "+.4f"),
        )
    )
