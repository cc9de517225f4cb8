"""What the charts' legends and groups say."""

from __future__ import annotations

import re

import numpy as np
import pytest

from regrow.report.axes import Axis, padded
from regrow.report.curves import fits_of
from regrow.report.figures import curve_panels, drift_chart, frontier_chart, rate_groups, residual_chart
from regrow.report.present import run_table


def fits(law, make_run, cells):
    return fits_of(law, [make_run(law, size, rate) for size, rate in cells], [])[0]


def test_rates_that_differ_by_whole_blocks_share_a_key(make_law, make_run) -> None:
    law = make_law()
    cells = [(1_200_000, 0.163), (300_000, 0.169), (600_000, 0.172), (1_200_000, 0.327), (300_000, 0.337)]
    seen = fits(law, make_run, cells)
    assert rate_groups([fit.run for fit in seen]) == [["0.163", "0.169", "0.172"], ["0.327", "0.337"]]
    _, keys = curve_panels(law, seen, "x")
    texts = ["rate 0.163 to 0.172", "rate 0.327 to 0.337", "tokens of the fitted runs"]
    assert [key.text for key in keys] == texts


def test_two_rates_of_one_size_are_two(make_law, make_run) -> None:
    law = make_law()
    seen = fits(law, make_run, [(1_200_000, 0.25), (1_200_000, 0.26), (300_000, 0.25)])
    assert rate_groups([fit.run for fit in seen]) == [["0.25"], ["0.26"]]


def test_what_was_fitted_is_shaded_wherever_the_axis_has_it(study, comparison) -> None:
    """Tokens of the curves and of the controls, and the rates as the parameters that they leave."""
    law, controls = study.laws[0], [run for run in study.runs if run.is_control]
    drift, keys = drift_chart(controls, "d", fitted=law.ranges["tokens"])
    assert "fitted-area" in drift
    assert keys[-1].text == "tokens of the fitted runs"
    plain, keys = drift_chart(controls, "d")
    assert "fitted-area" not in plain
    assert "fitted runs" not in keys[-1].text
    # rates of 0.15 to 0.35 of 3M leave 1.95M to 2.55M; the default candidates lie at the ends and inside
    chart, keys = frontier_chart(comparison, "f")
    left, width = map(float, re.search(r'fitted-area" x="([\d.]+)" y="10" width="([\d.]+)"', chart).groups())
    low, high = padded(np.array([row.plan.params_after for row in comparison.candidates], dtype=float))
    x = Axis(low=low, high=high, start=70, end=550)
    assert (left, left + width) == pytest.approx((x(1.95e6), x(2.55e6)), abs=0.2)
    assert keys[-1].text == "rates of the fitted runs"


def test_errors_of_scores_are_in_points(make_law, make_run) -> None:
    law = make_law(target="score:mmlu")
    run = make_run(make_law(), 600_000, 0.25)
    fit = fits(make_law(), lambda *_: run, [(600_000, 0.25)])[0]
    off = 100 * (fit.predicted - fit.loss)
    chart = residual_chart(law, [fit], "r")
    assert f"{off[0]:+.2f} points at" in chart
    assert "measured minus predicted, points" in chart
    table = run_table(law, [fit], "runs")
    assert table.rows[0].cells[-3] == f"{np.mean(np.abs(off)):.2f}"
