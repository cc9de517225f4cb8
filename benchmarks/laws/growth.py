"""What `regrow fit` takes on large tables: processor time and peak memory, of this build and of another one.

    python -m benchmarks.laws.growth [--rows 200k] [--readings 100] [--forms p2,auto] [--against CHECKOUT]

The table holds two groups of simulated runs of four sizes, depth and width, with `--readings` checkpoints each. Every
fit runs in a process of its own. With the folder of another checkout (`git worktree add ../then COMMIT`) the same fit
runs on its code, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from regrow.units import parse_count

HERE = Path(__file__).resolve().parents[2]


def table(rows: int, readings: int) -> pd.DataFrame:
    """Gaps that close as (1 + D/D_s)^-0.35, with a spread of 10% between runs and noise of 0.4% of the gap."""
    rng = np.random.default_rng(0)
    tokens = np.round(np.geomspace(1e7, 1e10, readings))
    parts = []
    for method in ("depth", "width"):
        runs = rows // 2 // readings
        size, rate = rng.choice([0.5e9, 1e9, 2e9, 4e9], runs), rng.uniform(0.1, 0.5, runs)
        before = 1.8 + 0.9 * (size / 1e9) ** -0.25
        lost = 0.5 * (rate / 0.3) ** 1.5 * np.exp(rng.normal(0, 0.1, runs))
        gap = lost[:, None] * (1 + tokens / 3e8) ** -0.35 * np.exp(rng.normal(0, 0.004, (runs, readings)))
        by_run = {
            "run": [f"{method}-{i}" for i in range(runs)], "params_before": size,
            "params_after": np.round(size * (1 - rate)), "loss_before": before, "loss_pruned": before + lost,
        }  # fmt: skip
        part = pd.DataFrame({name: np.repeat(values, readings) for name, values in by_run.items()})
        loss = part.loss_before + gap.ravel()
        parts.append(part.assign(family="big", method=method, tokens=np.tile(tokens, runs), loss=loss))
    return pd.concat(parts)


def cost(checkout: Path, path: Path, form: str) -> str:
    """Processor time and peak memory of a fit by the code in `checkout`."""
    fit = [sys.executable, "-m", "regrow.cli.main", "fit", str(path), "--form", form, "--json"]
    process = subprocess.Popen(fit, env={**os.environ, "PYTHONPATH": str(checkout / "src")}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    failed = f" (exit code {process.returncode})" if process.returncode else ""
    return f"{used.ru_utime + used.ru_stime:8.1f} s {used.ru_maxrss / 1e6:8.2f} GB{failed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="200k")
    parser.add_argument("--readings", type=int, default=100)
    parser.add_argument("--forms", default="p2,auto")
    parser.add_argument("--against", type=Path)
    ask = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.parquet"
        rows = table(parse_count(ask.rows, what="--rows"), ask.readings)
        rows.to_parquet(path)
        print(f"{len(rows):,} rows, {rows.run.nunique():,} runs in two groups, {os.cpu_count()} cores")
        for form in ask.forms.split(","):
            for name, checkout in (("this build", HERE), ("the other", ask.against)):
                if checkout is not None:
                    print(f"{form:<10}{name:<12}{cost(checkout, path, form)}", flush=True)


if __name__ == "__main__":
    main()
