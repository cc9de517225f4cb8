"""One step against turns, by a law whose curves are known in closed form."""

from __future__ import annotations

import json

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import Setting, load_laws
from regrow.planning.stages import COST, compare_stages, cost_factors, predicted_ends
from regrow.runs import CurvePoint, RunRecord
from regrow.runs.stages import Stage


@pytest.fixture(scope="module")
def law():
    return next(law for law in load_laws("reference") if law.method == "depth")


AT = {"params_before": 1e6, "pruning_rate": 0.5, "loss_before": 3.0}


def test_the_turns_are_the_law_read_once_for_each(law):
    found = compare_stages(law, Setting(**AT, loss_pruned=5.0), [0.25, 0.5], 2e6)
    guess = float(law.loss(Setting(**{**AT, "pruning_rate": 0.25}, tokens=0.0)))
    one = float(law.loss(Setting(**AT, loss_pruned=5.0, tokens=2e6)))
    first = float(law.loss(Setting(**{**AT, "pruning_rate": 0.25}, loss_pruned=guess, tokens=1e6)))
    second = float(law.loss(Setting(**AT, loss_pruned=first + COST * (5.0 - guess), tokens=1e6)))
    assert found.one.loss == pytest.approx(one)
    assert [step.loss for step in found.turns] == pytest.approx([first, second])
    assert found.turns[1].loss_start == found.turns[0].loss
    assert found.difference == pytest.approx(second - one)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high
    assert json.loads(json.dumps(found.to_dict()))["one"]["tokens"] == 2e6


def test_draws_each_go_on_from_their_own_first_stage(law):
    """The interval is that of whole chains: of one draw by hand."""
    found = compare_stages(law, Setting(**AT, loss_pruned=5.0), [0.25, 0.5], 2e6, level=0.999999)
    guess = found.turns[0].loss_pruned
    first = law.loss_draws(Setting(**{**AT, "pruning_rate": 0.25}, loss_pruned=guess, tokens=1e6))
    one = law.loss_draws(Setting(**AT, loss_pruned=5.0, tokens=2e6))
    offs, costs = [], cost_factors(1 + len(first))[1:]
    for number in range(len(first)):
        start = first[number] + costs[number] * (5.0 - guess)
        ends = law.loss_draws(Setting(**AT, loss_pruned=start, tokens=1e6))
        offs.append(ends[number] - one[number])
    assert (found.low, found.high) == pytest.approx((np.min(offs), np.max(offs)), abs=1e-4)


def test_a_run_is_predicted_from_what_each_of_its_prunings_cost(law):
    curve = tuple(CurvePoint(tokens=t, loss=v) for t, v in ((0, 3.6), (1000, 3.4), (2000, 3.5)))
    stages = (
        Stage(pruning_rate=0.25, params_after=750_000, tokens=0, loss_start=3.0, loss_pruned=3.6),
        Stage(pruning_rate=0.5, params_after=500_000, tokens=1000, loss_start=3.4, loss_pruned=4.1),
    )
    run = RunRecord(
        run="r", family="f", method="depth", params_before=1_000_000, params_after=500_000, pruning_rate=0.5,
        loss_before=3.0, curve=curve, stages=stages,
    )  # fmt: skip
    expected = [
        float(law.loss(Setting(**{**AT, "pruning_rate": 0.25}, loss_pruned=3.6, tokens=1000.0))),
        float(law.loss(Setting(**AT, loss_pruned=4.1, tokens=1000.0))),
    ]
    assert predicted_ends(law, run) == pytest.approx(expected)


def test_a_law_that_does_not_know_the_start_is_refused(make_law):
    with pytest.raises(InputError, match="does not know what a pruning costs at once"):
        compare_stages(make_law(), Setting(**AT), [0.25, 0.5], 1e6)
    with pytest.raises(InputError, match="must rise"):
        compare_stages(make_law(), Setting(**AT), [0.5, 0.25], 1e6)
