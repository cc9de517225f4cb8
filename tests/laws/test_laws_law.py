"""Predictions and law files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from laws_cases import loss_before, runs

from regrow.errors import InputError
from regrow.laws import Setting, fit, load_laws, samples, save_laws, select_law
from regrow.laws.law import Law
from regrow.laws.samples import blocks, quantiles

INSIDE = {"params_before": 1e9, "pruning_rate": 0.25, "tokens": 1e9, "loss_before": loss_before(1e9)}
OLD = Path(__file__).parent / "fixtures" / "law_format_1.json"


@pytest.fixture(scope="module")
def law() -> Law:
    return fit(runs(), draws=60)[0]


def test_loss_broadcasts_and_draws_lead(law: Law) -> None:
    tokens = np.geomspace(1e8, 1e10, 5)
    rates = np.array([0.2, 0.3])[:, None]
    x = Setting(**INSIDE).replace(tokens=tokens, pruning_rate=rates)
    assert law.loss(x).shape == (2, 5)
    assert law.loss_draws(x).shape == (60, 2, 5)
    assert law.loss(Setting(**INSIDE)).shape == ()
    assert np.all(np.diff(law.loss(x)) < 0)
    np.testing.assert_allclose(law.gap(x), law.loss(x) - INSIDE["loss_before"])
    step = law.loss(x.replace(tokens=tokens * 1.0001)) - law.loss(x)
    np.testing.assert_allclose(law.slope(x), step / np.log(1.0001), rtol=1e-3)


def test_intervals_nest(law: Law) -> None:
    run, mean, wide = law.predict(**INSIDE), law.predict(**INSIDE, of="mean"), law.predict(**INSIDE, level=0.99)
    assert wide.low < run.low < mean.low < mean.loss < mean.high < run.high < wide.high
    assert law.predict(**INSIDE) == run
    assert run.extrapolates == {}


def test_extrapolation_says_what_and_how_far(law: Law) -> None:
    got = law.predict(**(INSIDE | {"params_before": 5e9, "tokens": 1e7, "loss_before": 2.0})).extrapolates
    assert got["params_before"] == pytest.approx(2.5)
    assert got["tokens"] == pytest.approx(10)
    assert got["loss_before"] > 1
    assert "pruning_rate" not in got


def test_a_size_has_its_own_luck_and_more_of_it_outside_the_fitted_sizes(law: Law) -> None:
    certain = replace(
        law, draws=np.repeat(law.theta[None, :], 8000, axis=0), size_spread=0.02, diagnostics={"size_dof": 5.0}
    )
    range_wide = INSIDE | {"params_before": 8e9}  # fitted from 0.5e9 to 2e9: one range above the largest
    student = 2.015  # 95% quantile of Student's t, 5 degrees of freedom
    for inputs, reach in ((INSIDE, 1), (range_wide, np.sqrt(2))):
        got, gap = certain.predict(**inputs, of="mean"), float(certain.gap(Setting(**inputs)))
        for end, sign in ((got.low, -1), (got.high, 1)):
            expected = sign * 0.02 * student * reach
            assert np.log((end - INSIDE["loss_before"]) / gap) == pytest.approx(expected, rel=0.08)
    both = certain.variance_inflation(Setting(params_before=8e9, pruning_rate=0.35 * (0.35 / 0.15)))
    one = certain.variance_inflation(Setting(params_before=np.array([1e9, 8e9]), pruning_rate=0.25))
    np.testing.assert_allclose(np.log(both), np.sqrt(3) * np.log(one[:, 0]))
    np.testing.assert_allclose(np.log(one[:, 1]), np.sqrt(2) * np.log(one[:, 0]))
    assert np.all(
        replace(certain, size_spread=0.0).variance_inflation(Setting(params_before=8e9, pruning_rate=0.25)) == 1
    )


def test_draws_broadcast_where_they_widen(law: Law) -> None:
    sizes, tokens = np.array([1e9, 8e9])[:, None], np.geomspace(1e8, 1e9, 3)
    together = law.loss_draws(Setting(**INSIDE).replace(params_before=sizes, tokens=tokens))
    for i, size in enumerate(sizes[:, 0]):
        for k, d in enumerate(tokens):
            alone = law.loss_draws(Setting(**INSIDE).replace(params_before=size, tokens=d))
            np.testing.assert_allclose(together[:, i, k], alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 0}, "tokens 0.*p2_shifted"),
        ({"tokens": float("nan")}, "tokens nan"),
        ({"pruning_rate": 1.2}, "pruning_rate 1.2"),
        ({"pruning_rate": 0.0}, "pruning_rate 0"),
        ({"params_before": -1}, "params_before -1"),
        ({"loss_before": 0}, "loss_before 0"),
        ({"level": 90}, "level 90.*between 0 and 1"),
        ({"of": "rum"}, "did you mean 'run'"),
    ],
)
def test_impossible_questions_are_refused(law: Law, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        law.predict(**(INSIDE | change))


def test_file_there_and_back(law: Law, tmp_path: Path) -> None:
    save_laws([law, replace(law, method="width")], tmp_path / "deep" / "law.json")
    back = load_laws(tmp_path / "deep" / "law.json")
    assert [x.method for x in back] == ["depth", "width"]
    assert back[0].params == law.params
    assert back[0].warnings == law.warnings
    assert back[0].ranges == law.ranges
    np.testing.assert_allclose(back[0].draws, law.draws, rtol=1e-5)
    one, two = back[0].predict(**INSIDE), law.predict(**INSIDE)
    assert one.loss == two.loss
    assert one.low == pytest.approx(two.low, rel=1e-5)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["law.json"]
    save_laws([law], tmp_path / "law.json")
    assert load_laws(tmp_path / "law.json")[0].fingerprint == law.fingerprint


def test_the_first_format_still_loads() -> None:
    (law,) = load_laws(OLD)
    assert law.predict(**INSIDE).loss == pytest.approx(3.5017, abs=1e-4)  # truth: 2.7 + 0.8
    assert law.family == "simulated"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "not a law file"),
        ("[1]", "not a law file"),
        ('{"format": 1, "runs": []}', "not a law file"),
        ('{"format": 99, "laws": [{}]}', "law format 99, written by a newer regrow; upgrade regrow"),
        ('{"format": "x", "laws": [{}]}', "law format 'x'"),
        ('{"format": 1, "laws": []}', "holds no law"),
        ('{"format": 1, "laws": [{"form": "p2"}]}', "a law without 'params'"),
        ('{"format": 1, "laws": [{"form": "p3", "params": {}}]}', "unknown form 'p3'"),
        ('{"format": 1, "laws": [3]}', "not a law"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "law.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_laws(path)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such law file"):
        load_laws(tmp_path / "none.json")
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a law file"):
        load_laws(tmp_path / "b")


def test_a_tampered_number_is_refused(law: Law, tmp_path: Path) -> None:
    save_laws([law], tmp_path / "law.json")
    data = json.loads((tmp_path / "law.json").read_text())
    data["laws"][0]["params"]["beta"] = float("nan")
    (tmp_path / "law.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="not finite"):
        load_laws(tmp_path / "law.json")


def test_select(law: Law) -> None:
    laws = [law, replace(law, method="width"), replace(law, family="other")]
    assert select_law(laws, family="other") is laws[2]
    assert select_law(laws, "simulated", "width") is laws[1]
    with pytest.raises(InputError, match="2 laws fit; give the method; there are: simulated depth"):
        select_law(laws, family="simulated")
    with pytest.raises(InputError, match=r"unknown method 'wdth'.*did you mean 'width'"):
        select_law(laws, method="wdth")
    with pytest.raises(InputError, match="no law"):
        select_law([])


@pytest.mark.parametrize("n", [1, 2, 57, 200])
def test_quantiles_are_those_of_numpy(n: int) -> None:
    values = np.random.default_rng(n).standard_normal((n, 3))
    for share, mine in zip((0.05, 0.5, 0.95), quantiles(values, 0.05, 0.5, 0.95), strict=True):
        assert mine == pytest.approx(np.quantile(values, share, axis=0), abs=1e-12)
    endless = np.where(np.arange(n)[:, None] > 0, np.inf, values[:1])
    assert not np.isnan(quantiles(endless, 0.95)[0]).any()


def test_an_interval_in_blocks_is_that_of_all_points_at_once(law: Law, monkeypatch: pytest.MonkeyPatch) -> None:
    x = Setting(**INSIDE).replace(tokens=np.geomspace(1e8, 1e10, 12).reshape(3, 4))
    whole, losses = law.interval(x), law.loss_draws(x)
    monkeypatch.setattr(samples, "_AT_ONCE", 5000)
    np.testing.assert_array_equal(np.stack(law.interval(x)), np.stack(whole))
    np.testing.assert_array_equal(law.loss_draws(x), losses)
    assert blocks(10, 2000) == [slice(i, i + 2) for i in range(0, 10, 2)]


def test_many_draws_need_little_noise_each(law: Law) -> None:
    many = replace(law, draws=np.tile(law.draws, (300, 1)))
    assert law.noise_numbers.shape == (60, 40)
    assert many.noise_numbers.shape == (18000, 1)
    x = Setting(**INSIDE)
    np.testing.assert_allclose(many.interval(x), law.interval(x), rtol=2e-3)


def test_predict_takes_arrays_and_gives_them_back(law: Law) -> None:
    tokens = np.geomspace(1e8, 1e11, 4)
    rates = np.array([0.2, 0.3])[:, None]
    every = law.predict(**(INSIDE | {"tokens": tokens, "pruning_rate": rates}))
    assert every.loss.shape == every.low.shape == every.high.shape == (2, 4)
    one = law.predict(**(INSIDE | {"tokens": tokens[2], "pruning_rate": 0.3}))
    assert isinstance(one.loss, float)
    assert (one.loss, one.low, one.high) == pytest.approx((every.loss[1, 2], every.low[1, 2], every.high[1, 2]))
    assert every.extrapolates["tokens"] == law.predict(**(INSIDE | {"tokens": 1e11})).extrapolates["tokens"]
    assert len(str(every).splitlines()) == 8 + len(every.extrapolates)
    with pytest.raises(InputError, match="give numbers or arrays"):
        law.predict(**(INSIDE | {"tokens": np.ones(3), "pruning_rate": np.array([0.2, 0.3])}))


def test_a_printed_law_lines_up_its_parameters_and_a_prediction_speaks_in_words(law: Law) -> None:
    renamed = replace(law, params={**law.params, "a_long_parameter": 1.0}, draws=law.draws[:0])
    lines = [line for line in repr(renamed).splitlines()[2:] if " = " in line and ";" not in line]
    assert len(lines) == len(renamed.params)
    assert len({line.index(" = ") for line in lines}) == 1
    far = str(law.predict(**{**INSIDE, "params_before": 3 * law.ranges["params_before"][1]}))
    assert "params_before is 3 times outside the fitted range" in far
