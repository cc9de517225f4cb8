"""Builds the page: gathers what was measured, fitted and planned, and lays it out in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.planning.plan import Plan
from regrow.report import planner, present
from regrow.report.curves import LEVEL, fits_of
from regrow.report.figures import control_keys, curve_panels, drift_chart, parameter_rows, residual_chart
from regrow.report.trends import trends_of
from regrow.runs.record import RunRecord

_TEMPLATES = Path(__file__).parent / "templates"


def build_report(
    runs: Sequence[RunRecord],
    laws: Sequence[Law],
    plans: Sequence[Plan] = (),
    *,
    title: str = "Post-training after pruning",
    held_out: Sequence[RunRecord] = (),
    validation_rows: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
) -> str:
    """One self-contained HTML page: no network, no trackers, no time stamp; equal inputs give equal pages.

    Args:
        runs: what was measured: fitted runs and unpruned controls.
        laws: fitted laws, one section each.
        plans: answers, shown first.
        title: heading of the page.
        held_out: runs that no law was fitted on; runs whose size or rate lies outside a law's data count as such, too.
        validation_rows: results of `regrow validate`, with the keys of its `--json`.
        notes: whatever else the reader must know, in plain words.

    Any of the sequences may be empty. All text that comes from outside is escaped.
    """
    everything = [*runs, *held_out]
    controls = sorted((r for r in everything if r.is_control), key=lambda r: (r.family, r.params_before, r.run))
    sections, held_out_rows, said = [], [], list(notes)
    for i, law in enumerate(laws):
        section, row, left_out = _law_section(law, runs, held_out, ident=f"law-{i}")
        sections.append(section)
        said += left_out
        if row is not None:
            held_out_rows.append(row)
    data = planner.payload(laws, plans)
    page = _environment().get_template("page.html.j2")
    return page.render(
        title=title,
        summary=_summary(everything, laws, plans),
        css=Markup(_read("style.css")),
        level=f"{LEVEL:.0%}",
        plans=[present.plan_card(plan) for plan in plans],
        notes=list(dict.fromkeys(said)),
        planner=data is not None,
        planner_json=planner.as_script(data),
        planner_js=Markup(_read("planner.js") + _read("planner_ui.js")),
        no_planner=f"the page evaluates the forms {', '.join(planner.EVALUATED)} only. Use `regrow plan`.",
        laws=sections,
        held_out=held_out_rows,
        validation=[present.validation_row(row) for row in validation_rows],
        controls=_controls(controls),
        provenance=_provenance(laws),
    )


def write_report(
    runs: Sequence[RunRecord],
    laws: Sequence[Law],
    plans: Sequence[Plan] = (),
    *,
    out: str | Path,
    title: str = "Post-training after pruning",
    held_out: Sequence[RunRecord] = (),
    validation_rows: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write the page of `build_report` to `out` and return its path. Raises `InputError` if it can't be written."""
    page = build_report(runs, laws, plans, title=title, held_out=held_out, validation_rows=validation_rows, notes=notes)
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"can't write here ({error.strerror or error})", where=str(path), hint="choose another --out"
        ) from None
    return path


def _law_section(
    law: Law, runs: Sequence[RunRecord], held_out: Sequence[RunRecord], *, ident: str
) -> tuple[dict[str, Any], present.Row | None, list[str]]:
    fits, left_out = fits_of(law, runs, held_out)
    panels, keys = curve_panels(law, fits, ident)
    trends = trends_of(law, fits)
    section = {
        "id": ident,
        "heading": f"{law.family}, {law.method}",
        "about": present.about_law(law),
        "warnings": law.warnings,
        "panels": panels,
        "legend": keys,
        "residuals": residual_chart(law, fits, f"{ident}-residuals"),
        "runs": present.run_rows(fits),
        "points": present.point_rows(fits),
        "parameters": present.parameter_cells(parameter_rows(law)),
        "trends": present.trend_table(trends) if trends else None,
    }
    return section, present.held_out_row(law, fits), left_out


def _controls(controls: Sequence[RunRecord]) -> dict[str, Any] | None:
    if not controls:
        return None
    return {
        "svg": drift_chart(controls, "controls-drift"),
        "legend": control_keys(controls),
        "rows": [present.control_row(run) for run in controls],
    }


def _summary(runs: Sequence[RunRecord], laws: Sequence[Law], plans: Sequence[Plan]) -> str:
    def some(n: int, what: str) -> str:
        return f"{n} {what}{'' if n == 1 else 's'}"

    parts = (some(len(runs), "run"), some(len(laws), "fitted law"), some(len(plans), "plan"))
    return f"How many tokens a pruned model needs to recover: {parts[0]}, {parts[1]}, {parts[2]}."


def _provenance(laws: Sequence[Law]) -> str:
    try:
        made_by = f"regrow {version('regrow')}"
    except PackageNotFoundError:
        made_by = "regrow"
    prints = ", ".join(f"{law.family}/{law.method} {law.fingerprint}" for law in laws if law.fingerprint)
    return f"Made by {made_by}." + (f" Data fingerprints: {prints}." if prints else "")


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
