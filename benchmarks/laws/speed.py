"""What a fit costs: the point estimate and its bootstrap against runs, checkpoints and draws.

    python -m benchmarks.laws.speed [--chinchilla PATH.csv] [--grid 5]
    python -m benchmarks.laws.speed --studies studies

With a CSV of C, N, D, loss it also compares with the PyPI package `chinchilla` (0.2.0), where that is installed: the
procedure of its README, a fit from every point of a 5^5 grid of starts.
With a folder of studies it fits their short runs together, 200 draws, by `regrowth`, by `p2` and by what `fit` takes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from regrow.laws import fit
from regrow.laws.forms import find_form
from regrow.laws.observations import observe
from regrow.laws.point import fit_point
from regrow.laws.simulate import simulate
from regrow.laws.spread import spreads
from regrow.laws.uncertainty import bootstrap
from regrow.runs import read_runs

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


def against_package(path: str, per_axis: int) -> None:
    """Time and objective of regrow and of the package `chinchilla` on the same runs, in one process.

    The package fits from every point of the grid of its README, in parallel on all cores, with its own `log_huber` at
    the same delta. Both results are judged by one function, written here.
    """
    import pandas as pd
    from laws_chinchilla import DELTA, as_runs
    from scipy.special import huber

    data = pd.read_csv(path)
    n, d, loss = (data[c].to_numpy(dtype=float) for c in ("N", "D", "loss"))

    def objective(p: dict[str, float]) -> float:
        predicted = p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p["beta"]
        return float(huber(DELTA, np.log(predicted) - np.log(loss)).sum())

    form = find_form("chinchilla")
    times = []
    for _ in range(5):
        (seen,) = observe(as_runs(data))
        start = time.perf_counter()
        point = fit_point(form, seen)
        times.append(time.perf_counter() - start)
    ours_s = float(np.median(times))
    ours = objective(dict(zip(form.names, form.to_natural(point.theta[None], point.problem.x.ref)[0], strict=True)))
    print(
        f"\npoint fit of {len(data)} runs, form chinchilla, sum of Huber({DELTA:g}) of log loss, {os.cpu_count()} cores"
    )
    print(f"{'regrow':<34}{ours_s:>9.3f} s  {ours:.9e}")
    try:
        from chinchilla import Chinchilla
        from chinchilla._metrics import log_huber
    except ImportError:
        print("the package chinchilla is not installed: not compared (pip install chinchilla==0.2.0)")
        return
    grid = {
        "E": np.linspace(1, 2, per_axis), "a": np.linspace(1, 10, per_axis), "b": np.linspace(1, 10, per_axis),
        "alpha": np.linspace(0.1, 0.7, per_axis), "beta": np.linspace(0.1, 0.7, per_axis),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        data.to_csv(Path(folder) / "df.csv", index=False)
        peer = Chinchilla(folder, param_grid=grid, loss_fn=partial(log_huber, delta=DELTA), log_level=40)
        start = time.perf_counter()
        peer.fit()
        theirs_s = time.perf_counter() - start
    theirs = objective(peer.params)
    name = f"chinchilla {version('chinchilla')}, {per_axis}^5 starts"
    print(f"{name:<34}{theirs_s:>9.1f} s  {theirs:.9e}")
    print(f"{theirs_s / ours_s:.0f} times as long; regrow's objective / theirs - 1 = {ours / theirs - 1:+.1e}")


def of_studies(folder: Path) -> None:
    """Processor time of a fit of every study's runs but the long ones and those of other recipes."""
    names = [p for p in sorted(folder.glob("*.jsonl")) if not p.stem.startswith(("long", "recipe"))]
    runs = [run for path in names for run in read_runs(path)]
    for form in ("regrowth", "p2", "auto"):
        start = time.process_time()
        laws = fit(runs, form=form, draws=200)
        print(f"{form:9} {len(runs)} runs, {len(laws)} laws, {time.process_time() - start:.1f} s of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chinchilla", metavar="CSV")
    parser.add_argument("--studies", type=Path, metavar="FOLDER", help="time the fit of these studies alone")
    parser.add_argument("--grid", type=int, default=5, help="grid points per parameter")
    given = parser.parse_args()
    if given.studies:
        of_studies(given.studies)
        return
    cost(9, 8, 10)  # warm
    print(f"{'runs':>6}{'points':>8}{'draws':>8}{'fit, s':>10}{'bootstrap, s':>14}")
    for runs, points, draws in (
        (9, 8, 200), (9, 20, 200), (27, 20, 200), (27, 20, 1000), (27, 20, 4000), (27, 80, 1000), (81, 20, 1000),
    ):  # fmt: skip
        fitted, booted = cost(runs, points, draws)
        print(f"{runs:>6}{points:>8}{draws:>8}{fitted:>10.2f}{booted:>14.2f}", flush=True)
    if given.chinchilla:
        against_package(given.chinchilla, given.grid)


if __name__ == "__main__":
    main()
