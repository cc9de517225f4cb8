"""A form of one's own, with a column that no form of the package reads, through every use of a law.

Nothing but this file knows the form or its column.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from laws_cases import RATES, SIZES, TOKENS, loss_before

from regrow.errors import InputError
from regrow.laws import FORMS, Column, Setting, add_form, fit, load_laws, save_laws, validate
from regrow.laws.forms import Form, Identified, Parameter, Simpler
from regrow.laws.setting import LOSS_BEFORE, distinct
from regrow.laws.setting import TOKENS as TOKENS_COLUMN
from regrow.laws.simulate import simulate
from regrow.planning import CompareSpec, Gain, PlanSpec, compare, plan
from regrow.report import build_report
from regrow.report.page import read
from regrow.report.planner import as_script, forms_script, payload
from regrow.runs.table import from_table, to_table

KEPT = Column(name="heads_kept", spoken="share of heads kept", designed=True, below=1.0)


class Heads(Form):
    """L0 + (1 - kept)^a (B D^-b + E): the gap depends on the heads that are left, and on nothing else."""

    name = "heads"
    formula = "L0 + (1 - heads_kept)^a * (B*D^-b + E)"
    citation = "this test"
    columns = (KEPT, TOKENS_COLUMN, LOSS_BEFORE)
    parameters = (
        Parameter(
            name="a",
            meaning="how fast the gap grows with the heads removed",
            lower=0.01,
            upper=8,
            start=(0.5, 2),
            effect_of="heads_kept",
        ),
        Parameter(name="b", meaning="how fast the gap closes", lower=0.01, upper=4, start=(0.1, 1)),
        Parameter(name="B", meaning="size of the gap", linear=True),
        Parameter(name="E", meaning="what stays of it", linear=True, at_lower="E is 0: nothing stays"),
    )
    javascript = "(p, s) => falling(s.loss_before, Math.pow(1 - s.heads_kept, p.a) * p.E, Math.pow(1 - s.heads_kept, p.a) * p.B, p.b, 0)"  # fmt: skip  # noqa: E501

    def baseline(self, theta, x):
        return np.broadcast_to(x.loss_before, (len(theta), len(x)))

    def value_and_jacobian(self, theta, x, *, jacobian=True):
        a, b, size, floor = (theta[:, i, None] for i in range(4))
        log_lost, log_d = np.log1p(-x["heads_kept"]), x.log("tokens")
        lost, power = np.exp(a * log_lost), np.exp(-b * log_d)
        value = self.baseline(theta, x) + lost * (size * power + floor)
        if not jacobian:
            return value, None
        rows = [lost * (size * power + floor) * log_lost, -lost * size * power * log_d, lost * power, lost]
        return value, np.stack(rows, axis=1)

    def slope(self, theta, x):
        a, b, size = (theta[:, i, None] for i in range(3))
        return -b * size * np.exp(a * np.log1p(-x["heads_kept"]) - b * x.log("tokens"))

    def scales(self, theta, ref):
        return {"B": ref["tokens"] ** theta[:, 1]}

    def identify(self, x, *, where):
        if distinct(x["heads_kept"]).size > 1:
            return Identified(simpler=(Simpler(zero=("E",), note="nothing stays of the gap, as far as these runs go"),))
        return Identified(held={"a": 1.0}, notes=("one share of heads: a is held at 1",))


TRUTH = {"a": 1.5, "b": 0.4, "B": 4.0 * 1e9**0.4, "E": 1.0}


def kept(size: float, rate: float) -> dict[str, float]:
    return {"heads_kept": 1 - rate * (1 + 0.3 * (size == 1e9))}


@pytest.fixture
def heads():
    add_form(Heads())
    yield FORMS["heads"]
    del FORMS["heads"]


def runs(seed: int = 0, **changes):
    return simulate(
        TRUTH, form="heads", sizes=SIZES, rates=RATES, tokens=TOKENS, loss_before=loss_before, others=kept,
        run_noise=0.004, point_noise=0.002, seed=seed, **changes,
    )  # fmt: skip


def test_it_is_fitted_from_a_table_that_has_the_column(heads) -> None:
    table = to_table(runs())
    table["heads_kept"] = [kept(n, rate)["heads_kept"] for n, rate in zip(table["params_before"], table["pruning_rate"], strict=True)]  # fmt: skip  # noqa: E501
    (law,) = fit(from_table(table), "heads", draws=50)
    for name, value in TRUTH.items():
        assert law.params[name] == pytest.approx(value, rel=0.5 if name == "B" else 0.15), name
    assert law.ranges["heads_kept"] == (pytest.approx(1 - 0.35 * 1.3), pytest.approx(0.85))
    assert law.unsupported == {}
    (plain,) = fit(runs(), "p2", draws=3)
    assert "heads_kept" not in plain.ranges


def test_it_is_validated_and_predicts(heads) -> None:
    (result,) = validate(runs(), "rate", forms=["heads"], draws=50)
    assert result.mape < 0.004
    assert result.outside["heads_kept"] > 1
    (law,) = fit(runs(), "heads", draws=50)
    asked = {"tokens": 1e9, "loss_before": 2.0, "heads_kept": 0.7}
    answer = law.predict(**asked)
    assert answer.loss == pytest.approx(2.0 + 0.3**1.5 * (4 + 1), abs=0.01)
    assert answer.extrapolates == {"loss_before": pytest.approx(law.ranges["loss_before"][0] and law.ranges["loss_before"][0] / 2.0)} or not answer.extrapolates  # fmt: skip  # noqa: E501
    far = law.predict(**asked | {"heads_kept": 0.3})
    assert far.extrapolates["heads_kept"] > 1.5
    with pytest.raises(InputError, match=r"no heads_kept, which the form heads reads"):
        law.predict(tokens=1e9, loss_before=2.0, params_before=1e9, pruning_rate=0.25)
    with pytest.raises(InputError, match=r"heads_kept 1\.5"):
        law.predict(**asked | {"heads_kept": 1.5})


def test_it_goes_to_a_file_and_plans(heads, tmp_path) -> None:
    save_laws(fit(runs(), "heads", draws=50), tmp_path / "law.json")
    (law,) = load_laws(tmp_path / "law.json")
    spec = PlanSpec(
        params_before=1e9, pruning_rate=0.25, loss_before=2.0, others={"heads_kept": 0.7}, criterion=Gain(min_gain=0.05)
    )
    answer = plan(law, spec)
    beta = law.params["b"]
    closed = (0.3 ** law.params["a"] * law.params["B"] * (1 - 2**-beta) / 0.05) ** (1 / beta)
    assert answer.tokens == pytest.approx(closed, rel=1e-6)
    assert answer.tokens_low < answer.tokens < answer.tokens_high
    with pytest.raises(InputError, match="no heads_kept"):
        plan(law, replace(spec, others={}))
    rows = compare([law], CompareSpec(base=replace(spec, pruning_rate=None), rates=(0.2, 0.3)))
    assert len(rows.candidates) == 2


def test_one_value_of_the_column_supports_no_other(heads) -> None:
    same = [replace(run, details={"heads_kept": 0.7}) for run in runs()]
    (law,) = fit(same, "heads", draws=5)
    assert law.params["a"] == 1.0
    assert law.status == "flat"
    assert law.unsupported == {"heads_kept": "the runs have one share of heads kept, 0.7"}
    with pytest.raises(InputError, match=r"can't say what happens at a share of heads kept of 0\.4"):
        plan(law, PlanSpec(params_before=1e9, pruning_rate=0.25, loss_before=2.0, others={"heads_kept": 0.4}))
    assert fit(same, "heads", draws=5, hold={"a": 1.5})[0].unsupported == {}


def test_runs_that_lack_the_column_are_left_out_or_refused_by_name(heads) -> None:
    first, *rest = runs()
    (law,) = fit([replace(first, details={}), *rest], "heads", draws=5)
    assert f"left out, the share of heads kept is not known: {first.run}" in law.warnings
    with pytest.raises(InputError, match=r"no run says its share of heads kept, which the form heads reads"):
        fit([replace(run, details={}) for run in runs()], "heads")
    with pytest.raises(InputError, match=r"run .*: heads_kept is 'most'"):
        fit([replace(first, details={"heads_kept": "most"}), *rest], "heads")


def test_it_is_reported_and_the_page_gets_it(heads) -> None:
    records = runs()
    laws = fit(records, "heads", draws=50)
    ask = PlanSpec(params_before=1e9, pruning_rate=0.25, loss_before=2.0, others={"heads_kept": 0.7})
    page = build_report(records, laws, [plan(laws[0], ask)])
    assert "L0 + (1 - heads_kept)^a" in page
    assert '"heads": (p, s) => falling' in page
    data = json.loads(page.split('id="planner-data">')[1].split("</script>")[0])
    assert [c["name"] for c in data["laws"][0]["columns"]] == ["heads_kept", "tokens", "loss_before"]


def test_the_page_plans_with_it_as_plan_does(heads, tmp_path) -> None:
    if shutil.which("node") is None:
        pytest.skip("no Node here: apt-get install nodejs")
    (law,) = fit(runs(), "heads", draws=50)
    ask = {"params_before": 1e9, "pruning_rate": 0.25, "loss_before": 2.0, "others": {"heads_kept": 0.4}}
    answer = plan(law, PlanSpec(**ask, criterion=Gain(min_gain=0.1)))
    assert answer.tokens_reason is None
    data = payload([law], [answer])
    assert data is not None
    assert data["start"]["heads_kept"] == 0.4
    assert [other["label"] for other in data["others"]] == ["Share of heads kept"]
    asked = data["start"] | {"min_gain": 0.1, "trial": 0, "loss_pruned": None}
    code = forms_script() + read("planner.js") + read("planner_answer.js")
    code += f"const data = prepare({as_script(data)});"
    code += f"console.log(JSON.stringify({{ ...planFor(data, {json.dumps(asked)}), curves: null }}));"
    (tmp_path / "page.js").write_text(code)
    done = subprocess.run(["node", str(tmp_path / "page.js")], capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    for name in ("tokens", "tokens_low", "tokens_high", "loss", "loss_low", "loss_high", "floor"):
        assert told[name] == pytest.approx(getattr(answer, name), rel=1e-6), name
    assert told["extrapolates"] == pytest.approx(dict(answer.extrapolates), rel=1e-6)
    assert "heads_kept" in told["extrapolates"]


def test_a_form_without_javascript_is_reported_without_the_planner(heads, monkeypatch) -> None:
    monkeypatch.setattr(Heads, "javascript", "")
    laws = [*fit(runs(), "heads", draws=5), *fit(runs(), "p2", draws=5)]
    page = build_report(runs(), laws)
    data = json.loads(page.split('id="planner-data">')[1].split("</script>")[0])
    assert data["laws"][0]["refused"] == "This page can't evaluate the form heads: plan with it by regrow plan."
    assert data["laws"][1]["refused"] == ""


def test_the_derivatives_are_right(heads) -> None:
    theta = np.array([[1.2, 0.5, 0.8, 0.3]])
    x = Setting(
        {"tokens": 1e9}, heads_kept=np.array([0.6, 0.8]), tokens=np.array([5e8, 2e9]), loss_before=np.array([2.0, 2.2])
    )
    _, jacobian = heads.value_and_jacobian(theta, x)
    for i in range(4):
        step = np.zeros_like(theta)
        step[0, i] = 1e-6
        numeric = (heads.value(theta + step, x) - heads.value(theta - step, x)) / 2e-6
        np.testing.assert_allclose(jacobian[:, i], numeric, rtol=1e-6)


def test_a_name_is_taken_once(heads) -> None:
    with pytest.raises(InputError, match="a form 'heads' is known already"):
        add_form(Heads())


def test_loss_pruned_is_a_column_like_any_other() -> None:
    """The reading at 0 tokens, or the column of a table; it is kept through a table and back."""
    from regrow.laws.observations import observe
    from regrow.laws.setting import LOSS_PRUNED
    from regrow.runs.record import CurvePoint

    records = [replace(run, curve=(CurvePoint(tokens=0, loss=5.0), *run.curve)) for run in simulated()]
    (seen,) = observe(records, columns=(LOSS_PRUNED,))
    assert set(seen.x.loss_pruned) == {5.0}
    table = to_table(simulated())
    table["loss_pruned"] = 4.5
    (seen,) = observe(pd.DataFrame(table), columns=(LOSS_PRUNED,))
    assert set(seen.x.loss_pruned) == {4.5}
    (seen,) = observe(simulated(), columns=(LOSS_PRUNED,))
    assert np.isnan(seen.x.loss_pruned).all()
    assert "loss_pruned" not in seen.x.ranges()


def simulated():
    from laws_cases import runs as plain

    return plain()
