"""The content of a report: tables in words, and charts. Page, Markdown and picture lay it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from markupsafe import Markup

from regrow.laws.law import Law
from regrow.planning.alternatives import Alternatives
from regrow.planning.answer import Plan
from regrow.planning.frontier import Comparison
from regrow.report import present
from regrow.report.alternatives import (
    AlternativeSection,
    ScoreSection,
    score_sections,
    scratch_sections,
    stage_sections,
)
from regrow.report.card import Card, held_out_words, plan_card, plans_table
from regrow.report.collapse import collapse_chart
from regrow.report.curves import LEVEL, fits_of, thinned
from regrow.report.figures import (
    Key,
    Panel,
    curve_panels,
    drift_chart,
    frontier_chart,
    parameter_rows,
    residual_chart,
)
from regrow.report.scored import heading as law_heading
from regrow.report.trends import trends_of
from regrow.runs.record import RunRecord
from regrow.units import plural

#: Up to this many checkpoints each mark has a tooltip; more would weigh too much, and stand in the table alone.
_MOST_TIPS = 300
#: The note beside methods and rates if no comparison was asked for.
_TO_CHOOSE = (
    "Less pruning ends at a lower loss, so the rows trade loss against the parameters that are left. Say how many may "
    "be left (--params-after) to get a choice."
)
#: Bootstrap draws that bands and trends are drawn by, at most; the tables of parameters and the plans use all.
_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class LawSection:
    """One law: where it comes from, its curves by size, residuals, runs, parameters and trends."""

    ident: str
    heading: str
    about: str
    formula: str
    warnings: tuple[str, ...]
    panels: tuple[Panel, ...]
    legend: tuple[Key, ...]
    residuals: Markup
    runs: present.Table
    points: present.Table
    parameters: present.Table
    checks: present.Table | None
    trends: present.Table | None


@dataclass(frozen=True, kw_only=True)
class ComparisonSection:
    """Methods and rates side by side, on how many tokens each is trained, and what could not be planned.

    `sentence` is the choice if a comparison was asked for; otherwise it says how to ask for one.
    """

    heading: str
    sentence: str
    stopping: str
    chart: Markup
    legend: tuple[Key, ...]
    table: present.Table
    refused: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ControlSection:
    """How far the unpruned controls moved."""

    chart: Markup
    legend: tuple[Key, ...]
    table: present.Table


@dataclass(frozen=True, kw_only=True)
class CollapseSection:
    """The runs of all methods around one curve."""

    heading: str
    chart: Markup
    legend: tuple[Key, ...]


@dataclass(frozen=True, kw_only=True)
class Content:
    """All parts of a report; those without data are empty or None. `sure` has the held-out errors of each law."""

    title: str
    summary: str
    measured: str
    no_planner: str
    level: str
    cards: tuple[Card, ...]
    plans: present.Table | None
    scores: tuple[ScoreSection, ...]
    stages: tuple[AlternativeSection, ...]
    scratch: tuple[AlternativeSection, ...]
    comparisons: tuple[ComparisonSection, ...]
    notes: tuple[str, ...]
    laws: tuple[LawSection, ...]
    sure: tuple[str, ...]
    collapse: CollapseSection | None
    held_out: present.Table | None
    validation: present.Table | None
    controls: ControlSection | None
    provenance: str


def gather(
    runs: Sequence[RunRecord],
    laws: Sequence[Law],
    plans: Sequence[Plan] = (),
    *,
    title: str = "Post-training after pruning",
    held_out: Sequence[RunRecord] = (),
    validation_rows: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
    alternatives: Sequence[Alternatives] = (),
    comparisons: Sequence[Comparison] = (),
    comparison_asked: bool = True,
) -> Content:
    """Gather a report's content; the arguments are those of `regrow.report.build_report` and `Parts`."""
    everything = [*runs, *held_out]
    few = sum(len(run.curve) for run in everything) <= _MOST_TIPS
    sections, unseen, remarks = [], [], list(notes)
    for i, law in enumerate(laws):
        section, row, left_out = _law_section(law, runs, held_out, ident=f"law-{i}", tips=few)
        sections.append(section)
        remarks += left_out
        if row is not None:
            unseen.append(row)
    return Content(
        title=title,
        summary=_summary(everything, laws, plans),
        measured=_measured(laws),
        no_planner=_no_planner(laws),
        level=f"{LEVEL:.0%}",
        cards=tuple(plan_card(plan, laws, validation_rows) for plan in plans),
        plans=plans_table(plans) if len(plans) > 1 else None,
        scores=score_sections(plans, laws),
        stages=stage_sections(alternatives, laws),
        scratch=scratch_sections(alternatives, laws),
        comparisons=tuple(
            _comparison_section(one, f"frontier-{i}", asked=comparison_asked) for i, one in enumerate(comparisons)
        ),
        notes=tuple(dict.fromkeys(remarks)),
        laws=tuple(sections),
        sure=tuple(held_out_words(law, validation_rows) for law in laws),
        collapse=_collapse_section(laws, everything, held_out, tips=few),
        held_out=present.held_out_table(unseen) if unseen else None,
        validation=present.validation_table(validation_rows) if validation_rows else None,
        controls=_control_section(everything, laws),
        provenance=_provenance(laws),
    )


