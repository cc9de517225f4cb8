"""Many readings as few means: exact against dense matrices, and a fit of them against a fit of every reading."""

import numpy as np
import pytest

from regrow.laws.regrowth import bins as bins_module
from regrow.laws.regrowth import noise
from regrow.laws.regrowth.bins import MOST, gather, shared_noise
from regrow.laws.regrowth.condition import Readings, condition
from regrow.laws.regrowth.curve import gap_and_jacobian
from regrow.laws.regrowth.estimate import Hierarchy, fit_hierarchy
from regrow.laws.regrowth.mixed import MixedModel, Spreads
from regrow.laws.regrowth.runs import RunCurve, side_by_side

SPREADS = np.array([1e-3, 2e-3, 1e-2])
LEVEL, PACE, EXPONENT = 0.0, np.log(2e7), np.log(0.4)


def long_run(number: int, readings: int, rng: np.random.Generator) -> RunCurve:
    """A run with the noise that the law expects."""
    tokens = np.sort(np.exp(rng.uniform(np.log(1e6), np.log(3e9), readings)))
    before, gap = 2.5, float(np.exp(rng.uniform(np.log(0.3), np.log(1.5))))
    psi = np.array([LEVEL, PACE + 0.1 * rng.standard_normal(), EXPONENT + 0.03 * rng.standard_normal(), 0.0])
    closing, _ = gap_and_jacobian(psi, np.array(gap), np.array(before), tokens)
    loss = before + closing
    swing = np.exp(-np.abs(np.log(tokens)[:, None] - np.log(tokens)) / noise.LENGTH)
    covariance = SPREADS[0] ** 2 * np.diag(loss**2) + swing * (
        SPREADS[1] ** 2 * np.outer(loss, loss) + SPREADS[2] ** 2 * np.outer(closing, closing)
    )
    return RunCurve(
        run=f"run-{number}", family="simulated", method="depth", params_before=1e9, pruning_rate=0.25,
        loss_before=before, loss_pruned=before + gap, warmup=0.0, tokens=tokens,
        loss=rng.multivariate_normal(loss, covariance), baseline=np.full(readings, before), controlled=True,
    )  # fmt: skip


def fitted(readings: int) -> Hierarchy:
    rng = np.random.default_rng(3)
    return fit_hierarchy([long_run(i, readings, rng) for i in range(10)], end=0.003)


