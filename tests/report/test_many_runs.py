"""A report of very many runs: some are drawn, all are counted, and the page stays light."""

from __future__ import annotations

import numpy as np
import pytest

from regrow.laws.law import Law
from regrow.report.content import gather
from regrow.report.curves import fits_of, spaced, thinned
from regrow.report.figures import curve_panels
from regrow.report.page import render_page
from regrow.report.trends import trends_of
from regrow.runs.record import RunRecord

SIZES = (300_000, 600_000, 1_200_000)
RATES = np.linspace(0.15, 0.35, 100).round(4)


@pytest.fixture
def many(make_law, make_run) -> tuple[Law, list[RunRecord]]:
    law = make_law()
    return law, [make_run(law, size, float(rate)) for size in SIZES for rate in RATES]


def test_an_even_choice_is_drawn_and_all_are_counted(many) -> None:
    law, runs = many
    fits, notes = fits_of(law, runs, [])
    assert len(fits) == 300
    shown = [fit for fit in fits if fit.shown]
    assert 20 <= len(shown) <= 200
    assert {fit.run.params_before for fit in shown} == set(SIZES)
    assert {0.15, 0.35} <= {fit.run.pruning_rate for fit in shown}
    assert any(f"{len(shown)} of 300 fitted runs of tiny-llama, depth are drawn" in note for note in notes)
    # a run that is not drawn is judged like any other
    alone = fits_of(law, [runs[1]], [])[0][0]
    same = next(fit for fit in fits if fit.run.run == runs[1].run)
    np.testing.assert_allclose(same.predicted, alone.predicted)
    assert same.mape == pytest.approx(alone.mape)
    assert same.share_inside is not None
    assert 0.7 < np.mean([fit.share_inside for fit in fits]) <= 1.0


def test_the_legend_stays_short_and_the_page_light(many) -> None:
    law, runs = many
    fits, _ = fits_of(law, runs, [])
    panels, keys = curve_panels(law, fits, "x")
    assert len(panels) == 3
    assert len(keys) <= 9  # of eight rates, and of the shading
    page = render_page(gather(runs, [law]), [law], [])
    assert len(page.encode()) < 1_500_000
    assert page.count(runs[150].run) >= 1  # the table of runs has them all


def test_the_table_of_trends_is_bounded(many) -> None:
    law, runs = many
    trends = trends_of(law, fits_of(law, runs, [])[0])
    assert trends is not None
    assert len(trends.rates) <= 8
    assert all(len(cells) == len(trends.rates) for _, cells in trends.rows)
    assert all(cell.measured for _, cells in trends.rows for cell in cells)


def test_held_out_runs_are_chosen_for_themselves(many, make_law) -> None:
    law, runs = many
    fits, notes = fits_of(law, runs[:290], runs[290:])
    assert sum(fit.shown for fit in fits if fit.held_out) >= 4
    assert any("of 10 held out runs" in note for note in notes)


def test_spaced_values_hold_both_ends() -> None:
    assert spaced([1, 2, 3], 5) == [1, 2, 3]
    assert spaced(list(range(100)), 3) == [0, 50, 99]
    assert spaced(list(range(9)), 1) == [4]


def test_a_thinned_law_keeps_its_point_and_an_even_choice_of_draws(make_law) -> None:
    law = make_law(draws=np.arange(7.0)[None, :] + np.arange(5000.0)[:, None])
    few = thinned(law, 1000)
    assert len(few.draws) == 1000
    np.testing.assert_array_equal(few.draws[1], law.draws[5])
    assert few.params == law.params
    assert thinned(law, 5000) is law
