"""Whether the data refute the simpler of two nested laws."""

from __future__ import annotations

import numpy as np

from regrow.laws.observations import Observations
from regrow.laws.solver import Problem, Solutions

#: the simpler of two nested laws is kept unless an F test over runs refutes it at this level
_LEVEL = 0.05


def refuted(simple: Solutions, full: Solutions, simple_problem: Problem, problem: Problem, seen: Observations) -> bool:
    """F test with runs as the units: does the fuller law explain more than chance would?

    Checkpoints of a run are not independent, so each run counts with three numbers only: level, slope and bend of its
    residuals in log tokens, each measured by its own spread between runs under the fuller law.
    """
    from scipy.special import fdtri

    shapes = [
        _run_shapes(np.log(p.form.value(s.theta[[s.best]], p.x)[0]) - p.log_loss, seen)
        for s, p in ((simple, simple_problem), (full, problem))
    ]
    worse, better = (np.sum(s**2, axis=0) for s in shapes)
    numbers = shapes[0].size
    parameters, extra = int(problem.free.sum()), int(problem.free.sum() - simple_problem.free.sum())
    left = numbers - parameters
    if left < 1 or not np.isfinite(better).all():
        return False
    unit = np.maximum(better / max(len(seen.runs) - parameters / shapes[0].shape[1], 0.5), 1e-20)
    ratio = float(np.sum((worse - better) / unit)) / extra
    return bool(ratio > fdtri(extra, left, 1 - _LEVEL))


def _run_shapes(residual: np.ndarray, seen: Observations) -> np.ndarray:
    """Coefficients [runs, up to 3] of each run's residuals on orthonormal polynomials of its log tokens."""
    counts = np.bincount(seen.run)
    degree = min(3, int(counts.min()))
    out = np.zeros((len(seen.runs), degree))
    of_run = np.split(np.argsort(seen.run, kind="stable"), np.cumsum(counts)[:-1])
    for r, mine in enumerate(of_run):
        log_d = np.log(seen.x.tokens[mine] + 1)
        basis = np.linalg.qr(np.vander(log_d - log_d.mean(), degree, increasing=True))[0]
        out[r] = basis.T @ residual[mine] / np.sqrt(len(mine))
    return out
