"""A real public data set: the 234 reconstructed Chinchilla runs, fitted with the form `chinchilla`.

    python -m benchmarks.laws.chinchilla PATH.csv [--starts 200] [--draws 1000]

The CSV has the columns N, D, loss (github.com/kyo-takano/chinchilla, `examples/llm/df.csv`). Prints the objective
beside the best of an independent multi-start with scipy, the parameters with intervals beside the published ones
(Besiroglu et al. 2024, arXiv 2404.10102), and the same fit without the runs that stand furthest off.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import huber as scipy_huber
from scipy.special import logsumexp

from regrow.laws.fitting import fit
from regrow.laws.setting import Setting

PUBLISHED = {"alpha": 0.348, "beta": 0.366, "E": 1.82, "A": 482.0, "B": 2085.0}
DELTA = 1e-3


def as_runs(data: pd.DataFrame) -> pd.DataFrame:
    """One run per row: nothing is pruned, so the loss before is not used and set to the loss."""
    return pd.DataFrame(
        {
            "run": [f"run{i}" for i in range(len(data))],
            "family": "chinchilla",
            "method": "pretrain",
            "params_before": data["N"],
            "params_after": data["N"],
            "tokens": data["D"],
            "loss": data["loss"],
            "loss_before": data["loss"],
        }
    )


def scipy_best(data: pd.DataFrame, starts: int) -> tuple[float, dict[str, float]]:
    """The best of many L-BFGS-B fits of the log-sum-exp form of Hoffmann et al. 2022, with analytic gradient."""
    log_n, log_d, log_loss = (np.log(data[c].to_numpy(dtype=float)) for c in ("N", "D", "loss"))

    def objective(p: np.ndarray) -> tuple[float, np.ndarray]:
        terms = np.stack([p[0] - p[3] * log_n, p[1] - p[4] * log_d, np.full_like(log_n, p[2])])
        total = logsumexp(terms, axis=0)
        pull = np.exp(terms - total) * np.clip(total - log_loss, -DELTA, DELTA)
        gradient = [pull[0].sum(), pull[1].sum(), pull[2].sum(), -(pull[0] * log_n).sum(), -(pull[1] * log_d).sum()]
        return float(scipy_huber(DELTA, total - log_loss).sum()), np.array(gradient)

    rng = np.random.default_rng(1)
    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-12}
    found = [
        minimize(
            objective, rng.uniform([0, 0, -1, 0, 0], [25, 25, 1.5, 2, 2]), jac=True, method="L-BFGS-B", options=options
        )
        for _ in range(starts)
    ]
    best = min(found, key=lambda r: r.fun)
    names = ("A", "B", "E")
    return float(best.fun), dict(zip(names, np.exp(best.x[:3]), strict=True)) | {"alpha": best.x[3], "beta": best.x[4]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv")
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()
    data = pd.read_csv(given.csv)
    fit(as_runs(data), "chinchilla", draws=1)  # warm
    start = time.perf_counter()
    (law,) = fit(as_runs(data), "chinchilla", draws=1)
    ours_s = time.perf_counter() - start
    (law,) = fit(as_runs(data), "chinchilla", draws=given.draws)
    start = time.perf_counter()
    best, theirs = scipy_best(data, given.starts)
    scipy_s = time.perf_counter() - start
    ours = float(law.diagnostics["objective"])
    print(f"{len(data)} runs, sum of Huber({DELTA:g}) of log loss")
    print(f"regrow           {ours:.12e}  {ours_s:.2f} s, {law.diagnostics['starts_agreed']} starts agree")
    print(f"scipy, {given.starts:>4} fits {best:.12e}  {scipy_s:.2f} s; regrow / scipy - 1 = {ours / best - 1:+.1e}")
    residual = np.abs(np.log(law.loss(Setting(params_before=data.N, pruning_rate=0.0, tokens=data.D)) / data.loss))
    trimmed = data[residual < 0.02]
    (cut,) = fit(as_runs(trimmed), "chinchilla", draws=given.draws)
    print(
        f"\n{'':>6}{'published':>11}{'regrow':>11}{'90% interval':>24}{'scipy':>11}"
        f"   without {len(data) - len(trimmed)} runs > 2% off"
    )
    ends, cut_ends = law.intervals(), cut.intervals()
    for name, value in PUBLISHED.items():
        a, b = ends[name]
        inside = "covers" if a <= value <= b else "misses"
        c, d = cut_ends[name]
        print(f"{name:>6}{value:>11.4g}{law.params[name]:>11.4g}{f'[{a:.4g}, {b:.4g}]':>24}{theirs[name]:>11.4g}"
              f"   {cut.params[name]:.4g} [{c:.4g}, {d:.4g}]; all runs: {inside} the published value")  # fmt: skip


if __name__ == "__main__":
    main()
