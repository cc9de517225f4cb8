"""D* by size and rate, and the checks that stand beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regrow.planning import PlanSpec, plan
from regrow.report.curves import fits_of
from regrow.report.trends import trends_of
from regrow.runs.record import CurvePoint


def test_cells_are_what_a_plan_says(make_law, make_run) -> None:
    law = make_law()
    runs = [make_run(law, 300_000, 0.15), make_run(law, 1_200_000, 0.35)]
    trends = trends_of(law, fits_of(law, runs, [])[0])
    assert trends is not None
    assert trends.rates == (0.15, 0.35)
    for (size, cells), before in zip(trends.rows, (3.72, 3.2), strict=True):
        for rate, cell in zip(trends.rates, cells, strict=True):
            spec = PlanSpec(params_before=size, pruning_rate=rate, loss_before=before)
            assert cell.tokens == pytest.approx(plan(law, spec).tokens, rel=1e-6)
            assert cell.measured == ((size, rate) in ((300_000, 0.15), (1_200_000, 0.35)))


def test_the_papers_trends_are_told_as_the_law_has_them(make_law, make_run) -> None:
    law = make_law()
    odd = make_law(params={**law.params, "gamma": 0.5, "delta": -0.2})
    runs = [make_run(law, size, rate) for size in (300_000, 1_200_000) for rate in (0.15, 0.35)]
    for each, holds in ((law, True), (odd, False)):
        trends = trends_of(each, fits_of(each, runs, [])[0])
        assert trends is not None
        told = {check.name: check.holds for check in trends.checks}
        assert told["D* rises with rate"] is holds
        assert told["D* falls with size"] is holds


def test_rates_that_sizes_round_differently_share_a_column(make_law, make_run) -> None:
    law = make_law()
    trends = trends_of(law, fits_of(law, [make_run(law, 300_000, 0.24), make_run(law, 600_000, 0.25)], [])[0])
    assert trends is not None
    assert trends.rates == (0.24,)


def test_without_runs_there_is_no_table(make_law) -> None:
    assert trends_of(make_law(), []) is None


def test_a_long_run_is_drawn_at_an_even_choice_of_its_checkpoints(make_law, make_run) -> None:
    law = make_law()
    short = make_run(law, 300_000, 0.15)
    assert len(fits_of(law, [short], [])[0][0].kept) == len(short.curve) - 1  # but the loss right after pruning
    tokens = np.geomspace(1e4, 2e6, 500).astype(int)
    points = tuple(CurvePoint(tokens=int(d), loss=4.0 - 0.1 * i / 500) for i, d in enumerate(tokens))
    (fit,), _ = fits_of(law, [replace(short, curve=points)], [])
    assert len(fit.tokens) == 500
    drawn, measured, predicted = fit.drawn
    assert len(drawn) == len(measured) == len(predicted) == 40
    assert (drawn[0], drawn[-1]) == (tokens[0], tokens[-1])
    assert np.diff(np.log(drawn)).max() < 1.5 * np.diff(np.log(drawn)).min()
