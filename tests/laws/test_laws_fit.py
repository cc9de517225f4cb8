"""Fits against known truths, thin designs, bad data, and the promise that a fit never fails in silence."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from laws_cases import RATES, SIZES, TOKENS, TRUTH, control, loss_before, runs

from regrow.errors import InputError, RegrowError
from regrow.laws import FORMS, Setting, point
from regrow.laws.fitting import fit
from regrow.laws.forms import find_form
from regrow.laws.objective import huber
from regrow.laws.observations import observe
from regrow.laws.point import fit_point
from regrow.runs.record import CurvePoint
from regrow.runs.table import to_table


def test_truth_without_noise_is_found_exactly() -> None:
    (law,) = fit(runs(run_noise=0, point_noise=0), draws=5)
    assert law.status == "ok"
    for name, value in TRUTH.items():
        assert law.params[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert law.metrics["mape"] < 1e-8


def test_full_law_with_a_size_term_is_recognised() -> None:
    truth = TRUTH | {"alpha": 0.6, "N_C": 0.4 * 0.25**-1.3 * 1e9**0.8}
    (law,) = fit(runs(params=truth, run_noise=0, point_noise=1e-4), draws=5)
    assert law.params["N_C"] > 0
    assert law.params["alpha"] == pytest.approx(0.6, rel=0.2)
    gap = law.gap(Setting(params_before=5e9, pruning_rate=0.25, tokens=1e9, loss_before=2.0))
    true = (5.0**-0.2) * (0.4 * 5.0**-0.6 + 0.4 + 0.4)
    assert gap == pytest.approx(true, rel=0.01)


@pytest.mark.parametrize("form", [name for name in FORMS if name != "regrowth"])  # tests/laws/test_regrowth.py
def test_every_form_finds_its_own_truth(form: str) -> None:
    known = {
        "p2": TRUTH,
        "p2_odds": TRUTH,
        "p2_counts": TRUTH | {"E0": 1.8, "A": 0.9 * 1e9**0.25, "a": 0.25},
        "p2_shifted": TRUTH | {"D_s": 4e8},
        "chinchilla": {"alpha": 0.34, "beta": 0.37, "E": 1.82, "A": 482.0, "B": 2085.0},
        "compression": {"alpha": 1.1, "beta": 0.6, "gamma": 3e6},
        "sparse": {"b_S": 2.0, "b_N": 0.25, "b_D": 0.3, "a_S": 60.0, "c_S": 45.0, "a_D": 6.9e7, "c": 0.65},
    }[form]
    (law,) = fit(runs(form=form, params=known, run_noise=0, point_noise=0), form, draws=3)
    assert law.status in ("ok", "flat")
    assert law.metrics["mape"] < 2e-4
    x = {"params_before": 4e9, "pruning_rate": 0.3, "tokens": 2e10, "loss_before": loss_before(4e9)}
    expected = runs(form=form, params=known, sizes=(4e9,), rates=(0.3,), tokens=(2e10,), run_noise=0, point_noise=0)
    assert float(law.loss(Setting(**x))) == pytest.approx(expected[0].curve[0].loss, rel=5e-3)


def test_linear_and_joint_solution_is_no_worse_than_scipy() -> None:
    from scipy.optimize import minimize

    form = find_form("chinchilla")
    known = {"alpha": 0.34, "beta": 0.37, "E": 1.82, "A": 482.0, "B": 2085.0}
    (seen,) = observe(runs(form="chinchilla", params=known, point_noise=0.02, run_noise=0.02))
    ours = fit_point(form, seen)
    x = seen.x.relative_to(seen.x.reference())
    weights = seen.weights()

    def objective(theta: np.ndarray) -> float:
        return float(np.sum(weights * huber(np.log(form.value(theta[None], x)[0]) - np.log(seen.loss))))

    rng = np.random.default_rng(0)
    best = min(
        minimize(
            objective, rng.uniform(0.05, 1.5, 5), method="L-BFGS-B", bounds=[(0.01, 3), (0.01, 4)] + [(1e-9, None)] * 3
        ).fun
        for _ in range(20)
    )
    assert ours.objective <= best * (1 + 1e-6)
    assert ours.objective == pytest.approx(objective(ours.theta))
    assert ours.agreed >= 6


def test_a_run_with_many_checkpoints_does_not_drown_the_others() -> None:
    few = runs(tokens=TOKENS[::3], run_noise=0)
    odd = runs(tokens=np.geomspace(1e8, 1e10, 300), run_noise=0)[0]
    odd = replace(odd, run="long", curve=tuple(replace(p, loss=p.loss + 0.05) for p in odd.curve))
    (with_long,) = fit([*few, odd], draws=2)
    (plain,) = fit(few, draws=2)
    x = Setting(params_before=1e9, pruning_rate=0.25, tokens=1e9, loss_before=loss_before(1e9))
    assert abs(with_long.loss(x) - plain.loss(x)) < 0.01


def test_same_seed_same_law_and_the_order_of_runs_does_not_matter() -> None:
    (one,), (two,), (turned,) = fit(runs(), draws=20), fit(runs(), draws=20), fit(runs()[::-1], draws=20)
    assert one.params == two.params
    np.testing.assert_array_equal(one.draws, two.draws)
    assert one.fingerprint == turned.fingerprint
    assert turned.params["beta"] == pytest.approx(one.params["beta"], rel=1e-4)
    assert fit(runs(1), draws=2)[0].fingerprint != one.fingerprint


def test_a_table_fits_like_its_runs_and_groups_by_family_and_method() -> None:
    records = [*runs(), *runs(3, method="width"), *runs(4, family="other")]
    records = [replace(r, run=f"{r.family}-{r.method}-{r.run}") for r in records]
    from_records, from_table = fit(records, draws=5), fit(to_table(records), draws=5)
    assert [(x.family, x.method) for x in from_table] == [
        ("simulated", "depth"), ("simulated", "width"), ("other", "depth")
    ]  # fmt: skip
    assert from_records[1].params == pytest.approx(from_table[1].params)
    assert isinstance(from_table.to_frame(), pd.DataFrame)
    assert "beta" in repr(from_table[0])
    assert set(from_table[0].to_frame().columns) == {"value", "low", "high", "meaning"}


# thin designs


def test_one_size() -> None:
    (law,) = fit(runs(sizes=(1e9,)), draws=5)
    assert law.status == "flat"
    assert any("one model size" in w for w in law.warnings)
    assert law.params["delta"] == law.params["N_C"] == 0
    assert law.params["gamma"] == pytest.approx(-1.3, abs=0.1)
    assert law.unsupported == {"params_before": "the runs have one model size, 1B"}
    assert fit(runs(sizes=(1e9,)), draws=5, hold={"delta": 0.2})[0].unsupported == {}
    assert fit(runs(), draws=5)[0].unsupported == {}


def test_one_rate() -> None:
    (law,) = fit(runs(rates=(0.25,)), draws=5)
    assert law.status == "flat"
    assert any("one pruning rate: gamma is held at -1" in w for w in law.warnings)
    assert law.params["delta"] == pytest.approx(0.2, abs=0.05)
    assert law.unsupported == {"pruning_rate": "the runs have one pruning rate, 0.25"}
    # the rate of N:M sparsity follows from the size: it is no choice that the law would have to support
    assert fit(runs(rates=(0.5,), method="2:4"), draws=5)[0].unsupported == {}


def test_one_size_and_one_rate_is_one_curve() -> None:
    (law,) = fit(runs(sizes=(1e9,), rates=(0.25,)), draws=5)
    assert law.status == "flat"
    assert (law.params["gamma"], law.params["delta"]) == (-1, 0)
    assert any("1 run" in w and "lower limit" in w for w in law.warnings)


def test_a_rate_that_moves_only_with_the_size() -> None:
    records = [
        r for size, rate in zip(SIZES, (0.38, 0.42, 0.46), strict=True) for r in runs(sizes=(size,), rates=(rate,))
    ]
    (law,) = fit(records, draws=5)
    assert law.status == "flat"
    assert law.params["gamma"] == -1
    assert any("gamma and delta cannot be told apart" in w for w in law.warnings)


def test_two_sizes() -> None:
    (law,) = fit(runs(sizes=SIZES[:2]), draws=5)
    assert law.status == "flat"
    assert any("N_C and E cannot be told apart" in w and "delta alone" in w for w in law.warnings)


def test_few_runs_borrow_the_spread_of_the_other_methods() -> None:
    thin = [replace(r, run=f"x{r.run}") for r in runs(5, rates=(0.5,), method="2:4")]
    laws = fit([*runs(), *thin], draws=50)
    (alone,) = fit(thin, draws=50)
    assert any("shared with the family's other methods" in w for w in laws[1].warnings)
    assert laws[1].diagnostics["run_dof"] > alone.diagnostics["run_dof"]


def test_a_group_that_is_too_small_is_named_and_the_others_are_fitted() -> None:
    stub = replace(runs(method="width")[0], run="stub")
    stub = replace(stub, curve=stub.curve[:2])
    laws = fit([*runs(), stub], draws=3)
    assert [law.method for law in laws] == ["depth"]
    assert "simulated width" in laws.skipped[0]
    with pytest.raises(InputError, match=r"2 different token counts.*3 or more"):
        fit([stub])


# bad data


def test_zero_tokens_are_left_out_and_said_or_used() -> None:
    records = runs(form="p2_shifted", params=TRUTH | {"D_s": 4e8}, tokens=np.r_[0, TOKENS])
    (law,) = fit(records, draws=3)
    assert any("9 losses at 0 tokens" in w for w in law.warnings)
    (shifted,) = fit(records, "p2_shifted", draws=3)
    assert shifted.n_points == law.n_points + 9
    assert shifted.params["D_s"] == pytest.approx(4e8, rel=0.1)
    zero = shifted.loss(Setting(params_before=1e9, pruning_rate=0.25, tokens=0, loss_before=loss_before(1e9)))
    assert np.isfinite(zero)


def test_all_equal_losses() -> None:
    flat = [replace(r, curve=tuple(replace(p, loss=3.0) for p in r.curve)) for r in runs()]
    (law,) = fit(flat, draws=3)
    assert any("all 108 losses are equal" in w for w in law.warnings)
    assert law.metrics["r2"] is None


def test_losses_below_the_baseline_are_said() -> None:
    low = [replace(r, loss_before=r.loss_before + 0.3) for r in runs()]
    (law,) = fit(low, draws=3)
    assert any("lie below the initial baseline" in w for w in law.warnings)


def test_infinite_and_duplicated_checkpoints_are_refused_and_unsorted_ones_sorted() -> None:
    first, *rest = runs()
    infinite = replace(first, curve=(*first.curve, CurvePoint(tokens=2 * 10**10, loss=float("inf"))))
    with pytest.raises(InputError, match=r"run 500000000-0.15: loss inf at 20000000000 tokens"):
        fit([infinite, *rest])
    with pytest.raises(InputError, match="two checkpoints at 100000000 tokens"):
        fit([replace(first, curve=(first.curve[0], *first.curve)), *rest])
    (turned,) = fit([replace(first, curve=first.curve[::-1]), *rest], draws=3)
    assert turned.fingerprint == fit(runs(), draws=3)[0].fingerprint


def test_two_runs_of_one_name_and_only_controls_are_refused() -> None:
    with pytest.raises(InputError, match="two runs named"):
        fit([*runs(), *runs()])
    with pytest.raises(InputError, match="only unpruned controls"):
        fit([control(1e9, {10**9: 2.0})])
    with pytest.raises(InputError, match="no runs"):
        fit([])


# baselines


def drifting(size: float) -> dict[int, float]:
    return {round(t): loss_before(size) + 0.05 * (t / 1e9) ** 0.1 for t in TOKENS}


def test_a_drifting_control_is_said_and_the_control_baseline_removes_it() -> None:
    controls = [control(n, drifting(n)) for n in SIZES]
    shifted = [
        replace(r, curve=tuple(replace(p, loss=p.loss + 0.05 * (p.tokens / 1e9) ** 0.1) for p in r.curve))
        for r in runs()
    ]
    (law,) = fit([*shifted, *controls], draws=3)
    assert any("control drifts" in w and "+0.063 nats at 1B" in w for w in law.warnings)
    (against,) = fit([*shifted, *controls], draws=3, baseline="control")
    assert against.baseline == "control"
    assert against.params["beta"] == pytest.approx(0.45, abs=0.02)
    assert not any("drifts" in w for w in against.warnings)
    # either way, both are reported
    both = fit([*shifted, *controls], draws=3)
    assert [law.baseline for law in (*both, *both.other_baseline)] == ["initial", "control"]
    assert both.other_baseline[0].params == against.params
    assert "From the other baseline" in repr(both)


def test_a_control_that_stays_needs_no_second_baseline() -> None:
    still = [control(n, {round(t): loss_before(n) for t in TOKENS}) for n in SIZES]
    assert fit([*runs(), *still], draws=3).other_baseline == ()


def test_a_second_baseline_that_cannot_be_had_is_left_out() -> None:
    lonely = [control(SIZES[0], drifting(SIZES[0]))]
    laws = fit([*runs(), *lonely], draws=3)
    assert any("drifts" in w for w in laws[0].warnings)
    assert laws.other_baseline == ()


def test_a_missing_control_is_refused_by_size_and_none_is_extrapolated() -> None:
    with pytest.raises(InputError, match="no control with 2B parameters"):
        fit([*runs(), *(control(n, drifting(n)) for n in SIZES[:2])], baseline="control")
    short = [control(n, {t: v for t, v in drifting(n).items() if t < 5e9}) for n in SIZES]
    (law,) = fit([*runs(), *short], baseline="control", draws=3)
    assert any("outside the control's tokens" in w for w in law.warnings)
    assert law.ranges["tokens"][1] < 5e9


def test_noise_common_to_all_runs_is_detected() -> None:
    shared = 0.003 * np.random.default_rng(5).standard_normal(len(TOKENS))
    same = [
        replace(r, curve=tuple(replace(p, loss=p.loss + s) for p, s in zip(r.curve, shared, strict=True)))
        for r in runs(point_noise=0.0005)
    ]
    assert any("noise is shared" in w for w in fit(same, draws=3)[0].warnings)
    assert not any("noise is shared" in w for w in fit(runs(point_noise=0.003), draws=3)[0].warnings)


def test_a_form_that_bends_otherwise_than_the_curves_is_said() -> None:
    bent = runs(form="p2_shifted", params=TRUTH | {"D_s": 2e9}, point_noise=0.0005)
    assert any("bend otherwise" in w for w in fit(bent, draws=3)[0].warnings)
    assert not any("bend otherwise" in w for w in fit(bent, "p2_shifted", draws=3)[0].warnings)
    assert not any("bend otherwise" in w for w in fit(runs(point_noise=0.008), draws=3)[0].warnings)


def test_hold_and_its_mistakes() -> None:
    (law,) = fit(runs(), draws=5, hold={"gamma": -1.0})
    assert law.params["gamma"] == -1.0
    assert np.all(law.draws[:, 2] == -1.0)
    # in natural units, also where the fit has others of its own
    (law,) = fit(runs(), "compression", draws=5, hold={"gamma": 2e8})
    assert law.params["gamma"] == pytest.approx(2e8)
    with pytest.raises(InputError, match="D_s held at 0; the form p2 is the one without it"):
        fit(runs(), "p2_shifted", hold={"D_s": 0})
    with pytest.raises(InputError, match=r"a held at 0\.3; it is fitted to the losses before pruning alone"):
        fit(runs(), "p2_counts", hold={"a": 0.3})
    with pytest.raises(InputError, match=r"beta held at 1e\+06; it is looked for between 0.01 and 4"):
        fit(runs(), hold={"beta": 1e6})
    with pytest.raises(InputError, match="gamma held at nan"):
        fit(runs(), hold={"gamma": math.nan})
    with pytest.raises(InputError, match=r"unknown parameter to hold 'gama'.*did you mean 'gamma'"):
        fit(runs(), hold={"gama": 0})
    with pytest.raises(InputError, match="a coefficient can be held at 0 only"):
        fit(runs(), hold={"E": 1.0})
    with pytest.raises(InputError, match="unknown baseline"):
        fit(runs(), baseline="initally")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_table_gives_laws_with_a_status_or_the_projects_own_error(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    rows = []
    for i in range(count):
        size = data.draw(st.sampled_from([3e5, 1e6, 8e9]))
        rate = data.draw(st.sampled_from([0.05, 0.3, 0.9]))
        points = data.draw(st.integers(1, 6))
        odd = st.sampled_from([float("nan"), float("inf"), -1.0, 0.0])
        value = st.one_of(st.floats(0.01, 20), odd) if data.draw(st.integers(0, 9)) == 0 else st.floats(0.01, 20)
        for _ in range(points):
            rows.append(
                {
                    "run": f"r{i}",
                    "family": "f",
                    "method": data.draw(st.sampled_from(["depth", "depth", "none"])) if i == 0 else "depth",
                    "params_before": size,
                    "params_after": round(size * (1 - rate)),
                    "tokens": data.draw(st.integers(0, 10**6)) * 1000,
                    "loss": data.draw(value),
                    "loss_before": 2.0,
                }
            )  # fmt: skip
    form = data.draw(st.sampled_from(list(FORMS)))
    message = ""
    try:
        laws = list(fit(pd.DataFrame(rows), form, draws=3))
    except RegrowError as refused:
        laws, message = [], str(refused)
    assert "\n" not in message
    assert bool(message) != bool(laws)
    for law in laws:
        assert law.status in ("ok", "bound", "flat", "failed")
        assert np.isfinite(law.theta).all()
        assert np.isfinite(law.draws).all()
        got = law.predict(params_before=1e6, pruning_rate=0.3, tokens=1e6, loss_before=2.0)
        assert got.low <= got.loss <= got.high


def test_rates_of_zero_are_pointed_to_controls() -> None:
    with pytest.raises(InputError, match=r"a pruning rate of 0.*method none"):
        fit([replace(r, pruning_rate=0.0) for r in runs()])
    assert len(RATES) == 3


def test_starts_screened_on_a_part_of_the_checkpoints_end_at_the_same_law(monkeypatch: pytest.MonkeyPatch) -> None:
    (seen,) = observe(runs(run_noise=0.004))
    whole = fit_point(find_form("p2"), seen)
    monkeypatch.setattr(point, "_SCREENED", len(seen) // 3)
    part = fit_point(find_form("p2"), seen)
    assert part.objective == pytest.approx(whole.objective, rel=1e-6)
    assert part.theta == pytest.approx(whole.theta, rel=1e-3, abs=1e-4)
