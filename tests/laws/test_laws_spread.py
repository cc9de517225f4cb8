"""Variance components against simulated effects."""

import tracemalloc

import numpy as np
import pytest
from laws_cases import loss_before, runs

from regrow.laws import Setting, find_form, fit, uncertainty
from regrow.laws.components import Factor, components
from regrow.laws.observations import observe
from regrow.laws.point import fit_point
from regrow.laws.spread import pool, size_index
from regrow.laws.uncertainty import evenly_picked


def test_components_are_unbiased_after_a_fit() -> None:
    sizes, each, points = 8, 4, 6
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(sizes * each), points)
    size = run // each
    gap_share = rng.uniform(0.1, 0.4, len(run))
    by_size, by_run = np.eye(sizes)[size] * gap_share[:, None], np.eye(sizes * each)[run]
    factors = Factor(size, gap_share), Factor(run, np.ones(len(run)))
    # a fit that absorbs a level, a trend with size, and one with the points
    rows = np.stack([np.ones(len(run)), size - size.mean(), np.tile(np.arange(points), sizes * each)], axis=1)
    truth = np.array([0.2, 0.01, 0.005])
    found = []
    for _ in range(300):
        u, v, e = (rng.standard_normal(k) for k in (sizes, sizes * each, len(run)))
        raw = truth[0] * by_size @ u + truth[1] * by_run @ v + truth[2] * e
        got = components(raw + rows @ rng.standard_normal(3), factors, rows)
        found.append(got.variances)
    np.testing.assert_allclose(np.sqrt(np.mean(found, axis=0)), truth, rtol=0.06)
    # eight sizes, of which the fit has spent about two on the level and the trend
    assert 4 < got.dof[0] < 7.5
    assert 20 < got.dof[1] <= sizes * (each - 1) + 1


def dense(residual: np.ndarray, factors: list[np.ndarray], rows: np.ndarray) -> tuple[list[float], list[float]]:
    """The same sums of squares by matrices [n, groups], as in Searle, Casella & McCulloch: variances and dof."""

    def projector(columns: np.ndarray) -> np.ndarray:
        return columns @ np.linalg.pinv(columns, rcond=1e-10)

    n = len(residual)
    out = [np.eye(n) - projector(np.concatenate([rows, *factors[:j]], axis=1)) for j in range(len(factors) + 1)]
    variances, dof = [residual @ out[-1] @ residual / np.trace(out[-1])], []
    for j in reversed(range(len(factors))):
        form = out[j] @ factors[j] @ np.diag((factors[j] ** 2).sum(axis=0) ** -2.0) @ factors[j].T @ out[j]
        expected = [np.trace(z.T @ form @ z) for z in (*factors[j:], np.eye(n))]
        rest = sum(a * v for a, v in zip(expected[1:], variances, strict=True))
        variances.insert(0, max((residual @ form @ residual - rest) / expected[0], 0.0))
        own = factors[j].T @ form @ factors[j]
        dof.insert(0, np.trace(own) ** 2 / np.sum(own**2))
    return variances, dof


