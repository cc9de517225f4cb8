"""Pruning against training from scratch, where both curves are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regrow.errors import InputError
from regrow.laws import Setting, load_laws
from regrow.planning.curves import Curves
from regrow.planning.scratch import compare_scratch, fitted_curve, scratch_curve, stated_curve

AT = Setting(params_before=1e6, pruning_rate=0.5, loss_before=3.0, loss_pruned=4.0)
#: E, A, alpha, B, beta of a family of small models
TRUE = (1.5, 40.0, 0.3, 400.0, 0.4)


@pytest.fixture(scope="module")
def law():
    return next(law for law in load_laws("reference") if law.method == "depth")


def chinchilla(params: float, tokens: float) -> float:
    e, a, alpha, b, beta = TRUE
    return e + a * params**-alpha + b * tokens**-beta


def test_a_stated_curve_is_the_formula():
    curve = stated_curve("E=1.5, A=40, alpha=0.3, B=400, beta=0.4")
    assert curve.loss(5e5, np.array([1e6, 1e9]))[0] == pytest.approx([chinchilla(5e5, 1e6), chinchilla(5e5, 1e9)])
    assert curve.most == math.inf


def test_break_even_is_where_the_curves_cross(law):
    curve = stated_curve("E=1.5,A=40,alpha=0.3,B=400,beta=0.4")
    found = compare_scratch(law, AT, 5e5, curve, tokens=1e6)
    assert found.break_even is not None
    pruned = float(Curves(law, AT).point().loss(np.array([found.break_even]))[0, 0])
    assert chinchilla(5e5, found.break_even) == pytest.approx(pruned, rel=1e-4)
    # before it pruning leads, and after it the model from scratch does
    for times, sign in ((0.5, 1), (2.0, -1)):
        at = times * found.break_even
        assert sign * (chinchilla(5e5, at) - float(law.loss(AT.at(at)))) > 0
    assert found.low is None or found.low < found.break_even
    assert found.high is None or found.high > found.break_even
    # what the plan's tokens buy, and what they would take from scratch
    own = float(law.loss(AT.at(1e6)))
    assert found.lead == pytest.approx(chinchilla(5e5, 1e6) - own)
    assert found.match is not None
    assert chinchilla(5e5, found.match) == pytest.approx(own, rel=1e-3)
    assert json.loads(json.dumps(found.to_dict()))["break_even"] == found.break_even


def test_the_interval_holds_the_draws_crossings(law):
    curve = stated_curve("E=1.5,A=40,alpha=0.3,B=400,beta=0.4")
    found = compare_scratch(law, AT, 5e5, curve, tokens=None, level=0.5)
    grid = np.geomspace(1e4, 6e7, 4000)
    scratch = np.array([chinchilla(5e5, t) for t in grid])
    crossed = []
    for row in Curves(law, AT).loss(grid)[1:]:
        even = np.flatnonzero(scratch <= row)
        crossed.append(grid[even[0]] if even.size else np.inf)
    low, high = np.quantile(np.array(crossed), [0.25, 0.75], method="nearest")
    assert found.low == pytest.approx(low, rel=0.03)
    assert found.high == pytest.approx(high, rel=0.03)


def test_no_number_is_given_beyond_what_the_runs_support(law):
    never = compare_scratch(law, AT, 5e5, stated_curve("E=9,A=0,alpha=1,B=1,beta=1"), tokens=None)
    assert (never.break_even, never.low, never.high) == (None, None, None)
    assert "pruning leads up to 67.1M tokens" in never.reason
    always = compare_scratch(law, AT, 5e5, stated_curve("E=1,A=0,alpha=1,B=0,beta=1"), tokens=None)
    assert always.break_even is None
    assert "as good from the first reading" in always.reason
    assert always.lines()[0].endswith(always.reason)


def test_a_curve_is_fitted_to_pretraining_runs(law, tmp_path: Path):
    rng = np.random.default_rng(0)
    rows = [
        {"run": f"{n:.0f}-{d:.0f}", "params": n, "tokens": d, "loss": chinchilla(n, d) * np.exp(rng.normal(0, 0.002))}
        for n in (1e5, 3e5, 1e6, 3e6)
        for d in (3e6, 1e7, 3e7, 1e8)
    ]
    path = tmp_path / "pretraining.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    curve = scratch_curve(str(path))
    assert curve.loss(5e5, np.array([2e7]))[0, 0] == pytest.approx(chinchilla(5e5, 2e7), rel=0.01)
    assert len(curve.loss(5e5, np.array([2e7]))) > 100
    assert curve.most == 16 * 1e8
    found = compare_scratch(law, AT, 5e5, curve, tokens=1e6)
    stated = compare_scratch(law, AT, 5e5, stated_curve("E=1.5,A=40,alpha=0.3,B=400,beta=0.4"), tokens=1e6)
    assert found.break_even == pytest.approx(stated.break_even, rel=0.2)
    assert "fitted to 16 runs in pretraining.csv" in found.curve.how
    assert not found.warnings
    # counts as people write them are the same table
    short = pd.DataFrame(rows).assign(
        params=lambda t: [f"{n / 1e6:g}M" for n in t.params], tokens=lambda t: [f"{d:g}" for d in t.tokens]
    )
    short.to_csv(path, index=False)
    again = scratch_curve(str(path))
    assert again.loss(5e5, np.array([2e7]))[0, 0] == curve.loss(5e5, np.array([2e7]))[0, 0]
    assert "was fitted to 100k to 3M" in compare_scratch(law, AT, 5e7, curve, tokens=None).warnings[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("E=1,A=2,alpha=0.3,B=4", "beta missing"),
        ("E=1,A=2,alpha=x,B=4,beta=1", "'alpha=x' is no coefficient"),
        ("E=1,A=-2,alpha=0.3,B=4,beta=1", "'A=-2' is no coefficient"),
        ("E=1,A=2,alpha=0,B=4,beta=1", "alpha is 0"),
        ("E=1,A=2,alpha=0.3,B=4,beta=0", "beta is 0"),
        ("E=1e308,A=1e308,alpha=0.3,B=4,beta=1", "E + A + B is inf"),
        ("E=0,A=0,alpha=0.3,B=0,beta=1", "E + A + B is 0"),
        ("F=1", "unknown coefficient 'F'"),
        ("E=1,A=2,alpha=0.3,B=4,beta=1,E=2", "E is given twice"),
        ("nowhere.csv", "no such table"),
        (".", "a folder, not a table"),
    ],
)
def test_a_curve_that_cannot_be_is_one_line(text, says):
    with pytest.raises(InputError) as refused:
        scratch_curve(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_table_that_is_none_is_one_line(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("params,tokens\n1,2\n")
    with pytest.raises(InputError, match="the column loss missing"):
        fitted_curve(path)
    path.write_text("params,tokens,loss\n1e6,1e7,3.1\n1e6,,3.0\n")
    with pytest.raises(InputError, match="tokens in row 3 is no positive number"):
        fitted_curve(path)
    path.write_text("params,tokens,loss\n1M,1e7,3.1\n1X,1e7,3.0\n")
    with pytest.raises(InputError, match="params in row 3 is no positive number"):
        fitted_curve(path)
