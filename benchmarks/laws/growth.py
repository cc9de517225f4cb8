"""What `regrow fit` takes on large tables: processor time and peak memory, of this build and of another one.

    python -m benchmarks.laws.growth [--rows 200k] [--readings 100] [--groups 2] [--forms p2,auto] [--against CHECKOUT]
    python -m benchmarks.laws.growth --models 50,200,800 --readings 20 --forms regrowth

The tables hold simulated runs of four sizes with `--readings` checkpoints each, in one group (depth) or two (depth and
width). With `--models` every run is of a model of its own, and the power is that of the models. Every fit runs in a
process of its own. With several tables the growth is stated as a power of the rows, from what each table takes beyond
the smallest process (a start with `--version`). With the folder of another checkout (`git worktree add ../then COMMIT`)
the same fit runs on its code, too; a fit that takes more than `--seconds` of processor time is stopped and said so.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from regrow.units import parse_count

HERE = Path(__file__).resolve().parents[2]


def table(rows: int, readings: int, groups: int = 2, *, own: bool = False) -> pd.DataFrame:
    """Runs of four models, or each of its `own`.

    Gaps that close as (1 + D/D_s)^-0.35, with a spread of 10% between runs and noise of 0.4% of the gap.
    """
    rng = np.random.default_rng(0)
    tokens = np.round(np.geomspace(1e7, 1e10, readings))
    parts = []
    for method in ("depth", "width")[:groups]:
        runs = rows // groups // readings
        size, rate = rng.choice([0.5e9, 1e9, 2e9, 4e9], runs), rng.uniform(0.1, 0.5, runs)
        size = np.round(np.geomspace(0.5e9, 4e9, runs)) if own else size
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


@dataclass(frozen=True)
class Cost:
    """Processor time in seconds, peak memory in GB, and what went wrong, if anything."""

    seconds: float
    memory: float
    failed: str = ""

    def __str__(self) -> str:
        return f"{self.seconds:8.1f} s {self.memory:8.2f} GB{self.failed}"


def cost(checkout: Path, command: Sequence[str], limit: int) -> Cost:
    """What a regrow command takes with the code in `checkout`, stopped after `limit` seconds of processor time."""
    process = subprocess.Popen(
        [sys.executable, "-m", "regrow.cli.main", *command],
        env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit)),
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    failed = f" (stopped after {limit} s)" if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL) else ""
    if process.returncode > 0:
        failed = f" (exit code {process.returncode})"
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6, failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="200k", help="one number or several: 25k,50k,100k,200k")
    parser.add_argument("--models", default="", help="one number or several, in the place of --rows")
    parser.add_argument("--readings", type=int, default=100)
    parser.add_argument("--groups", type=int, choices=(1, 2), default=2)
    parser.add_argument("--forms", default="p2,auto")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--seconds", type=int, default=3600)
    ask = parser.parse_args()
    if ask.models:
        ask.groups = 1
        counts = sorted(parse_count(models, what="--models") * ask.readings for models in ask.models.split(","))
    else:
        counts = sorted(parse_count(rows, what="--rows") for rows in ask.rows.split(","))
    checkouts = {"this build": HERE} | ({"the other": ask.against} if ask.against else {})
    with tempfile.TemporaryDirectory() as folder:
        print(f"{ask.groups} group(s), {ask.readings} readings a run, {os.cpu_count()} cores")
        start = {name: cost(checkout, ["--version"], ask.seconds) for name, checkout in checkouts.items()}
        taken: dict[tuple[str, str], list[Cost]] = {}
        for count in counts:
            path = Path(folder) / f"runs-{count}.parquet"
            rows = table(count, ask.readings, ask.groups, own=bool(ask.models))
            rows.to_parquet(path)
            for form in ask.forms.split(","):
                for name, checkout in checkouts.items():
                    found = cost(checkout, ["fit", str(path), "--form", form, "--json"], ask.seconds)
                    taken.setdefault((form, name), []).append(found)
                    print(
                        f"{len(rows):>9,} rows {rows.run.nunique():>6,} runs  {form:<10}{name:<12}{found}", flush=True
                    )
        if len(counts) > 1:
            for (form, name), costs in taken.items():
                print(f"{form:<10}{name:<12}{powers(counts, costs, start[name])}")


def powers(rows: Sequence[int], costs: Sequence[Cost], start: Cost) -> str:
    """The exponents of the rows with which time and memory beyond those of a start grow, by least squares."""
    if any(one.failed for one in costs):
        return "no power: a fit did not end"
    slopes = [
        np.polyfit(np.log(rows), np.log([max(getattr(one, of) - getattr(start, of), 1e-3) for one in costs]), 1)[0]
        for of in ("seconds", "memory")
    ]
    return f"time grows as rows^{slopes[0]:.2f}, memory as rows^{slopes[1]:.2f}"


if __name__ == "__main__":
    main()
