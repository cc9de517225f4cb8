"""The charts of a report: curves by size, residuals by run, the frontier, the drift of controls, and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from regrow.laws.law import Law
from regrow.planning.cost import say_gpu_time
from regrow.planning.frontier import Candidate, Comparison
from regrow.report.curves import LEVEL, RunFit, drawn_curve
from regrow.report.scored import heading as law_heading
from regrow.report.scored import shown, unit
from regrow.report.svg import Chart, Line, Marks, draw, legend_key, shade_key
from regrow.runs.record import CONTROL, RunRecord
from regrow.units import format_count, plural

#: Rates this near, as a ratio, may come from one requested rate at different sizes.
_SAME_RATE = 1.1


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small multiple: the runs of one size. `held_out` where none of them was fitted."""

    heading: str
    held_out: bool
    svg: Markup


@dataclass(frozen=True, kw_only=True)
class Key:
    """One entry of a legend."""

    svg: Markup
    text: str


def fitted_key(what: str = "tokens") -> Key:
    """The entry of a legend for the shading: where along the axis the law was fitted."""
    return Key(svg=shade_key(), text=f"{what} of the fitted runs")


def curve_panels(law: Law, fits: Sequence[RunFit], ident: str, *, tips: bool = True) -> tuple[list[Panel], list[Key]]:
    """A panel per size, small to large, measured marks over predicted lines, and the legend they share.

    Runs of about one rate look alike in every panel (`rate_groups`); runs that differ only by their seed share a line.
    Each mark has a tooltip with `tips`. The tokens that were fitted are shaded.
    """
    fits = [fit for fit in fits if fit.shown]
    groups = rate_groups([fit.run for fit in fits])
    style = {rate: i for i, group in enumerate(groups) for rate in group}
    panels = []
    nats, what = (" nats", "Held-out loss") if law.benchmark is None else ("", "Score")
    for number, size in enumerate(sorted({fit.run.params_before for fit in fits})):
        here = [fit for fit in fits if fit.run.params_before == size]
        held_out = all(fit.held_out for fit in here)
        lines: dict[str, Line] = {}
        marks = []
        for fit in here:
            rate = _rate(fit.run)
            if rate not in lines:
                tokens, *curves = drawn_curve(law, fit)
                loss = shown(law, curves[0])
                low, high = (None if one is None else shown(law, one) for one in curves[1:])
                name = f"predicted at rate {rate}"
                lines[rate] = Line(x=tokens, y=loss, low=low, high=high, style=style[rate], name=name)
            words = [
                f"{fit.run.run}: {format_count(d)} tokens, measured {m:.4f}, predicted {p:.4f}{nats}"
                for d, m, p in zip(fit.drawn[0], *(shown(law, one) for one in fit.drawn[1:]), strict=True)
            ]
            tokens, loss = fit.drawn[0], shown(law, fit.drawn[1])
            marks.append(Marks(x=tokens, y=loss, style=style[rate], tips=words if tips else [], hollow=fit.held_out))
        heading = f"{format_count(size)} parameters"
        chart = Chart(
            title=f"{law_heading(law)}, {heading}{', held out' if held_out else ''}",
            description=f"{what} against post-training tokens for {plural(len(here), 'run')} at rates "
            f"{', '.join(sorted({_rate(fit.run) for fit in here}))}; marks are measured, lines predicted. "
            "The numbers are in the table below the charts.",
            x_label="post-training tokens",
            y_label=unit(law),
            lines=list(lines.values()),
            marks=marks,
            rules=_before([fit.run for fit in here], law),
            shaded=law.ranges["tokens"],
        )
        panels.append(Panel(heading=heading, held_out=held_out, svg=draw(chart, f"{ident}-{number}")))
    keys = [Key(svg=legend_key(i), text=f"rate {_span(group)}") for i, group in enumerate(groups)]
    return panels, [*keys, fitted_key()] if panels else []


def measured_panels(runs: Sequence[RunRecord], ident: str) -> tuple[list[Panel], list[Key]]:
    """As `curve_panels`, without a law: a line through the measured losses of each run.

    A panel per family and size; runs alike are those of one method and about one rate. Readings at 0 tokens have no
    place on a log axis and are left out.
    """
    runs = [run for run in runs if any(point.tokens > 0 for point in run.curve)]
    style: dict[tuple[str, str], int] = {}
    keys: list[Key] = []
    for method in sorted({run.method for run in runs}, key=lambda method: (method == CONTROL, method)):
        for group in rate_groups([run for run in runs if run.method == method]):
            text = "unpruned" if method == CONTROL else f"{method} at {_span(group)}"
            style |= {(method, rate): len(keys) for rate in group}
            keys.append(Key(svg=legend_key(len(keys)), text=text))
    panels = []
    families = {run.family for run in runs}
    for number, (family, size) in enumerate(sorted({(run.family, run.params_before) for run in runs})):
        here = [run for run in runs if (run.family, run.params_before) == (family, size)]
        heading = f"{format_count(size)} parameters" + (f", {family}" if len(families) > 1 else "")
        lines, marks = [], []
        for run in here:
            seen = [point for point in run.curve if point.tokens > 0]
            x, y = np.array([float(p.tokens) for p in seen]), np.array([p.loss for p in seen])
            kind = style[run.method, _rate(run)]
            tips = [f"{run.run}: {format_count(d)} tokens, {loss:.4f} nats" for d, loss in zip(x, y, strict=True)]
            lines.append(Line(x=x, y=y, style=kind, name=run.run))
            marks.append(Marks(x=x, y=y, style=kind, tips=tips))
        chart = Chart(
            title=f"Measured losses, {heading}",
            description=f"Held-out loss against post-training tokens of {plural(len(here), 'run')}.",
            x_label="post-training tokens",
            y_label="loss, nats/token",
            lines=lines,
            marks=marks,
            rules=_before(here),
        )
        panels.append(Panel(heading=heading, held_out=False, svg=draw(chart, f"{ident}-{number}")))
    return panels, keys


