"""Hold-outs, baselines, trends, calibration."""

from dataclasses import replace

import numpy as np
import pytest
from laws_cases import RATES, SIZES, TOKENS, control, loss_before, runs

from regrow.errors import InputError
from regrow.laws import Setting, fit, rank_forms, validate, validate_law, validation
from regrow.laws.fitting import fit_group
from regrow.laws.objective import average_slope_difference, huber, metrics


def test_hold_outs_hold_out_what_they_say() -> None:
    by = {h: validate(runs(), h, forms="p2", draws=40)[0] for h in ("tokens", "size", "rate", "run")}
    assert by["tokens"].n_points == 9 * 2
    assert by["size"].n_points == by["rate"].n_points == 3 * 12
    assert by["run"].n_points == 9 * 12
    assert by["size"].outside["params_before"] == pytest.approx(2)
    assert by["rate"].outside["pruning_rate"] == pytest.approx(0.35 / 0.25)
    assert by["tokens"].outside["tokens"] > 1.5
    assert all(r.mape < 0.01 and r.mape <= r.max_ape for r in by.values())
    assert by["tokens"].mape < by["tokens"].baselines["last"]
    assert by["size"].mape < min(by["size"].baselines["last"], by["size"].baselines["chinchilla"])
    assert by["size"].baselines["power"] is None
    assert by["run"].coverage > 0.8


def test_the_highest_rate_is_that_of_every_size() -> None:
    """Whole blocks give each size rates of its own: none of the highest may stay among the fitted."""
    own = [r for size, rates in zip(SIZES, ((0.16, 0.24, 0.33), (0.17, 0.25, 0.34), (0.15, 0.26, 0.36)), strict=True)
           for r in runs(sizes=(size,), rates=rates)]  # fmt: skip
    got = validate(own, "rate", forms="p2", draws=5)[0]
    assert got.n_runs == len(SIZES)
    assert got.outside["pruning_rate"] == pytest.approx(0.36 / 0.26)
    # a size with one rate neither is held out nor decides what is
    lone = runs(sizes=(8 * SIZES[0],), rates=(0.2,))
    assert validate([*own, *lone], "rate", forms="p2", draws=5)[0].n_runs == len(SIZES)


def test_a_size_whose_rates_are_all_high_is_not_held_out_whole() -> None:
    own = [r for size, rates in zip(SIZES, ((0.1, 0.2), (0.15, 0.25), (0.3, 0.5)), strict=True)
           for r in runs(sizes=(size,), rates=rates)]  # fmt: skip
    got = validate(own, "rate", forms="p2", draws=5)[0]
    assert got.n_runs == len(SIZES)
    assert "params_before" not in got.outside
    # nor one that was pruned at a high rate alone
    lone = runs(sizes=(8 * SIZES[0],), rates=(0.4,))
    assert validate([*own, *lone], "rate", forms="p2", draws=5)[0].n_runs == len(SIZES)


def test_a_group_that_cannot_be_read_does_not_stop_the_others() -> None:
    empty = [replace(r, method="width", curve=()) for r in runs()]
    laws = fit([*runs(), *empty], draws=3)
    assert [law.method for law in laws] == ["depth"]
    assert any("width" in line and "no run has a checkpoint" in line for line in laws.skipped)
    checked = validate([*runs(), *empty], "rate", forms="p2", draws=3)
    assert [result.method for result in checked] == ["depth"]
    assert any("no run has a checkpoint" in line for line in checked.skipped)
    with pytest.raises(InputError, match="no run has a checkpoint"):
        fit(empty, draws=3)
    # a family of its own without a control, as a study's distilled runs may be
    other = [replace(r, family="other") for r in runs()]
    controls = [control(n, {round(t): loss_before(n) for t in (1e8, 1e10)}) for n in SIZES]
    laws = fit([*runs(), *other, *controls], baseline="control", draws=3)
    assert [law.family for law in laws] == ["simulated"]
    assert any("no control" in line for line in laws.skipped)
    assert validate([*runs(), *other, *controls], "rate", forms="p2", baseline="control", draws=3)[0].n_runs == 3


def test_mixed_objectives_are_said() -> None:
    mixed = [replace(r, objective="distillation:1" if i % 2 else None) for i, r in enumerate(runs())]
    (law,) = fit(mixed, draws=3)
    assert any("objectives are mixed (cross-entropy, distillation)" in warning for warning in law.warnings)
    assert not any("objectives" in warning for warning in fit(runs(), draws=3)[0].warnings)


def test_forms_are_ranked_by_what_they_did_not_see() -> None:
    results = [*validate(runs(), "rate", draws=5), *validate(runs(), "tokens", draws=5)]
    ranked = rank_forms(results)["simulated", "depth"]
    assert ranked[0][0] in ("p2", "p2_counts", "p2_shifted")
    assert [error for _, error in ranked] == sorted(error for _, error in ranked)
    assert len(ranked) == 8
    assert "baseline_last" in validate(runs(), "rate", forms=["p2"], draws=5).to_frame().columns


def test_what_cannot_be_held_out_is_named() -> None:
    with pytest.raises(InputError, match="2 or more model sizes"):
        validate(runs(sizes=(1e9,)), "size", forms="p2")
    # as with 2:4, whose rate moves only with the share of the embeddings
    by_size = [
        r for size, rate in zip(SIZES, (0.3, 0.33, 0.36), strict=True) for r in runs(sizes=(size,), rates=(rate,))
    ]
    with pytest.raises(InputError, match="no size was pruned at two rates"):
        validate(by_size, "rate", forms="p2")
    with pytest.raises(InputError, match="unknown hold-out"):
        validate(runs(), "sizes")