@pytest.fixture
def every_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bin for each reading."""
    monkeypatch.setattr(bins_module, "MOST", 10**6)


def test_bins_are_bounded_and_lose_no_reading() -> None:
    rng = np.random.default_rng(0)
    counts = (3, 500, 40, 1, 41)
    run = np.repeat(np.arange(5), counts)
    at = np.concatenate([np.sort(rng.uniform(10, 25, n)) for n in counts])
    bins = gather(run, at)
    np.testing.assert_array_equal(np.bincount(bins.row, bins.count), counts)
    assert bins.shape == (5, np.bincount(bins.row).max())
    np.testing.assert_array_equal(np.bincount(bins.row)[[0, 2, 3]], [3, 40, 1])  # short runs keep every reading
    assert np.bincount(bins.row).max() <= MOST
    widths = at[bins.last] - at[bins.first]
    assert widths.max() <= 15 / MOST
    row = bins.means(at)[0]
    np.testing.assert_allclose(row[:3], at[:3])
    assert np.all(row[3:] == 0)
    np.testing.assert_allclose(bins.means(at, blank=-1.0)[0, 3:], -1.0)


def test_readings_at_the_same_tokens_are_one_bin() -> None:
    bins = gather(np.zeros(100, dtype=int), np.full(100, 7.0))
    assert bins.count.tolist() == [100]


def test_noise_of_means_is_that_of_the_readings_averaged() -> None:
    rng = np.random.default_rng(1)
    counts = (130, 7, 60)
    run = np.repeat(np.arange(3), counts)
    at = np.concatenate([np.sort(rng.uniform(0, 20, n)) for n in counts])
    scale = rng.uniform(0.1, 3.0, len(run))
    bins = gather(run, at)
    found = shared_noise(bins, at, scale, 0.6)
    group = np.repeat(np.arange(len(bins.first)), bins.count)
    for number in range(3):
        mine = np.flatnonzero(run == number)
        dense = np.outer(scale[mine], scale[mine]) * np.exp(-np.abs(at[mine][:, None] - at[mine]) / 0.6)
        averaging = np.equal.outer(np.unique(group[mine]), group[mine]) / bins.count[np.unique(group[mine])][:, None]
        size = len(averaging)
        np.testing.assert_allclose(found[number, :size, :size], averaging @ dense @ averaging.T, rtol=1e-9)
        assert not found[number, size:].any()


def test_gradient_of_the_evidence_of_binned_readings_against_finite_differences() -> None:
    rng = np.random.default_rng(2)
    model = MixedModel(side_by_side([long_run(i, 30 + 40 * i, rng) for i in range(4)]), 0.003)
    logs = Spreads(effects=np.full((5, 4), 0.05), noise=SPREADS).to_log()
    gradient = model.posterior(Spreads.from_log(logs, 4)).gradient
    for i in (0, 9, 18, len(logs) - 3, len(logs) - 2, len(logs) - 1):
        step = np.zeros_like(logs)
        step[i] = 1e-4
        up, down = (model.posterior(Spreads.from_log(logs + s, 4)).log_evidence for s in (step, -step))
        assert gradient[i] == pytest.approx((up - down) / 2e-4, rel=1e-3, abs=1e-3)


def test_means_tell_what_all_readings_tell(every_reading: None, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = fitted(120)
    monkeypatch.setattr(bins_module, "MOST", MOST)
    thin = fitted(120)
    assert max(block.bins.shape[1] for block in thin.model.readings.blocks) <= MOST
    deviation = np.sqrt(np.einsum("rkk->rk", dense.posterior.psi_covariance))
    thin_psi, dense_psi = (one.model.natural(one.posterior.psi) for one in (thin, dense))
    away = (thin_psi - dense_psi) / deviation
    # both know the same runs: their difference is well within what either leaves open, and neither knows less
    assert np.sqrt(np.mean(away[:, :3] ** 2)) < 0.35
    wider = np.einsum("rkk->rk", thin.posterior.psi_covariance) / deviation**2
    assert 0.8 < np.median(wider) < 1.25
    np.testing.assert_allclose(thin.spreads.noise, dense.spreads.noise, rtol=0.2)
    np.testing.assert_allclose(thin.spreads.noise, SPREADS, rtol=0.35)


def test_a_run_under_way_of_many_readings_is_followed_by_their_means(
    every_reading: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    run = long_run(0, 400, rng)
    read = Readings(tokens=run.tokens, loss=run.loss, loss_before=2.5, gap_pruned=run.gap_pruned, drifted=np.zeros(400))
    centre, spread = [LEVEL, PACE, EXPONENT, 0.0, 0.0], [0.02, 0.3, 0.1, 0.002, 0.002]
    prior = np.concatenate([[centre], centre + rng.standard_normal((200, 5)) * spread])
    dense, _ = condition(prior, read, SPREADS, draws=400, rng=np.random.default_rng(0))
    monkeypatch.setattr(bins_module, "MOST", MOST)
    thin, strange = condition(prior, read, SPREADS, draws=400, rng=np.random.default_rng(0))
    assert 0.5 < strange < 2.0
    np.testing.assert_allclose(thin[0], dense[0], atol=0.3 * dense[1:].std(axis=0).max())
    np.testing.assert_allclose(thin[1:].std(axis=0), dense[1:].std(axis=0), rtol=0.2)
    shuffled = rng.permutation(400)
    mixed = Readings(
        tokens=run.tokens[shuffled], loss=run.loss[shuffled], loss_before=2.5, gap_pruned=run.gap_pruned,
        drifted=np.zeros(400),
    )  # fmt: skip
    again, _ = condition(prior, mixed, SPREADS, draws=400, rng=np.random.default_rng(0))
    np.testing.assert_allclose(again, thin, rtol=1e-6, atol=1e-9)
