"""What `regrow runs list` takes on very many runs, in folders and in one table: processor time and peak memory.

python -m benchmarks.runs.listing [--runs 1k,10k]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.laws.growth import HERE, Cost, cost, powers, table

from regrow.runs.store import RunWriter
from regrow.runs.table import from_table
from regrow.units import parse_count

#: readings of each run
_READINGS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="1k,10k")
    ask = parser.parse_args()
    counts = sorted(int(parse_count(count, what="--runs")) for count in ask.runs.split(","))
    start = cost(HERE, ["--version"], 600)
    print(f"{_READINGS} readings a run, {os.cpu_count()} cores")
    taken: dict[str, list[Cost]] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            rows, study = Path(folder) / "runs.parquet", Path(folder) / "study"
            made = table(count * _READINGS, _READINGS)
            made.to_parquet(rows)
            for record in from_table(made):
                RunWriter.store(study / record.run, record)
            for name, path in (("folders", study), ("a table", rows)):
                found = cost(HERE, ["runs", "list", str(path)], 600)
                taken.setdefault(name, []).append(found)
                print(f"{count:>7,} runs in {name:<8}{found}", flush=True)
    for name, costs in taken.items():
        if len(counts) > 1:
            print(f"{name}: {powers(counts, costs, start)}")


if __name__ == "__main__":
    main()