def test_a_law_validates_its_own_group() -> None:
    width = [replace(r, run=f"w{r.run}") for r in runs(2, method="width")]
    law = fit([*runs(), *width], draws=5)[1]
    got = validate_law(law, [*runs(), *width], "rate", draws=5)
    assert (got.method, got.form, got.hold_out) == ("width", "p2", "rate")
    with pytest.raises(InputError, match="no run of simulated width"):
        validate_law(law, runs())


def test_metrics_by_hand() -> None:
    run, tokens = np.array([0, 0, 1, 1]), np.array([1.0, np.e, 1.0, np.e])
    loss, predicted = np.array([3.0, 2.0, 2.5, 2.0]), np.array([3.0, 2.2, 2.5, 2.0])
    assert average_slope_difference(run, tokens, loss, predicted) == pytest.approx(0.1)
    got = metrics(run, tokens, loss, predicted, np.ones(4))
    assert got["mape"] == pytest.approx(0.025)
    assert got["r2"] == pytest.approx(1 - 0.04 / np.sum((loss - 2.375) ** 2))
    assert huber(np.array([0.5e-3, 2e-3])) == pytest.approx([0.125e-6, 1.5e-6])


@pytest.mark.slow
def test_intervals_cover_new_runs_at_their_nominal_rate() -> None:
    inside, larger = [], []
    for seed in range(60):
        law = fit(runs(seed), draws=100, seed=seed)[0]
        for hits, size in ((inside, 1e9), (larger, 5e9)):
            fresh = runs(10_000 + seed, sizes=(size,), rates=RATES)
            for r in fresh:
                x = Setting(params_before=size, pruning_rate=r.pruning_rate, loss_before=loss_before(size))
                low, high = law.interval(x.at(TOKENS))
                loss = np.array([p.loss for p in r.curve])
                hits.append(np.mean((loss >= low) & (loss <= high)))
    assert 0.85 <= np.mean(inside) <= 0.96
    assert 0.85 <= np.mean(larger) <= 0.96


@pytest.mark.slow
def test_intervals_cover_new_sizes_where_sizes_have_luck() -> None:
    sizes = np.geomspace(0.25e9, 2e9, 6)
    hits = []
    for seed in range(25):
        rng = np.random.default_rng(500 + seed)
        luck = {round(n): 0.05 * rng.standard_normal() for n in (*sizes, 5e9)}
        law = fit(runs(seed, sizes=sizes, tokens=TOKENS[::2], size_effects=luck), draws=100, seed=seed)[0]
        for r in runs(10_000 + seed, sizes=(5e9,), size_effects=luck):
            x = Setting(params_before=5e9, pruning_rate=r.pruning_rate, loss_before=r.loss_before)
            low, high = law.interval(x.at(TOKENS))
            loss = np.array([p.loss for p in r.curve])
            hits.append(np.mean((loss >= low) & (loss <= high)))
    assert np.mean(hits) >= 0.8  # 0.5 and less if runs of one size count as independent


def test_many_runs_narrow_the_interval() -> None:
    many = [replace(r, run=f"{s}-{r.run}") for s in range(5) for r in runs(s)]
    (law,) = fit(many, draws=60)
    low, high = law.intervals()["beta"]
    assert low < 0.45 < high
    assert high - low < 0.05


def test_what_runs_of_one_size_share_widens_the_interval_across_sizes() -> None:
    sizes = np.geomspace(0.25e9, 4e9, 6)
    luck = np.array([1, -1, -1, 1, 1, -1]) * 0.01
    by_size = {round(n): v for n, v in zip(sizes, luck, strict=True)}
    plain = runs(sizes=sizes, run_noise=0)
    common, mixed = (
        [replace(r, curve=tuple(replace(p, loss=p.loss + off(i, r)) for p in r.curve)) for i, r in enumerate(plain)]
        for off in (lambda i, r: by_size[r.params_before], lambda i, r: 0.01 * (-1) ** (i // 2))
    )

    def width(records: list) -> float:
        low, high = fit(records, draws=200)[0].intervals()["delta"]
        return high - low

    assert width(common) > 1.2 * width(mixed)


@pytest.mark.parametrize("form", ["p2", "chinchilla"])
def test_a_run_held_out_is_predicted_as_from_many_starts(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fits without one run begin where that of all runs ended, and come to where many starts come."""
    asked: list[bool] = []
    seen = runs(seed=3, run_noise=0.01)
    near = validate(seen, "run", forms=form, draws=2)[0]

    def from_many(*given, near=None, **more):
        asked.append(near is not None)
        return fit_group(*given, **more)

    monkeypatch.setattr(validation, "fit_group", from_many)
    scratch = validate(seen, "run", forms=form, draws=2)[0]
    assert asked
    assert all(asked)
    assert near.mape == pytest.approx(scratch.mape, rel=1e-5)
    assert near.max_ape == pytest.approx(scratch.max_ape, rel=1e-4)
    assert near.baselines["chinchilla"] == pytest.approx(scratch.baselines["chinchilla"], rel=1e-5)
