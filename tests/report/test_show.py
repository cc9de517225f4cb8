"""Figures for notebooks: what is drawn, that it is whole, and that it stays within itself."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

import regrow
from regrow.errors import InputError


def parsed(figure: regrow.report.Figure) -> ElementTree.Element:
    """The figure as a tree: HTML that is also XML, so that an element left open is an error."""
    return ElementTree.fromstring(figure._repr_html_())


def marks(figure: regrow.report.Figure) -> list[ElementTree.Element]:
    charts = [svg for svg in parsed(figure).iter("svg") if "chart" in svg.get("class", "")]
    return [path for svg in charts for path in svg.iter("path") if path.get("class", "").startswith("mark ")]


def test_measured_curves_need_no_law(study) -> None:
    depth = [run for run in study.runs if run.method in ("depth", "none")]
    figure = regrow.show_curves(depth)
    assert [panel.heading for panel in figure.panels] == [
        "300k parameters", "600k parameters", "1.2M parameters", "3M parameters"
    ]  # fmt: skip
    assert [key.text for key in figure.legend] == ["depth at 0.15", "depth at 0.25", "depth at 0.35", "unpruned"]
    # every evaluation but the one at 0 tokens, which a log axis has no place for
    assert len(marks(figure)) == sum(point.tokens > 0 for run in depth for point in run.curve)


def test_families_are_told_apart(make_law, make_run) -> None:
    runs = [make_run(make_law(family=family), 300_000, 0.25, name=family) for family in ("a", "b")]
    assert [panel.heading for panel in regrow.show_curves(runs).panels] == ["300k parameters, a", "300k parameters, b"]


def test_a_law_draws_its_own_runs_and_marks_those_it_never_saw(study) -> None:
    law = study.laws[0]
    figure = regrow.show_curves([*study.runs, *study.held_out], law)
    assert [panel.held_out for panel in figure.panels] == [False, False, False, True]
    assert "held out: never fitted" in figure.html
    mine = [run for run in (*study.runs, *study.held_out) if run.method == law.method]
    assert len(marks(figure)) == len(marks(regrow.show_residuals([*study.runs, *study.held_out], law))) == 9 * len(mine)


def test_controls_and_comparisons(study, comparison) -> None:
    assert len(marks(regrow.show_controls(study.runs))) == 4 * 9
    figure = regrow.show_comparison(comparison)
    assert len(marks(figure)) == len(comparison.candidates)
    assert [key.text for key in figure.legend] == ["depth", "width", "rates of the fitted runs"]


def test_figures_on_one_page_share_no_ids_and_no_rules(study) -> None:
    figures = [regrow.show_curves(study.runs), *(regrow.show_curves(study.runs, law) for law in study.laws)]
    ids = [node.get("id") for figure in figures for node in parsed(figure).iter() if node.get("id")]
    assert len(ids) == len(set(ids)) > 0
    for selectors in re.findall(r"([^{}]+){", parsed(figures[0]).findtext("style") or ""):
        assert all(name.strip().startswith(".regrow-figure") for name in selectors.split(","))
    assert figures[0].html == regrow.show_curves(study.runs).html


def test_what_is_named_from_outside_is_text(make_law, make_run) -> None:
    law = make_law(family="<b>x</b>")
    run = make_run(law, 300_000, 0.25, name="<script>")
    for figure in (regrow.show_curves([run]), regrow.show_curves([run], law)):
        assert "<script>" not in figure.html
        assert "<b>" not in figure.html


def test_nothing_to_draw_is_one_line(study, make_law) -> None:
    with pytest.raises(InputError, match="no run has a loss"):
        regrow.show_curves([])
    with pytest.raises(InputError, match="no run of other, depth"):
        regrow.show_curves(study.runs, make_law(family="other"))
    with pytest.raises(InputError, match="no unpruned control"):
        regrow.show_controls([run for run in study.runs if not run.is_control])
