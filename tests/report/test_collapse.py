"""The collapse: runs of a known law lie on its curve, whatever their method, rate and size."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

import regrow
from regrow.errors import InputError
from regrow.laws.setting import Setting
from regrow.report.collapse import _curves, collapse_chart
from regrow.report.content import gather
from regrow.report.markdown import render_markdown
from regrow.report.page import render_page
from regrow.runs.record import CurvePoint

SHAPE = {
    "level": 0.0,
    "level_gap": 0.0,
    "exponent_gap": 0.0,
    "exponent_size": 0.0,
    "end": 0.0,
    "drift": 0.0,
    "end_lost": 0.0,
}
PACE = {"depth": 2e4, "width": 6e4}
B = 0.37


@pytest.fixture
def laws(make_law):
    known = make_law(form="regrowth").params
    return [make_law(form="regrowth", method=m, params={**known, **SHAPE, "pace": t}) for m, t in PACE.items()]


@pytest.fixture
def runs(laws, make_run):
    """Two sizes of each method, with a gap right after pruning of their own, on the curve of their law."""
    made = []
    for law in laws:
        for size, gap in ((300_000, 1.4), (1_200_000, 0.3)):
            run = make_run(law, size, 0.25, name=f"{law.method}-{size}")
            at = np.array([float(p.tokens) for p in run.curve if p.tokens > 0])
            x = Setting(params_before=size, pruning_rate=0.25, loss_before=run.loss_before, tokens=at)
            losses = law.loss(x.replace(loss_pruned=run.loss_before + gap))
            curve = [CurvePoint(tokens=int(t), loss=float(v)) for t, v in zip(at, losses, strict=True)]
            start = CurvePoint(tokens=0, loss=run.loss_before + gap)
            made.append(replace(run, curve=(start, *curve)))
    return made


def test_runs_of_the_law_fall_on_one_curve(laws, runs):
    for law in laws:
        found = _curves(law, runs)
        assert len(found) == 2
        for curve, psi in found:
            left = (curve.loss - curve.baseline) / curve.gap_pruned
            scaled = curve.tokens / (B * PACE[law.method])
            np.testing.assert_allclose(left, (1 + scaled) ** -B, rtol=1e-6)
            assert np.exp(psi[1]) * np.exp(psi[2]) == pytest.approx(B * PACE[law.method])


def test_every_reading_is_a_mark_of_its_method(laws, runs):
    chart, keys = collapse_chart(laws, runs, "here")
    tree = ElementTree.fromstring(str(chart))
    marks = [p for p in tree.iter("path") if p.get("class", "").startswith("mark ")]
    assert len(marks) == sum(p.tokens > 0 for run in runs for p in run.curve)
    assert [key.text for key in keys] == ["depth", "width", "the law, b = 0.37", "D / D_s of the fitted runs"]


def test_a_gap_too_small_to_divide_by_is_left_out(laws, runs):
    flat = [replace(run, curve=(CurvePoint(tokens=0, loss=run.loss_before + 0.01), *run.curve[1:])) for run in runs]
    assert not collapse_chart(laws, flat, "here")[0]


def test_a_notebook_shows_it_and_says_what_is_missing(laws, runs, make_law):
    assert "regrow-figure" in regrow.show_collapse(runs, laws)._repr_html_()
    assert regrow.show_collapse(runs, laws[0]).legend[0].text == "depth"
    with pytest.raises(InputError, match="no law of the form regrowth"):
        regrow.show_collapse(runs, make_law(form="p2"))


def test_the_page_has_it_where_a_law_is_of_this_form(laws, runs, make_law):
    content = gather(runs, laws)
    assert content.collapse is not None
    assert "Every method in one picture" in render_page(content, laws, [])
    assert render_markdown(content)
    plain = gather(runs, [make_law(form="p2")])
    assert plain.collapse is None
    assert "Every method in one picture" not in render_page(plain, [make_law(form="p2")], [])


def test_runs_that_were_never_fitted_are_hollow_and_not_shaded(laws, runs):
    fitted, _ = collapse_chart(laws, runs, "here")
    assert "hollow" not in fitted
    names = {run.run for run in runs if run.params_before == max(one.params_before for one in runs)}
    chart, _ = collapse_chart(laws, runs, "here", held_out=names)
    tree = ElementTree.fromstring(str(chart))
    hollow = [p for p in tree.iter("path") if "hollow" in p.get("class", "")]
    assert len(hollow) == sum(p.tokens > 0 for run in runs for p in run.curve if run.run in names)
    # and none at all is shaded where none was fitted
    everything, keys = collapse_chart(laws, runs, "here", held_out={run.run for run in runs})
    assert "fitted-area" not in everything
    assert "fitted runs" not in keys[-1].text
