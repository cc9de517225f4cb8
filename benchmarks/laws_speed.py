"""What a fit costs: the point estimate and its bootstrap against runs, checkpoints and draws.

    python benchmarks/laws_speed.py [--chinchilla PATH.csv] [--grid 5]

With a CSV of N, D, loss it also compares with the PyPI package `chinchilla` where that is installed, and with the
procedure its README describes (a fit from every point of a grid^5 of starts) written with scipy in any case.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np

from regrow.laws.fitting import fit_point
from regrow.laws.forms import find_form
from regrow.laws.observations import observe
from regrow.laws.simulate import simulate
from regrow.laws.uncertainty import bootstrap, spreads

TRUTH = {"alpha": 0.0, "beta": 0.45, "gamma": -1.3, "delta": 0.2, "N_C": 0.0, "D_C": 1.7e6, "E": 153.0}


def cost(runs: int, points: int, draws: int) -> tuple[float, float]:
    """Seconds of the point fit and of the bootstrap of one `p2` group with 3 sizes."""
    rates = np.linspace(0.1, 0.5, max(1, runs // 3))
    records = simulate(
        TRUTH, sizes=(0.5e9, 1e9, 2e9), rates=rates, tokens=np.geomspace(1e8, 1e10, points),
        loss_before=lambda n: 1.8 + 0.9 * (n / 1e9) ** -0.25, run_noise=0.004, point_noise=0.002,
    )  # fmt: skip
    (seen,) = observe(records)
    start = time.perf_counter()
    point = fit_point(find_form("p2"), seen)
    fitted = time.perf_counter()
    bootstrap(point.problem, point.theta, seen, spreads(point.problem, point.theta, seen), draws, 0)
    return fitted - start, time.perf_counter() - fitted


def against_grid(path: str, per_axis: int) -> None:
    """Time and objective of regrow and of one scipy fit per point of a grid of starts."""
    import pandas as pd
    from laws_chinchilla import DELTA, as_runs
    from scipy.optimize import minimize
    from scipy.special import huber, logsumexp

    data = pd.read_csv(path)
    (seen,) = observe(as_runs(data))
    start = time.perf_counter()
    ours = fit_point(find_form("chinchilla"), seen)
    ours_s = time.perf_counter() - start
    log_n, log_d, log_loss = (np.log(data[c].to_numpy(dtype=float)) for c in ("N", "D", "loss"))

    def objective(p: np.ndarray) -> float:
        terms = np.stack([p[0] - p[3] * log_n, p[1] - p[4] * log_d, np.full_like(log_n, p[2])])
        return float(huber(DELTA, logsumexp(terms, axis=0) - log_loss).sum())

    axes = [np.linspace(0, 25, per_axis)] * 2 + [np.linspace(-1, 1, per_axis)] + [np.linspace(0, 2, per_axis)] * 2
    start, best = time.perf_counter(), np.inf
    for corner in itertools.product(*axes):
        best = min(best, minimize(objective, np.array(corner), method="L-BFGS-B").fun)
    grid_s = time.perf_counter() - start
    print(f"\npoint fit of {len(data)} runs, form chinchilla, Huber {DELTA:g}")
    print(f"regrow                     {ours_s:8.3f} s  objective {ours.objective:.9e}")
    print(
        f"scipy, {per_axis}^5 grid of starts {grid_s:9.2f} s  objective {best:.9e}  {grid_s / ours_s:.0f} times slower"
    )
    try:
        import chinchilla
    except ImportError:
        print("the PyPI package `chinchilla` is not installed: not compared")
        return
    print(f"the package chinchilla {getattr(chinchilla, '__version__', '?')} is there: time its own fit too")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chinchilla", metavar="CSV")
    parser.add_argument("--grid", type=int, default=5, help="grid points per parameter")
    given = parser.parse_args()
    cost(9, 8, 10)  # warm
    print(f"{'runs':>6}{'points':>8}{'draws':>8}{'fit, s':>10}{'bootstrap, s':>14}")
    for runs, points, draws in (
        (9, 8, 200), (9, 20, 200), (27, 20, 200), (27, 20, 1000), (27, 20, 4000), (27, 80, 1000), (81, 20, 1000),
    ):  # fmt: skip
        fitted, booted = cost(runs, points, draws)
        print(f"{runs:>6}{points:>8}{draws:>8}{fitted:>10.2f}{booted:>14.2f}", flush=True)
    if given.chinchilla:
        against_grid(given.chinchilla, given.grid)


if __name__ == "__main__":
    main()
