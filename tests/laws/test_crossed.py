"""Effects of models eliminated: the same as the dense matrices say, and as draws show."""

import numpy as np
import pytest

from regrow.laws.regrowth.crossed import Crossed, Weights, eliminate
from regrow.laws.regrowth.gaussian import Information

CELLS, MODELS, NUMBERS, OTHERS = 9, 4, 3, 5


@pytest.fixture(scope="module")
def case() -> tuple[Crossed, Weights, np.ndarray, np.ndarray, np.ndarray, float]:
    """The distribution; the weights; of the dense problem the rows [C, K, a + M K], mean, covariance and evidence."""
    rng = np.random.default_rng(2)
    model = np.array([0, 1, 2, 0, 1, 2, 0, 3, 3])
    shared = rng.standard_normal((CELLS, NUMBERS, OTHERS))
    root = rng.standard_normal((CELLS, NUMBERS, NUMBERS))
    cells = Information(matrix=root @ root.transpose(0, 2, 1), vector=rng.standard_normal((CELLS, NUMBERS)))
    precision, prior, of_model = rng.uniform(0.5, 2, OTHERS), rng.standard_normal(OTHERS), rng.uniform(0.5, 2, NUMBERS)
    weights = Weights(shared=shared, model=model, models=MODELS)
    found = eliminate(cells, weights, precision, prior, of_model)

    rows = np.concatenate([shared, np.zeros((CELLS, NUMBERS, MODELS * NUMBERS))], axis=2)
    for cell, own in enumerate(model):
        at = OTHERS + own * NUMBERS
        rows[cell, :, at : at + NUMBERS] = np.eye(NUMBERS)
    whole = np.concatenate([precision, np.tile(of_model, MODELS)])
    information = np.einsum("ckq,ckl,clr->qr", rows, cells.matrix, rows) + np.diag(whole)
    vector = np.einsum("ckq,ck->q", rows, cells.vector)
    vector[:OTHERS] += precision * prior
    covariance = np.linalg.inv(information)
    mean = covariance @ vector
    return found, weights, rows, mean, covariance, float(vector @ mean - np.linalg.slogdet(information)[1])


def test_the_mean_and_the_evidence_are_those_of_the_dense_matrix(case) -> None:
    found, _, _, mean, _, evidence = case
    np.testing.assert_allclose(np.concatenate([found.shared, found.models.ravel()]), mean, rtol=1e-9)
    assert found.fit - found.log_determinant == pytest.approx(evidence, rel=1e-10)


def test_covariances_are_those_of_the_dense_matrix(case) -> None:
    found, weights, rows, mean, covariance, _ = case
    np.testing.assert_allclose(found.covariance, covariance[:OTHERS, :OTHERS], rtol=1e-9)
    np.testing.assert_allclose(found.model_variances().ravel(), np.diag(covariance)[OTHERS:], rtol=1e-9)
    of_mean, of_covariance = found.of_cells(weights)
    np.testing.assert_allclose(of_mean, rows @ mean, rtol=1e-9)
    np.testing.assert_allclose(of_covariance, rows @ covariance @ rows.transpose(0, 2, 1), rtol=1e-8, atol=1e-12)
    pick = np.random.default_rng(3).standard_normal((6, OTHERS + MODELS * NUMBERS))
    got = found.covariance_of(pick[:, :OTHERS], pick[:, OTHERS:].reshape(6, MODELS, NUMBERS))
    np.testing.assert_allclose(got, pick @ covariance @ pick.T, rtol=1e-8, atol=1e-12)


def test_draws_have_the_covariance_of_all_cells_together(case) -> None:
    found, weights, rows, _, covariance, _ = case
    drawn = found.draw(200_000, weights, np.random.default_rng(4)).reshape(200_000, -1)
    flat = rows.reshape(-1, rows.shape[2])
    truth = flat @ covariance @ flat.T
    scale = np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
    np.testing.assert_allclose(np.cov(drawn, rowvar=False) / scale, truth / scale, atol=0.02)
