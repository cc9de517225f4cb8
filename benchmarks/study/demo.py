"""Processor time of `regrow demo` in this build and in another one, side by side, and how far apart their runs are.

    python -m benchmarks.study.demo --against CHECKOUT --without-bf16

Both demos run at the same time, each with one worker on one thread, so that other work on the machine meets both alike.
The other build is the folder of another checkout (`git worktree add ../then COMMIT`). With `--without-bf16` the CPU is
taken for one without bf16 units, so that both train in fp32. Processor seconds are of all processes, loading of
libraries included. The laws may differ between builds, so the losses of the runs are compared, not the predictions.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.study.speed import losses, spread
from benchmarks.training.common import machine, table

HERE = Path(__file__).resolve().parents[2]
#: What Python runs at its start: PyTorch names no unit that multiplies in bf16.
_WITHOUT_BF16 = "import torch\n\ntorch.cpu.get_capabilities = dict\n"


def demo(checkout: Path, out: Path, start: Path) -> float:
    """Processor seconds of a demo in a build; `start` is a folder that Python finds modules in."""
    process = subprocess.Popen(
        [sys.executable, "-m", "regrow.cli.main", "demo", "--out", str(out), "--workers", "1"],
        env={**os.environ, "PYTHONPATH": f"{start}{os.pathsep}{checkout / 'src'}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # the time of this child and of what it waited for, whatever other children take meanwhile
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the demo of {checkout} failed")
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="the folder of another checkout")
    parser.add_argument("--without-bf16", action="store_true")
    ask = parser.parse_args()
    builds = {"other": ask.against.resolve(), "this": HERE}
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor() as pool:
        folder = Path(name)
        if ask.without_bf16:
            (folder / "sitecustomize.py").write_text(_WITHOUT_BF16)
        started = {build: pool.submit(demo, place, folder / build, folder) for build, place in builds.items()}
        took = {build: waiting.result() for build, waiting in started.items()}
        curves = {build: losses(folder / build) for build in builds}
    print(f"{machine()}, one worker on one thread a build{', without bf16' * ask.without_bf16}\n")
    rows = [[build, f"{seconds:.0f} s", f"{seconds / took['other']:.2f}"] for build, seconds in took.items()]
    table(["build", "processor time", "of the other build's"], rows)
    same = curves["this"].keys() & curves["other"].keys()
    print(f"\nlosses apart: {spread([abs(curves['this'][reading] - curves['other'][reading]) for reading in same])}")


if __name__ == "__main__":
    main()
