"""The law `regrowth`: simulated truths are found, and our own runs are predicted as the docs say."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import Setting, fit, load_laws, save_laws, validate
from regrow.laws.pooled.fit import pools_of
from regrow.laws.pooled.under_way import law_under_way
from regrow.laws.regrowth.curve import effective_tokens, gap_and_jacobian
from regrow.laws.regrowth.estimate import fit_hierarchy
from regrow.laws.regrowth.gaussian import Information, integrate_out
from regrow.laws.regrowth.mixed import Spreads
from regrow.runs import read_runs
from regrow.runs.record import CurvePoint, RunRecord

STUDIES = Path(__file__).parents[2] / "studies"
TOKENS = np.geomspace(4e6, 1e9, 12)
LEVEL, PACE, EXPONENT = 0.0, 2e7, 0.4


def run(size: float, method: str, gap: float, number: int, rng: np.random.Generator, *, end: float = 0.0) -> RunRecord:
    """A run that follows the law, with effects of its own on pace and exponent and noise in its readings."""
    before = 2.0 + 0.3 * (1e9 / size) ** 0.2
    pace, exponent = PACE * np.exp(0.15 * rng.standard_normal()), EXPONENT * np.exp(0.05 * rng.standard_normal())
    psi = np.array([LEVEL, np.log(pace), np.log(exponent), end])
    closing, _ = gap_and_jacobian(psi, np.array(gap), np.array(before), TOKENS)
    loss = before + closing + 0.002 * rng.standard_normal(len(TOKENS))
    points = [CurvePoint(tokens=int(t), loss=float(v)) for t, v in zip(TOKENS, loss, strict=True)]
    return RunRecord(
        run=f"{method}-{size:g}-{number}",
        family="simulated",
        method=method,
        params_before=int(size),
        params_after=int(0.75 * size),
        pruning_rate=0.25,
        loss_before=before,
        curve=(CurvePoint(tokens=0, loss=before + gap), *points),
    )


def control(size: float) -> RunRecord:
    """An unpruned model that stays where it is."""
    before = 2.0 + 0.3 * (1e9 / size) ** 0.2
    points = tuple(CurvePoint(tokens=int(t), loss=before) for t in (0, *TOKENS))
    return RunRecord(
        run=f"control-{size:g}",
        family="simulated",
        method="none",
        params_before=int(size),
        params_after=int(size),
        pruning_rate=0.0,
        loss_before=before,
        curve=points,
    )


def simulated(seed: int = 0, *, end: float = 0.0) -> list[RunRecord]:
    rng = np.random.default_rng(seed)
    runs = [control(size) for size in (1e8, 4e8, 1.6e9)]
    for size in (1e8, 4e8, 1.6e9):
        for method in ("depth", "width"):
            gaps = np.exp(rng.uniform(np.log(0.3), np.log(2.0), 4))
            runs += [run(size, method, float(gap), i, rng, end=end) for i, gap in enumerate(gaps)]
    return runs


@cache
def ladder() -> tuple[RunRecord, ...]:
    """The runs of our own study up to the rate 0.35, as docs/results.md takes them."""
    runs = read_runs(STUDIES / "ladder-llama.jsonl")
    return tuple(r for r in runs if r.pruning_rate < 0.36 or r.method == "2:4")


def test_jacobian_of_the_curve_against_finite_differences() -> None:
    rng = np.random.default_rng(0)
    psi = np.array([0.1, np.log(2e7), np.log(0.4), 0.02]) + 0.1 * rng.standard_normal((3, 4))
    gap, before, tokens = np.array([0.5, 1.0, 2.0]), np.array([2.0, 2.5, 3.0]), np.tile(TOKENS, (3, 1))
    _, jacobian = gap_and_jacobian(psi, gap, before, tokens)
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-6
        up, down = (gap_and_jacobian(psi + s, gap, before, tokens)[0] for s in (step, -step))
        np.testing.assert_allclose(jacobian[..., k], (up - down) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("error")
def test_a_pace_of_no_tokens_leaves_every_number_finite() -> None:
    """A search tries such paces on runs that have no gap: the gap is G0 at the start, and closed at once after it."""
    gaps, jacobian = gap_and_jacobian(
        np.array([[0.0, -1000.0, np.log(0.3), 0.1]]), np.array([2.0]), np.array([3.0]), np.array([[0.0, 1e6]])
    )
    np.testing.assert_allclose(gaps, [[2.0, 0.1 * 3.0]], rtol=1e-12)
    np.testing.assert_allclose(jacobian[0], [[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0]], atol=1e-12)


def test_tokens_of_a_warmup_count_by_the_learning_rate() -> None:
    at = effective_tokens(np.array([0.0, 50.0, 100.0, 300.0]), 100.0)
    np.testing.assert_allclose(at, [0.0, 12.5, 50.0, 250.0])  # the area under the rate over its peak
    np.testing.assert_allclose(effective_tokens(TOKENS, 0.0), TOKENS)


def test_an_effect_is_integrated_out_as_the_dense_normal_says() -> None:
    rng = np.random.default_rng(1)
    rows, target, deviation = rng.standard_normal((6, 3)), rng.standard_normal(6), np.array([0.5, 0.0, 2.0])
    below = Information(matrix=(rows.T @ rows)[None], vector=(rows.T @ target)[None])
    above = integrate_out(below, deviation).above
    # y = rows (m + u) + e with e ~ N(0, 1): the information on m is rows' (I + rows diag(s^2) rows')^-1 rows
    inverse = np.linalg.inv(np.eye(6) + rows @ np.diag(deviation**2) @ rows.T)
    np.testing.assert_allclose(above.matrix[0], rows.T @ inverse @ rows, rtol=1e-9)
    np.testing.assert_allclose(above.vector[0], rows.T @ inverse @ target, rtol=1e-9)
    constant = -0.5 * target @ inverse @ target + 0.5 * target @ target + 0.5 * np.linalg.slogdet(inverse)[1]
    assert above.constant == pytest.approx(constant)


def test_gradient_of_the_evidence_against_finite_differences() -> None:
    (pool,) = pools_of(simulated(), "all", baseline="control", skipped=[])
    fitted = fit_hierarchy(pool.all_runs, end=0.01)
    logs = fitted.spreads.to_log() + 0.3
    gradient = fitted.model.posterior(Spreads.from_log(logs, 4)).gradient
    for i in range(0, len(logs), 3):
        step = np.zeros_like(logs)
        step[i] = 1e-4
        up, down = (fitted.model.posterior(Spreads.from_log(logs + s, 4)).log_evidence for s in (step, -step))
        assert gradient[i] == pytest.approx((up - down) / 2e-4, rel=1e-3, abs=1e-3)


def test_a_simulated_truth_is_found_with_its_spread() -> None:
    laws = fit(simulated(), "regrowth", baseline="control", draws=100)
    for law in laws:
        assert law.status == "ok"
        x = Setting(params_before=4e8, pruning_rate=0.25, tokens=TOKENS, loss_before=2.0, loss_pruned=3.0)
        true = 1.0 * (1 + TOKENS / (EXPONENT * PACE)) ** -EXPONENT
        np.testing.assert_allclose(law.loss(x) - 2.0, true, rtol=0.12)
        low, high = law.interval(x)
        assert (low < 2.0 + true).all()
        assert (high > 2.0 + true).all()


def test_intervals_of_new_models_cover_as_often_as_they_say() -> None:
    inside = [
        result.coverage
        for seed in range(4)
        for result in validate(simulated(seed), "size", "regrowth", "control", draws=100)
    ]
    assert 0.8 < np.mean(inside) <= 1.0


def test_the_largest_model_is_predicted_from_the_smaller_ones() -> None:
    errors = {r.method: r.mape for r in validate(ladder(), "size", "regrowth")}
    assert max(errors.values()) < 0.015
    assert np.mean(list(errors.values())) < 0.01


def test_a_method_never_trained_is_predicted_from_the_others() -> None:
    results = validate(ladder(), "method", "regrowth")
    assert np.mean([r.mape for r in results]) < 0.015
    assert 0.8 < np.mean([r.coverage for r in results]) <= 1


def test_auto_takes_what_predicts_better_and_says_so() -> None:
    laws = fit(ladder(), draws=5)
    assert {law.form for law in laws} == {"regrowth"}
    assert "the largest models, held out" in laws.chosen
    errors = {r.method: r.mape for r in validate(ladder(), "size", "regrowth", draws=2)}
    assert {law.method: law.diagnostics["held_out_error"] for law in laws} == pytest.approx(errors, rel=1e-6)
    bare = [replace(r, curve=r.curve[1:]) for r in ladder()]
    laws = fit(bare, draws=5)
    assert {law.form for law in laws} == {"p2"}
    assert "lack the loss right after pruning" in laws.chosen


def test_a_gap_that_was_measured_narrows_the_answer() -> None:
    law = next(law for law in fit(ladder(), "regrowth", draws=100) if law.method == "depth")
    x = {"params_before": 1e6, "pruning_rate": 0.25, "tokens": 1e5, "loss_before": 3.3}
    told, guessed = law.predict(**x, loss_pruned=3.8), law.predict(**x)
    assert told.high - told.low < 0.5 * (guessed.high - guessed.low)
    assert law.predict(**{**x, "tokens": 0}, loss_pruned=3.8).loss == pytest.approx(3.8)


def test_a_law_file_keeps_what_is_known_of_each_model(tmp_path: Path) -> None:
    laws = fit(ladder(), "regrowth", draws=20)
    save_laws(laws, tmp_path / "law.json")
    x = Setting(
        params_before=np.array([188960.0, 5e6]), pruning_rate=0.25, tokens=1e5, loss_before=3.5, loss_pruned=4.0
    )
    for before, after in zip(laws, load_laws(tmp_path / "law.json"), strict=True):
        assert set(after.sizes) == {188960, 301872, 574656, 3103616}
        np.testing.assert_allclose(after.loss(x), before.loss(x), rtol=1e-4)
        np.testing.assert_allclose(after.interval(x), before.interval(x), rtol=1e-3)


def test_what_the_runs_lack_is_said_in_one_line() -> None:
    runs = list(simulated())
    runs[-1] = replace(runs[-1], curve=runs[-1].curve[1:])
    below = runs[-2]
    runs[-2] = replace(below, curve=(CurvePoint(tokens=0, loss=below.loss_before - 0.01), *below.curve[1:]))
    notes = [text for law in fit(runs, "regrowth", draws=5) for text in law.warnings]
    assert any("loss right after pruning is not known of width-1.6e+09-3" in text for text in notes)
    assert any("below the loss before it in width-1.6e+09-2 (by up to 0.010 nats)" in text for text in notes)
    bare = [r for r in simulated() if not r.is_control]
    assert any("no unpruned control" in text for law in fit(bare, "regrowth", draws=5) for text in law.warnings)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(InputError, match="only regrowth pools methods"):
        fit(simulated(), "p2", pool="family")
    with pytest.raises(InputError, match="held in the form regrowth"):
        fit(simulated(), "regrowth", hold={"end": 0.0})
    with pytest.raises(InputError, match="one family"):
        validate(simulated(), "family", "regrowth")
    with pytest.raises(InputError, match="3 or more token counts"):
        fit([replace(r, curve=r.curve[:3]) for r in simulated()], "regrowth")


def test_a_run_under_way_is_followed_from_law_and_readings() -> None:
    runs = ladder()
    held = next(r for r in runs if r.method == "depth" and r.params_before == 3103616 and 0.3 < r.pruning_rate < 0.35)
    others = [r for r in runs if r.params_before != 3103616 or r.is_control]
    law = next(law for law in fit(others, "regrowth", draws=100) if law.method == "depth")
    at = Setting(params_before=held.params_before, pruning_rate=held.pruning_rate, loss_before=held.loss_before)
    tokens = np.array([p.tokens for p in held.curve], dtype=float)
    losses = np.array([p.loss for p in held.curve])
    widths, errors = [], []
    for read in (1, 5, 11):
        mine, _ = law_under_way(law, at.replace(loss_pruned=losses[0]), tokens[:read], losses[:read])
        end = at.replace(tokens=tokens[-1], loss_pruned=losses[0])
        low, high = mine.interval(end)
        widths.append(float(high - low))
        errors.append(abs(float(mine.loss(end)) / losses[-1] - 1))
    assert widths[0] > widths[1] > widths[2]
    assert errors[2] < 0.004
    # a run that was never measured right after pruning tells its gap by its readings
    alone, _ = law_under_way(law, at, tokens[1:11], losses[1:11])
    assert float(alone.loss(at.replace(tokens=tokens[-1]))) == pytest.approx(losses[-1], rel=0.01)