def _before(runs: Sequence[RunRecord], law: Law | None = None) -> list[tuple[float, str]]:
    """The rule of the unpruned model's loss, or of its score, where the runs agree on it and it was measured."""
    before = sorted({round(run.known_loss_before, 4) for run in runs})
    if len(before) != 1 or (law is not None and not law.diagnostics.get("parents_known", True)):
        return []
    at = before[0] if law is None or law.benchmark is None else 1 - before[0]
    return [(at, f"before pruning {at:.3f}")]


def _span(group: Sequence[str]) -> str:
    return f"{group[0]} to {group[-1]}" if len(group) > 1 else group[0]


def rate_groups(runs: Sequence[RunRecord]) -> list[list[str]]:
    """Groups of rates (to three digits) that come from one requested rate: whole blocks and channels miss it, by an
    amount that depends on the size.

    Rising; a rate joins those up to a tenth below it, unless one of its sizes is among theirs.
    """
    sizes: dict[str, set[int]] = {}
    for run in runs:
        sizes.setdefault(_rate(run), set()).add(run.params_before)
    groups: list[list[str]] = []
    for rate in sorted(sizes, key=float):
        last = groups[-1] if groups else []
        taken = set().union(*(sizes[other] for other in last))
        if last and float(rate) <= _SAME_RATE * float(last[0]) and not sizes[rate] & taken:
            last.append(rate)
        else:
            groups.append([rate])
    return groups


def _rate(run: RunRecord) -> str:
    return f"{run.pruning_rate:.3g}"


def residual_chart(law: Law, fits: Sequence[RunFit], ident: str, *, tips: bool = True) -> Markup:
    """Residuals of every checkpoint, one row per run, small models at the top: in per cent of the predicted loss, or of
    a score in points.

    Each mark has a tooltip with `tips`.
    """
    fits = [fit for fit in fits if fit.shown]
    if not fits:
        return Markup("")
    sign, of = ("%", "per cent") if law.benchmark is None else (" points", "points")
    marks = []
    for row, fit in enumerate(fits):
        tokens, loss, predicted = fit.drawn
        off = 100 * (loss / predicted - 1 if law.benchmark is None else predicted - loss)
        words = [f"{fit.run.run}: {r:+.2f}{sign} at {format_count(d)} tokens" for r, d in zip(off, tokens, strict=True)]
        height = np.full(len(off), float(len(fits) - row))
        style = 1 if fit.held_out else 0
        marks.append(Marks(x=off, y=height, style=style, tips=words if tips else [], hollow=fit.held_out))
    names = {
        float(len(fits) - row): f"{format_count(fit.run.params_before)}, {_rate(fit.run)}"
        for row, fit in enumerate(fits)
    }
    zero = Line(x=np.zeros(2), y=np.array([0.4, len(fits) + 0.6]), style=0, name="no error", css="zero")
    chart = Chart(
        title=f"Residuals of {law_heading(law)}, by run",
        description=f"Measured minus predicted, in {of}, of the checkpoints that are drawn; rows are runs, by size and "
        "rate, in the order of the table below.",
        x_label=f"measured minus predicted, {of}",
        y_label="",
        lines=[zero],
        marks=marks,
        x_log=False,
        x_format="{:+g}".format,
        y_format=lambda value: names.get(value, ""),
        y_ticks=tuple(names),
        left=104,
        width=480,
        height=56 + 18 * len(fits),
    )
    return draw(chart, ident)