def _law_section(
    law: Law, runs: Sequence[RunRecord], held_out: Sequence[RunRecord], *, ident: str, tips: bool
) -> tuple[LawSection, present.Row | None, list[str]]:
    few = thinned(law, _DRAWS)
    fits, left_out = fits_of(few, runs, held_out)
    panels, keys = curve_panels(few, fits, ident, tips=tips)
    trends = trends_of(few, fits) if law.benchmark is None else None
    heading = law_heading(law)
    section = LawSection(
        ident=ident,
        heading=heading,
        about=present.about_law(law),
        formula=present.formula_of(law),
        warnings=tuple(law.warnings),
        panels=tuple(panels),
        legend=tuple(keys),
        residuals=residual_chart(law, fits, f"{ident}-residuals", tips=tips),
        runs=present.run_table(law, fits, heading),
        points=present.point_table(law, fits, heading),
        parameters=present.parameter_table(parameter_rows(law), heading),
        checks=present.check_table(trends.checks, heading) if trends else None,
        trends=present.trend_table(trends, heading) if trends else None,
    )
    return section, present.held_out_row(law, fits), left_out


def _comparison_section(comparison: Comparison, ident: str, *, asked: bool) -> ComparisonSection:
    if not asked:
        # less pruning always ends at a lower loss: without a limit the choice would contradict the plan above
        rows = tuple(replace(row, chosen=False) for row in comparison.candidates)
        comparison = replace(comparison, candidates=rows)
    chart, keys = frontier_chart(comparison, ident)
    refused = tuple(
        f"{one.method}{'' if one.pruning_rate is None else f' at {one.pruning_rate:.3g}'}: {one.why}"
        for one in comparison.refused
    )
    return ComparisonSection(
        heading=f"{comparison.family} of {present.count(comparison.spec.base.size)}",
        sentence=comparison.sentence() if asked else _TO_CHOOSE,
        stopping=comparison.stopping(),
        chart=chart,
        legend=tuple(keys),
        table=present.comparison_table(comparison),
        refused=refused,
    )


def _collapse_section(
    laws: Sequence[Law], runs: Sequence[RunRecord], held_out: Sequence[RunRecord], *, tips: bool
) -> CollapseSection | None:
    of_losses = [law for law in laws if law.benchmark is None]
    unseen = {run.run for run in held_out}
    chart, keys = collapse_chart(of_losses, runs, "collapse-chart", tips=tips, held_out=unseen)
    several = len({law.method for law in of_losses}) > 1
    heading = f"Every {'method' if several else 'run'} in one picture"
    return CollapseSection(heading=heading, chart=chart, legend=tuple(keys)) if chart else None


def _control_section(runs: Sequence[RunRecord], laws: Sequence[Law]) -> ControlSection | None:
    controls = sorted(
        (r for r in runs if r.is_control and r.has_losses), key=lambda r: (r.family, r.params_before, r.run)
    )
    if not controls:
        return None
    ends = [law.ranges["tokens"] for law in laws if law.status != "failed" and law.benchmark is None]
    fitted = (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None
    chart, keys = drift_chart(controls, "controls-drift", fitted=fitted)
    return ControlSection(chart=chart, legend=tuple(keys), table=present.control_table(controls))


def _measured(laws: Sequence[Law]) -> str:
    """What the laws' runs were measured by."""
    kinds = {"losses" if law.benchmark is None else "scores" for law in laws}
    return " and ".join(sorted(kinds)) or "losses"


def _no_planner(laws: Sequence[Law]) -> str:
    """Why the page has no planner, where it has none."""
    if any(law.benchmark is not None and law.status != "failed" for law in laws):
        return "it reads losses; regrow plan plans scores"
    return "every law failed to fit"


def _summary(runs: Sequence[RunRecord], laws: Sequence[Law], plans: Sequence[Plan]) -> str:
    there = {"run": len(runs), "fitted law": len(laws), "plan": len(plans)}
    parts = [plural(n, what) for what, n in there.items() if n]
    return f"How many tokens a pruned model needs to recover: {', '.join(parts) or 'nothing measured yet'}."


def _provenance(laws: Sequence[Law]) -> str:
    try:
        made_by = f"regrow {version('regrow')}"
    except PackageNotFoundError:
        made_by = "regrow"
    prints = ", ".join(f"{law.family}/{law.method} {law.fingerprint}" for law in laws if law.fingerprint)
    return f"Made by {made_by}." + (f" Data fingerprints: {prints}." if prints else "")