@pytest.mark.parametrize("seed", range(6))
def test_sums_within_groups_give_what_matrices_give(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size_of = np.sort(np.concatenate([np.arange(4), rng.integers(0, 4, 9)]))
    run = np.repeat(np.arange(13), rng.integers(2, 7, 13))  # runs of unequal length
    size, n = size_of[run], len(run)
    gap_share = rng.uniform(0.05, 0.5, n)
    # a level and a trend that runs could absorb, one within runs, and one that depends on the others
    rows = np.stack([np.ones(n), size - 1.5, rng.standard_normal(n), np.ones(n) - 2 * size], axis=1)
    residual = (
        0.1 * rng.standard_normal(n) + rng.standard_normal(13)[run] + 3 * gap_share * rng.standard_normal(4)[size]
    )
    by_size, by_run = np.eye(4)[size] * gap_share[:, None], np.eye(13)[run]
    factors = Factor(size, gap_share), Factor(run, np.ones(n))
    for i in (0, 1):
        got, (variances, dof) = components(residual, factors[i:], rows), dense(residual, [by_size, by_run][i:], rows)
        assert got.variances == pytest.approx(variances)
        assert got.dof == pytest.approx(dof)


def test_a_hundred_thousand_checkpoints_of_ten_thousand_runs_take_no_square() -> None:
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(10_000), 10)
    residual = 0.03 * rng.standard_normal(10_000)[run] + 0.01 * rng.standard_normal(100_000)
    factors = Factor(run // 1000, rng.uniform(0.1, 0.4, 100_000)), Factor(run, np.ones(100_000))
    tracemalloc.start()
    got = components(residual, factors, np.ones((100_000, 1)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert got.variances[1:] == pytest.approx((0.03**2, 0.01**2), rel=0.03)
    assert peak < 50e6  # runs x runs would be 800 MB


def test_without_a_fit_it_is_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(1)
    run = np.repeat(np.arange(10), 5)
    residual = rng.standard_normal(10)[run] + 0.3 * rng.standard_normal(50)
    none = np.zeros((50, 0))
    got = components(residual, (Factor(run, np.ones(50)),), none)
    table = residual.reshape(10, 5)
    within = table.var(axis=1, ddof=1).mean()
    between = np.mean(table.mean(axis=1) ** 2) - within / 5
    assert got.variances == pytest.approx((between, within))
    assert got.dof[0] == pytest.approx(10)


def test_a_variance_is_never_negative() -> None:
    run = np.repeat(np.arange(4), 2)
    alternating = np.array([1.0, -1.0] * 4)  # all runs have the same mean: less spread than noise alone would give
    got = components(alternating, (Factor(run, np.ones(8)),), np.zeros((8, 0)))
    assert got.variances == pytest.approx((0.0, 2.0))


def test_sizes_that_differ_by_rounding_are_one() -> None:
    (seen,) = observe(runs(sizes=(1e9, 1.01e9, 2e9), rates=(0.2, 0.3)))
    assert set(size_index(seen)[seen.x.params_before < 1.5e9]) == {0}
    assert size_index(seen).max() == 1


def test_a_size_that_stands_out_is_luck_of_the_size_not_of_runs() -> None:
    sizes = np.geomspace(0.25e9, 2e9, 6)
    luck = dict(zip(map(round, sizes), (0.1, -0.1, -0.1, 0.1, 0.1, -0.1), strict=True))
    by_size, by_run = (
        fit_point(find_form("p2"), observe(records)[0]).spread
        for records in (runs(sizes=sizes, size_effects=luck), runs(sizes=sizes, run_noise=0.03))
    )
    assert by_size.size > 4 * by_size.between
    assert by_run.between > 0.8 * 0.03 / (loss_before(1e9) + 0.6)
    assert by_run.size < 0.5 * by_size.size


def test_few_runs_share_the_spread_by_degrees_of_freedom() -> None:
    rich = fit_point(find_form("p2"), observe(runs())[0]).spread
    poor = fit_point(find_form("p2"), observe(runs(rates=(0.25,), seed=3))[0]).spread
    joined, said = pool(poor, [rich])
    assert said is not None
    parts = [rich, poor] if poor.known else [rich]
    assert joined.between**2 == pytest.approx(sum(s.dof * s.between**2 for s in parts) / sum(s.dof for s in parts))
    assert pool(rich, [poor]) == (rich, None)


def test_readings_are_picked_evenly_and_bounded() -> None:
    run = np.repeat([0, 1, 2], [100, 5, 41])
    shuffled = np.random.default_rng(0).permutation(len(run))
    picked = evenly_picked(run, 40)
    np.testing.assert_array_equal(np.bincount(run[picked]), [40, 5, 40])
    mine = picked[run[picked] == 0]
    assert mine[0] == 0
    assert mine[-1] == 99
    assert set(np.diff(mine)) == {2, 3}
    again = evenly_picked(run[shuffled], 40)
    np.testing.assert_array_equal(np.bincount(run[shuffled][again]), [40, 5, 40])
    np.testing.assert_array_equal(evenly_picked(run[shuffled], 100), np.arange(len(run)))


def test_draws_of_long_runs_are_as_wide_as_when_refitted_at_every_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    long = runs(tokens=np.geomspace(2e8, 1e10, 90), run_noise=0.01, point_noise=0.003)
    thin = fit(long, "p2", draws=100)[0]
    monkeypatch.setattr(uncertainty, "MOST_READINGS", 10**6)
    whole = fit(long, "p2", draws=100)[0]
    assert thin.params == whole.params
    x = Setting(params_before=2e9, pruning_rate=0.3, tokens=2e10, loss_before=loss_before(2e9))
    widths = [float(np.subtract(*law.interval(x, level=0.9)[::-1])) for law in (thin, whole)]
    assert widths[0] == pytest.approx(widths[1], rel=0.1)
