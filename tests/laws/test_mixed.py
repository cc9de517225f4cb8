"""The mixed model: the same answer however the runs are held, and wherever the search starts."""

from dataclasses import replace

import numpy as np
import pytest

from regrow.laws.regrowth import noise, readings
from regrow.laws.regrowth.curve import gap_and_jacobian
from regrow.laws.regrowth.estimate import Hierarchy, fit_hierarchy
from regrow.laws.regrowth.gaussian import roots
from regrow.laws.regrowth.mixed import MixedModel, Posterior, Spreads
from regrow.laws.regrowth.readings import alike
from regrow.laws.regrowth.runs import RunCurve, side_by_side

SIZES = (1e8, 3e8, 1e9)


def curve(number: int, rng: np.random.Generator) -> RunCurve:
    """A run of one of three sizes and two methods, with 5 to 45 readings."""
    count = int(rng.integers(5, 46))
    tokens = np.sort(np.exp(rng.uniform(np.log(1e6), np.log(3e9), count)))
    before, gap = 2.5, float(np.exp(rng.uniform(np.log(0.3), np.log(1.5))))
    psi = np.array([0.0, np.log(2e7) + 0.2 * rng.standard_normal(), np.log(0.4) + 0.05 * rng.standard_normal(), 0.0])
    loss = before + gap_and_jacobian(psi, np.array(gap), np.array(before), tokens)[0]
    return RunCurve(
        run=f"run-{number}", family="simulated", method=("depth", "width")[number % 2],
        params_before=SIZES[number % 3], pruning_rate=0.1 + 0.02 * number, loss_before=before, loss_pruned=before + gap,
        warmup=0.0, tokens=tokens, loss=loss * np.exp(0.002 * rng.standard_normal(count)),
        baseline=np.full(count, before), controlled=True,
        # two recipes, so that tokens are counted anew
        learning_rate=(3e-4, 6e-4)[number % 5 == 0], batch_tokens=1e6,
    )  # fmt: skip


@pytest.fixture(scope="module")
def curves() -> list[RunCurve]:
    rng = np.random.default_rng(5)
    return [curve(i, rng) for i in range(15)]


@pytest.fixture(scope="module")
def fitted(curves: list[RunCurve]) -> Hierarchy:
    return fit_hierarchy(curves, end=0.003)


def some_spreads(numbers: int) -> Spreads:
    return Spreads(effects=np.full((5, numbers), 0.1), noise=np.array(noise.EXPECTED))


def test_runs_of_about_one_length_stand_together() -> None:
    lengths = np.array([12, 500, 12, 40, 3, 14, 44, 13])
    blocks = alike(lengths)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(8))
    by_run = {run: number for number, block in enumerate(blocks) for run in block.tolist()}
    assert by_run[0] == by_run[2] == by_run[5] == by_run[7]
    assert by_run[1] == by_run[3] == by_run[6]
    assert len({by_run[4], by_run[0], by_run[1]}) == 3


def test_blocks_do_not_change_the_posterior(curves: list[RunCurve], monkeypatch: pytest.MonkeyPatch) -> None:
    def posterior() -> tuple[int, Posterior]:
        model = MixedModel(side_by_side(curves), 0.003)
        return len(model.readings.blocks), model.posterior(some_spreads(4))

    several, one_by_length = posterior()
    monkeypatch.setattr(readings, "_LONGER", 1e9)
    single, together = posterior()
    assert single == 1 < several
    np.testing.assert_allclose(one_by_length.psi, together.psi, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(one_by_length.gradient, together.gradient, rtol=1e-7, atol=1e-7)
    assert one_by_length.log_evidence == pytest.approx(together.log_evidence, rel=1e-10)


def test_psi_is_counted_and_natural_again(fitted: Hierarchy) -> None:
    model = fitted.model
    for row, run in enumerate(model.arrays.runs):
        natural = model.in_tokens_of(run, model.natural(fitted.posterior.psi[row]))
        back = model.counted(natural, model.arrays.usual.log_longer(run))
        np.testing.assert_allclose(back, fitted.posterior.psi[row], rtol=1e-12, atol=1e-12)


def test_a_fit_that_starts_where_another_ended_ends_where_a_cold_one_does(
    curves: list[RunCurve], fitted: Hierarchy
) -> None:
    """Without three runs, and with a run more that the other fit has not seen."""
    left = [*curves[3:], replace(curves[0], run="another", pruning_rate=0.33)]
    cold, warm = fit_hierarchy(left, end=0.003), fit_hierarchy(left, end=0.003, near=fitted)
    assert warm.settled
    assert warm.log_evidence == pytest.approx(cold.log_evidence, abs=0.02)
    np.testing.assert_allclose(warm.posterior.psi, cold.posterior.psi, atol=5e-3)


def test_a_root_of_a_covariance_hardly_moves_with_it() -> None:
    """With eigenvalues that are equal, and one of zero: other roots turn at a change of the last digit."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    covariance = (directions * [2.0, 2.0, 2.0, 0.0]) @ directions.T
    root = roots(covariance)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-12)
    noisy = covariance + 1e-13 * (rng.standard_normal((4, 4)))
    np.testing.assert_allclose(roots(noisy), root, atol=1e-5)
