"""The report's charts one at a time, as a notebook shows them: the last line of a cell is drawn."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from markupsafe import Markup, escape

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.planning.frontier import Comparison
from regrow.report.collapse import collapse_chart
from regrow.report.curves import LEVEL, RunFit, fits_of
from regrow.report.figures import (
    Key,
    Panel,
    curve_panels,
    drift_chart,
    frontier_chart,
    measured_panels,
    residual_chart,
)
from regrow.report.picture import flat_style
from regrow.runs.record import RunRecord

_LAYOUT = {
    ".reading": "color:#57606a;margin:.25rem 0 .5rem",
    ".panels": "display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(20rem,100%),1fr))",
    ".heading": "font-weight:600",
    ".legend": "display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;margin:0 0 .5rem",
    ".key": "width:32px;height:14px;vertical-align:-2px;margin-right:.4rem",
    ".key.bare": "width:16px",
    "svg.chart": "width:100%;max-width:40rem;height:auto;display:block;font-size:11px;overflow:visible",
}
_PAPER = "background:#fff;color:#1b1f24;padding:.75rem;font:14px/1.5 system-ui,sans-serif;max-width:60rem"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Charts with their legend and a sentence on how to read them. A notebook draws it; `html` is what it draws.

    The HTML holds its style and needs nothing from outside, so it can be put into any page.
    """

    title: str
    reading: str
    panels: tuple[Panel, ...]
    legend: tuple[Key, ...]

    @property
    def html(self) -> str:
        """The figure as one self-contained element."""
        # plain elements with classes: pages style figures, headings and lists of their own
        keys = "".join(f"<span>{key.svg}{escape(key.text)}</span>" for key in self.legend)
        charts = "".join(
            f"<div>{_div('heading', _heading(panel))}{panel.svg}</div>" if panel.heading else str(panel.svg)
            for panel in self.panels
        )
        return (
            f'<div class="regrow-figure" role="figure" aria-label="{escape(self.title)}"><style>{_style()}</style>'
            f"{_div('heading', self.title)}{_div('reading', self.reading)}"
            f'<div class="legend">{keys}</div>'
            f'<div class="{"panels" if len(self.panels) > 1 else "panel"}">{charts}</div></div>'
        )

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"{self.title}. {self.reading}"


def show_curves(runs: Sequence[RunRecord], law: Law | None = None) -> Figure:
    """Held-out losses against tokens, a panel per size; with a law, its predictions as lines with bands.

    Args:
        runs: what was measured. With a law, those of its family and method are shown, and its controls used.
        law: a fitted law; sizes and rates outside what it was fitted on are marked as held out.

    Raises `InputError` where there is nothing to draw.
    """
    if law is None:
        panels, keys = measured_panels(runs, _ident("curves", [run.run for run in runs]))
        title, reading = "Held-out loss after pruning", "Marks are measured, lines only join them."
    else:
        panels, keys = curve_panels(law, _fits(law, runs), _ident("curves", repr(law), [r.run for r in runs]))
        title = f"{law.family}, {law.method}: measured and predicted"
        reading = f"Marks are measured, lines predicted; bands hold {LEVEL:.0%} of new runs."
    if not panels:
        raise InputError("no run has a loss after 0 tokens", where="show_curves", hint="give runs that were trained")
    return Figure(title=title, reading=reading, panels=tuple(panels), legend=tuple(keys))


def show_residuals(runs: Sequence[RunRecord], law: Law) -> Figure:
    """Measured over predicted loss at each checkpoint, a row per run. A curved row is a shape that the form can't
    describe.

    Raises `InputError` where the law has no run here.
    """
    fits = _fits(law, runs)
    return _one(
        f"{law.family}, {law.method}: residuals",
        "Measured over predicted loss, a row per run (size, rate), small models on top; hollow: held out.",
        residual_chart(law, fits, _ident("residuals", repr(law), [fit.run.run for fit in fits])),
    )


def show_controls(runs: Sequence[RunRecord]) -> Figure:
    """How far the loss of unpruned models moved on the same tokens. Raises `InputError` where there is no control."""
    controls = sorted((run for run in runs if run.is_control), key=lambda run: (run.family, run.params_before, run.run))
    chart, keys = drift_chart(controls, _ident("controls", [run.run for run in controls]))
    if not chart:
        raise InputError("no unpruned control among the runs", where="show_controls", hint="a study makes them")
    return _one("Drift of the unpruned controls", "Loss minus the loss before training.", chart, keys)


def show_collapse(runs: Sequence[RunRecord], laws: Law | Sequence[Law]) -> Figure:
    """What is left of the gap right after pruning, against tokens over D_s, all methods in one picture.

    Args:
        runs: what was measured, with the controls.
        laws: of the form `regrowth`; each is drawn with the runs of its family and method.

    Raises `InputError` where no law is of that form, or none of its runs was read right after pruning.
    """
    given = [laws] if isinstance(laws, Law) else list(laws)
    names = [(law.family, law.method) for law in given]
    chart, keys = collapse_chart(given, runs, _ident("collapse", names, [run.run for run in runs]))
    if not chart:
        raise InputError(
            "no law of the form regrowth with runs that were read right after pruning",
            where="show_collapse",
            hint="fit with form='regrowth', and give the law's runs",
        )
    return _one(
        "What is left of the gap, every method in one picture",
        "A mark is a reading: its gap over the gap right after pruning (G0), against its tokens over D_s of the law.",
        chart,
        keys,
    )


def show_comparison(comparison: Comparison) -> Figure:
    """Loss against the parameters left, a mark per method and rate."""
    chart, keys = frontier_chart(comparison, _ident("comparison", comparison.sentence()))
    return _one(
        f"Methods and rates for {comparison.family}",
        "Labels are pruning rates. Full marks are on the frontier, hollow ones are beaten; larger marks cost more.",
        chart,
        keys,
    )


def _one(title: str, reading: str, chart: Markup, keys: Sequence[Key] = ()) -> Figure:
    return Figure(
        title=title, reading=reading, panels=(Panel(heading="", held_out=False, svg=chart),), legend=tuple(keys)
    )


def _fits(law: Law, runs: Sequence[RunRecord]) -> list[RunFit]:
    fits, notes = fits_of(law, runs, [])
    if not fits:
        why = f"; {notes[0]}" if notes else ""
        raise InputError(f"no run of {law.family}, {law.method} to draw{why}", where="show", hint="give the law's runs")
    return fits


def _div(css: str, text: str) -> str:
    return f'<div class="{css}">{escape(text)}</div>'


def _heading(panel: Panel) -> str:
    return panel.heading + (", held out: never fitted" if panel.held_out else "")


def _ident(*what: object) -> str:
    """An id for the parts of a chart that must differ between charts on one page, and repeat from run to run."""
    return f"{what[0]}-{hashlib.sha256(repr(what).encode()).hexdigest()[:8]}"


@cache
def _style() -> str:
    """The charts' style sheet on white paper, each rule confined to the figure, as a page around it has its own."""
    rules = [*re.findall(r"([^{}]+){([^{}]*)}", flat_style()), *_LAYOUT.items()]
    scoped = (
        f"{','.join(f'.regrow-figure {name.strip()}' for name in selectors.split(','))}{{{declarations.strip()}}}"
        for selectors, declarations in rules
    )
    return f".regrow-figure{{{_PAPER}}}{''.join(scoped)}"
