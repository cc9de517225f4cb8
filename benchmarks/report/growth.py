"""What `regrow report` takes on many runs, and on a law with many draws: processor time, memory and size of the page.

    python -m benchmarks.report.growth [--runs 100,1k] [--readings 20] [--draws 200,20k]

Every report runs in a process of its own, of a law file that was fitted before. The runs are those of
`benchmarks.laws.growth`. With several draws the report is of the fewest runs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.laws.growth import HERE, cost, table

from regrow.units import parse_count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="100,1k")
    parser.add_argument("--readings", type=int, default=20)
    parser.add_argument("--draws", default="200,20k")
    parser.add_argument("--seconds", type=int, default=600)
    ask = parser.parse_args()
    counts = sorted(parse_count(count, what="--runs") for count in ask.runs.split(","))
    draws = sorted(parse_count(count, what="--draws") for count in ask.draws.split(","))
    cells = [(count, draws[0]) for count in counts] + [(counts[0], more) for more in draws[1:]]
    print(f"{ask.readings} readings a run, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        runs, law, page = (str(Path(folder) / name) for name in ("runs.parquet", "law.json", "report.html"))
        for count, drawn in cells:
            table(int(count) * ask.readings, ask.readings).to_parquet(runs)
            fitted = ["fit", runs, "--form", "regrowth", "--draws", f"{drawn:.0f}", "--out", law]
            failed = cost(HERE, fitted, ask.seconds).failed
            found = failed or cost(HERE, ["report", law, runs, "--out", page, "--no-validate"], ask.seconds)
            print(f"{count:>6,} runs {drawn:>7,} draws {found} {os.path.getsize(page) / 1e6:6.2f} MB", flush=True)


if __name__ == "__main__":
    main()
