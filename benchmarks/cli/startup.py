"""How long `regrow plan` takes to answer, against `python -c "import numpy, scipy"`, in pairs in one run.

    python -m benchmarks.cli.startup [--runs 15]

Fits a law to simulated runs first, so that it needs no other file. Prints medians of wall and of CPU seconds, and the
ratio pair by pair, which holds when the machine's speed drifts. Both commands find their bytecode in a cache that a
first run has filled, as an installed package does; `PYTHONDONTWRITEBYTECODE` would compile regrow's modules at each
start and numpy's never.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from regrow.laws import save_laws
from regrow.laws.fitting import fit
from regrow.laws.simulate import simulate

TRUTH = {"alpha": 0.0, "beta": 0.3, "gamma": -1.4, "delta": 0.1, "N_C": 0.0, "D_C": 120.0, "E": 2.0}


def measure(command: list[str], bytecode: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one run, which reads and writes its bytecode in a folder."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        law = Path(folder) / "law.json"
        sizes = (1e6, 2e6, 4e6)
        tokens = [1e4 * 1.6**i for i in range(8)]
        losses = {1e6: 3.6, 2e6: 3.4, 4e6: 3.2}
        records = simulate(
            TRUTH, sizes=sizes, rates=(0.15, 0.25, 0.35), tokens=tokens, loss_before=lambda n: losses[n], seed=0
        )
        save_laws(fit(records), law)
        regrow = str(Path(sys.executable).with_name("regrow"))
        ask = ("--params-before", "8M", "--rate", "0.25", "--loss-before", "3.0")
        commands = {
            "regrow plan": [regrow, "plan", str(law), *ask],
            "import numpy, scipy": [sys.executable, "-c", "import numpy, scipy"],
        }
        bytecode = Path(folder) / "bytecode"
        for command in commands.values():
            measure(command, bytecode)
        pairs = [{name: measure(command, bytecode) for name, command in commands.items()} for _ in range(runs)]
    for i, what in enumerate(("wall", "cpu")):
        plan, bare = ([pair[name][i] for pair in pairs] for name in commands)
        ratio = statistics.median(a / b for a, b in zip(plan, bare, strict=True))
        print(
            f"{what}: regrow plan {statistics.median(plan):.3f} s, numpy and scipy {statistics.median(bare):.3f} s, "
            f"ratio {ratio:.2f} (median of {runs} pairs)"
        )


if __name__ == "__main__":
    main()
