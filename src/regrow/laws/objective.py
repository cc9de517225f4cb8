"""What a fit minimises, and how it is judged: Huber on log-loss residuals, R^2, MAPE, average slope difference."""

from __future__ import annotations

import numpy as np

#: Residuals of log loss beyond this count linearly (Hoffmann et al. 2022, section D.2). A loss of 3 nats that is off
#: by 0.003 nats stands at this point.
HUBER_DELTA = 1e-3


def huber(residual: np.ndarray, delta: float = HUBER_DELTA) -> np.ndarray:
    """Huber loss, elementwise: r^2/2 up to `delta`, delta*(|r| - delta/2) beyond."""
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def average_slope_difference(
    run: np.ndarray, tokens: np.ndarray, loss: np.ndarray, predicted: np.ndarray
) -> float | None:
    """Mean absolute difference of measured and predicted slopes between neighbouring checkpoints of each run.

    Slopes are taken per e-fold of tokens, dL/d ln D in nats, so that the number does not depend on the scale of the
    runs (Chen et al. 2025, section 4.1, take them between evenly spaced checkpoints). Checkpoints at zero tokens have
    no such slope. None if no run has two checkpoints.
    """
    seen = tokens > 0
    run, log_d, gap = run[seen], np.log(tokens[seen]), (loss - predicted)[seen]
    same = run[1:] == run[:-1]
    if not same.any():
        return None
    return float(np.mean(np.abs(np.diff(gap)[same] / np.diff(log_d)[same])))


def metrics(
    run: np.ndarray, tokens: np.ndarray, loss: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> dict[str, float | None]:
    """R^2 of the loss, mean Huber loss of the log residuals, ASD, and mean absolute percentage error as a fraction.

    `r2` is None where all losses are equal: there is nothing to explain.
    """
    total = float(np.sum((loss - loss.mean()) ** 2))
    residual = np.log(predicted) - np.log(loss)
    return {
        "r2": 1 - float(np.sum((loss - predicted) ** 2)) / total if total > 1e-12 * float(np.sum(loss**2)) else None,
        "huber": float(np.sum(weights * huber(residual)) / np.sum(weights)),
        "asd": average_slope_difference(run, tokens, loss, predicted),
        "mape": float(np.mean(np.abs(predicted / loss - 1))),
    }
