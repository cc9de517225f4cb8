"""The collapse: the gap over G0 against D over D_s, runs of every method, rate and size in one picture.

G0 is the gap right after pruning, D_s = b tau the tokens that the law `regrowth` scales the curve by
(`regrow.laws.regrowth.curve`). Where one law describes all runs, their marks fall around one curve.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from regrow.report.figures import Key
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


def collapse_chart(
    laws: Sequence[Law], runs: Sequence[RunRecord], ident: str, *, tips: bool = True
) -> tuple[Markup, list[Key]]:
    """The chart and its legend; empty where no law is of the form `regrowth` or none of its runs was read.

    A series for each method; each mark has a tooltip with `tips`. The line is the law's own curve for the median G0 and
    size of what is drawn.
    """
    series: dict[str, list[tuple[RunCurve, np.ndarray, np.ndarray, tuple[float, float]]]] = {}
    for law in laws:
        if law.form == FORM:
            for curve, psi in _curves(law, runs):
                level, log_pace, log_b, _ = psi
                b = float(np.exp(log_b))
                at = effective_tokens(curve.tokens, curve.warmup) / (b * np.exp(log_pace))
                left = (curve.loss - curve.baseline) / curve.gap_pruned
                series.setdefault(law.method, []).append((curve, at, left, (float(level), b)))
    if not series:
        return Markup(""), []
    marks = []
    for style, rows in enumerate(series.values()):
        every = max(1, -(-sum(len(at) for _, at, _, _ in rows) // _MOST))
        for curve, at, left, _ in rows:
            words = [
                f"{curve.run}: {format_count(d)} tokens, {value:.0%} of {curve.gap_pruned:.3f} nats are left"
                for d, value in zip(curve.tokens[::every], left[::every], strict=True)
            ]
            small = np.full(len(words), _SIZE)
            shown = words if tips else []
            marks.append(Marks(x=at[::every], y=left[::every], style=style, tips=shown, sizes=small))
    shapes = np.array([shape for rows in series.values() for *_, shape in rows])
    level, b = np.median(shapes, axis=0)
    x = np.geomspace(min(m.x.min() for m in marks), max(m.x.max() for m in marks), _CURVE_POINTS)
    typical = Line(x=x, y=np.exp(level) * (1 + x) ** -b, style=len(series), name=f"the law, b = {b:.2f}")
    chart = Chart(
        title="What is left of the gap, every method in one picture",
        description=f"The gap above the control or the loss before pruning, over the gap right after pruning, against "
        f"tokens over D_s, of {plural(sum(map(len, series.values())), 'run')}; the line is the law with b = {b:.2f}.",
        x_label="D / D_s",
        y_label="gap / G0",
        lines=[typical],
        marks=marks,
        x_format="{:g}".format,
        left=60,
        width=560,
        height=320,
    )
    keys = [Key(svg=legend_key(i, line=False), text=method) for i, method in enumerate(series)]
    keys.append(Key(svg=legend_key(len(series)), text=f"the law, b = {b:.2f}"))
    return draw(chart, ident), keys


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