def drift_chart(
    controls: Sequence[RunRecord], ident: str, *, fitted: tuple[float, float] | None = None
) -> tuple[Markup, list[Key]]:
    """Loss of unpruned controls above their own loss before training, against tokens, and the legend.

    `fitted` are the tokens of the runs that laws were fitted to.
    """
    lines, marks = [], []
    for number, run in enumerate(controls):
        seen = [p for p in run.curve if p.tokens > 0]
        if not seen:
            continue
        x = np.array([float(p.tokens) for p in seen])
        y = np.array([p.known_loss - run.known_loss_before for p in seen])
        tips = [f"{run.run}: {b:+.4f} nats at {format_count(a)} tokens" for a, b in zip(x, y, strict=True)]
        lines.append(Line(x=x, y=y, style=number, name=run.run))
        marks.append(Marks(x=x, y=y, style=number, tips=tips))
    chart = Chart(
        title="Drift of the unpruned controls",
        description="Loss of each unpruned control minus its loss before training, against tokens. "
        "The numbers are in the table below.",
        x_label="tokens",
        y_label="drift, nats/token",
        lines=lines,
        marks=marks,
        rules=[(0.0, "no drift")],
        shaded=fitted,
        left=70,
        width=480,
        height=260,
    )
    if not lines:
        return Markup(""), []
    keys = [
        Key(svg=legend_key(i), text=f"{run.run}, {format_count(run.params_before)}")
        for i, run in enumerate(controls)
        if any(point.tokens > 0 for point in run.curve)
    ]
    return draw(chart, ident), [*keys, *([fitted_key()] if fitted is not None else [])]


def frontier_chart(comparison: Comparison, ident: str) -> tuple[Markup, list[Key]]:
    """Loss against parameters left, a mark per candidate and its legend; the larger a mark, the more it costs in all.

    Full marks are on the frontier, hollow ones are not; whiskers are the interval of the loss of a new run.
    """
    shown = [row for row in comparison.candidates if row.plan.loss is not None]
    methods = sorted({row.plan.method for row in shown})
    hours = [row.total_gpu_hours or 0.0 for row in shown]
    marks = []
    for style, method in enumerate(methods):
        for on_frontier in (False, True):
            rows = [row for row in shown if row.plan.method == method and row.on_frontier == on_frontier]
            if not rows:
                continue
            marks.append(
                Marks(
                    x=np.array([row.plan.params_after for row in rows]),
                    y=np.array([row.plan.loss for row in rows], dtype=float),
                    low=np.array([row.plan.loss_low for row in rows], dtype=float),
                    high=np.array([row.plan.loss_high for row in rows], dtype=float),
                    sizes=np.array([_area(row.total_gpu_hours or 0.0, max(hours)) for row in rows]),
                    labels=[f"{row.plan.pruning_rate:.3g}{', take this' if row.chosen else ''}" for row in rows],
                    style=style,
                    shift=14.0 * (style - (len(methods) - 1) / 2),
                    hollow=not on_frontier,
                    tips=[_candidate_tip(row) for row in rows],
                )
            )
    fitted = _fitted_left(comparison)
    chart = Chart(
        title=f"Methods and rates for {comparison.family}",
        description="Expected loss against parameters left after pruning, a mark per method and rate, labelled by its "
        "rate. Full marks are on the frontier, larger marks cost more. The numbers are in the table below.",
        x_label="parameters left",
        y_label="loss, nats/token",
        marks=marks,
        shaded=fitted,
        x_log=False,
        left=70,
        width=560,
        height=320,
    )
    keys = [Key(svg=legend_key(i, line=False), text=m) for i, m in enumerate(methods)]
    return draw(chart, ident), [*keys, *([fitted_key("rates")] if fitted is not None else [])]


def _fitted_left(comparison: Comparison) -> tuple[float, float] | None:
    """The parameters that the fitted rates leave of this model; None where the laws share no rates."""
    if comparison.fitted_rates is None:
        return None
    low, high = comparison.fitted_rates
    return comparison.spec.base.size * (1 - high), comparison.spec.base.size * (1 - low)


def _area(cost: float, most: float) -> float:
    """Size of a mark: its area grows with the cost, and none is too small to see."""
    return 0.8 + 1.4 * (cost / most) ** 0.5 if most > 0 else 1.2


def _candidate_tip(row: Candidate) -> str:
    cost = "" if row.total_gpu_hours is None else f", {say_gpu_time(row.total_gpu_hours)} in all"
    return f"{row.name}: loss {row.plan.loss:.3f}, {format_count(row.plan.params_after)} parameters{cost}"


@dataclass(frozen=True, kw_only=True)
class ParameterRow:
    """One fitted parameter with its interval and what it means."""

    name: str
    value: float
    low: float | None
    high: float | None
    meaning: str


def parameter_rows(law: Law) -> list[ParameterRow]:
    """The law's parameters in natural units, with bootstrap intervals of coverage `LEVEL` where there are draws."""
    ends = law.intervals(LEVEL) if len(law.draws) else {}
    meanings = {p.name: p.meaning for p in law.formula.parameters}
    rows = []
    for name, value in law.params.items():
        if value == 0 and not np.any(law.draws[:, list(law.params).index(name)]):
            continue  # a part of the form that these runs have no use for
        meaning, (low, high) = meanings.get(name, ""), ends.get(name, (None, None))
        if name in law.diagnostics.get("fixed", ()):
            # a parameter that was not fitted has no interval; one of zero width would be wrong
            meaning, low, high = f"{meaning} (held, not fitted)", None, None
        elif name in law.diagnostics.get("at_bound", ()):
            meaning = f"{meaning} (on its bound)"
        rows.append(ParameterRow(name=name, value=value, low=low, high=high, meaning=meaning))
    return rows
