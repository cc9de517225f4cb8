"""The collapse: the gap over G0 against D over D_s, runs of every method, rate and size in one picture.

G0 is the gap right after pruning, D_s = b tau the tokens that the law `regrowth` scales the curve by
(`regrow.laws.regrowth.curve`). Where one law describes all runs, their marks fall around one curve.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from regrow.errors import InputError
from regrow.laws.forms.regrowth import Regrowth
from regrow.laws.law import Law
from regrow.laws.observations import of_loss
from regrow.laws.pooled.fit import pools_of
from regrow.laws.regrowth.curve import effective_tokens
from regrow.laws.regrowth.runs import RunCurve
from regrow.laws.setting import Setting
from regrow.report.figures import Key, fitted_key
from regrow.report.svg import Chart, Line, Marks, draw, legend_key
from regrow.runs.record import RunRecord
from regrow.units import format_count, plural

FORM = "regrowth"
#: marks of one method that are drawn at most, so that a page stays light
_MOST = 600
#: a gap right after pruning below this, in nats, is too near the noise to divide by
LEAST_GAP = 0.05
_CURVE_POINTS = 80
_SIZE = 0.6
#: law files round their ranges
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class _Reading:
    """A run's readings: tokens over D_s, what is left of the gap, which of them were fitted, each [n]; and the law's
    level and exponent for the run."""

    curve: RunCurve
    at: np.ndarray
    left: np.ndarray
    fitted: np.ndarray
    shape: tuple[float, float]


def collapse_chart(
    laws: Sequence[Law], runs: Sequence[RunRecord], ident: str, *, tips: bool = True, held_out: Collection[str] = ()
) -> tuple[Markup, list[Key]]:
    """The chart and its legend; empty where no law is of the form `regrowth` or none of its runs was read.

    A series for each method; each mark has a tooltip with `tips`. Runs that are `held_out` by name, or lie outside what
    the law was fitted to, are hollow. The line is the law's own curve for the median G0 and size of what is drawn.
    """
    series: dict[str, list[_Reading]] = {}
    for law in laws:
        if law.form == FORM:
            readings = _readings(law, runs, held_out)
            if readings:
                series.setdefault(law.method, []).extend(readings)
    if not series:
        return Markup(""), []
    every = [one for rows in series.values() for one in rows]
    level, b = np.median([one.shape for one in every], axis=0)
    x = np.geomspace(min(one.at.min() for one in every), max(one.at.max() for one in every), _CURVE_POINTS)
    typical = Line(x=x, y=np.exp(level) * (1 + x) ** -b, style=len(series), name=f"the law, b = {b:.2f}")
    fitted = np.concatenate([one.at[one.fitted] for one in every])
    chart = Chart(
        title="What is left of the gap right after pruning",
        description=f"The gap above the control or the loss before pruning, over the gap right after pruning, against "
        f"tokens over D_s, of {plural(len(every), 'run')}; the line is the law with b = {b:.2f}.",
        x_label="D / D_s",
        y_label="gap / G0",
        lines=[typical],
        marks=[marks for style, rows in enumerate(series.values()) for marks in _marks(rows, style, tips)],
        shaded=(float(fitted.min()), float(fitted.max())) if fitted.size else None,
        x_format="{:g}".format,
        left=60,
        width=560,
        height=320,
    )
    keys = [Key(svg=legend_key(i, line=False), text=method) for i, method in enumerate(series)]
    keys.append(Key(svg=legend_key(len(series), mark=False), text=f"the law, b = {b:.2f}"))
    return draw(chart, ident), [*keys, *([fitted_key("D / D_s")] if fitted.size else [])]


def _marks(rows: Sequence[_Reading], style: int, tips: bool) -> Iterator[Marks]:
    """The marks of one method, of so many readings an even choice."""
    every = max(1, -(-sum(len(one.at) for one in rows) // _MOST))
    for one in rows:
        words = [
            f"{one.curve.run}: {format_count(d)} tokens, {value:.0%} of {one.curve.gap_pruned:.3f} nats are left"
            for d, value in zip(one.curve.tokens[::every], one.left[::every], strict=True)
        ]
        yield Marks(
            x=one.at[::every],
            y=one.left[::every],
            style=style,
            tips=words if tips else [],
            sizes=np.full(len(words), _SIZE),
            hollow=not one.fitted.any(),
        )


def _readings(law: Law, runs: Sequence[RunRecord], held_out: Collection[str]) -> list[_Reading]:
    """The law's runs, on the axes of the chart."""
    found = []
    for curve, (level, log_pace, log_b, _) in _curves(law, runs):
        b = float(np.exp(log_b))
        inside = curve.run not in held_out and all(
            law.ranges[name][0] <= value * (1 + _ROUNDING) and value <= law.ranges[name][1] * (1 + _ROUNDING)
            for name, value in (("params_before", curve.params_before), ("pruning_rate", curve.pruning_rate))
        )
        found.append(
            _Reading(
                curve=curve,
                at=effective_tokens(curve.tokens, curve.warmup) / (b * np.exp(log_pace)),
                left=(curve.loss - curve.baseline) / curve.gap_pruned,
                fitted=inside & (curve.tokens <= law.ranges["tokens"][1]),
                shape=(float(level), b),
            )
        )
    return found


def _curves(law: Law, runs: Sequence[RunRecord]) -> list[tuple[RunCurve, np.ndarray]]:
    """The law's runs whose gap was measured, each with the psi [4] that the law gives it."""
    mine = [r for r in runs if r.family == law.family and (r.is_control or r.method == law.method)]
    form = law.formula
    assert isinstance(form, Regrowth)
    try:
        pools = pools_of(of_loss(mine, law.loss_kind), "method", baseline="initial", skipped=[])
    except InputError:
        return []
    out = []
    for curve in (run for pool in pools for run in pool.all_runs):
        if not curve.measured or curve.gap_pruned < LEAST_GAP or not len(curve.tokens):
            continue
        x = Setting(
            params_before=curve.params_before,
            pruning_rate=curve.pruning_rate,
            loss_before=curve.loss_before,
            refitted=float(curve.refitted),
            learning_rate=curve.learning_rate,
            batch_tokens=curve.batch_tokens,
        ).ravel()
        psi = form.numbers(law.parameters_at(curve.params_before)[:1], x, np.array([[curve.gap_pruned]]))
        out.append((curve, psi[0, 0]))
    return out
