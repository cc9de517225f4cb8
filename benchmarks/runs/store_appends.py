"""Many writers on one store, some of them killed: is anything lost or torn, and is any run ever hidden?

    python -m benchmarks.runs.store_appends [--writers 8] [--appends 10000] [--kills 8] [--out DIR]

First, every writer is a process with runs of its own in one folder, appends evaluations to them in turn and says so
after each; at random moments writers are killed with SIGKILL and started again, as a study would. A reader lists the
whole store all the time. Then the same number of lines goes to one file from all the writers at once.

Counted at the end: evaluations that a writer said were on the disk and that are not (lost), lines that are not whole
(torn), evaluations that are there twice, listings that lacked a run which was there (hidden), and what
`regrow runs check` finds.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from regrow.disk import append_line
from regrow.runs import CurvePoint, RunRecord, RunWriter, read_run, read_runs
from regrow.runs.check import check_runs

RUNS_PER_WRITER = 5


def write_runs(store: Path, writer: int, appends: int) -> None:
    """What a writer process does: go on with its runs until each holds its share, and say what is on the disk."""
    for i in range(RUNS_PER_WRITER):
        name = f"w{writer}-r{i}"
        record = RunRecord(
            run=name,
            family="f",
            method="depth",
            params_before=100,
            params_after=80,
            pruning_rate=0.2,
            loss_before=2.0,
            spec={"writer": writer, "run": i},
        )
        run = RunWriter.open(store / name, record, resume=True)
        for point in range(len(run.record.curve), appends // RUNS_PER_WRITER):
            run.append(CurvePoint(tokens=10 * point, loss=2.0 + 1 / (1 + point), lr=1e-3, seconds=float(point)))
            print(json.dumps([name, 10 * point]), flush=True)
        run.finish()


def write_lines(path: Path, writer: int, appends: int) -> None:
    """The same on one file that all share."""
    for i in range(appends):
        append_line(path, json.dumps({"writer": writer, "line": i, "text": "x" * 200}) + "\n")


class Writer:
    """A writer process that can be killed and started again, and everything it ever said."""

    def __init__(self, store: Path, number: int, appends: int) -> None:
        self.command = [sys.executable, __file__, "--role", "runs", "--number", str(number)]
        self.command += ["--out", str(store), "--appends", str(appends)]
        self.said = store.parent / f"said-{number}"
        self.start()

    def start(self) -> None:
        with self.said.open("a") as stream:
            self.process = subprocess.Popen(self.command, stdout=stream)

    def kill(self) -> bool:
        if self.process.poll() is not None:
            return False
        self.process.kill()
        self.process.wait()
        self.start()
        return True

    def told(self) -> set[tuple[str, int]]:
        # a line that the kill tore was not said
        return {tuple(json.loads(line)) for line in self.said.read_text().split("\n")[:-1]}


def own_runs(folder: Path, writers: int, appends: int, kills: int) -> None:
    store = folder / "store"
    store.mkdir()
    rng = random.Random(0)
    began = time.perf_counter()
    crew = [Writer(store, number, appends // writers) for number in range(writers)]
    killed = listings = hidden = 0
    seen: set[str] = set()
    while any(writer.process.poll() is None for writer in crew):
        there = {path.parent.name for path in store.rglob("run.json")}
        if there:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                listed = {run.run for run in read_runs(store)}
            listings += 1
            hidden += len((there | seen) - listed)
            seen |= listed
        if killed < kills and rng.random() < 0.5:
            killed += rng.choice(crew).kill()
    took = time.perf_counter() - began
    failed = [writer for writer in crew if writer.process.returncode]
    on_disk: list[tuple[str, int]] = []
    torn = 0
    for run in store.iterdir():
        torn += not (run / "curve.jsonl").read_text().endswith("\n")
        on_disk += [(run.name, point.tokens) for point in read_run(run).curve]
    told = set().union(*(writer.told() for writer in crew))
    wrong = [one for one in check_runs(store) if one.problems or one.state != "done"]
    print(
        f"runs: {writers} writers, {writers * RUNS_PER_WRITER} runs, {killed} writers killed, {took:.1f} s\n"
        f"  {len(on_disk)} evaluations on the disk of {appends}; lost {len(told - set(on_disk))}, torn {torn}, "
        f"twice {len(on_disk) - len(set(on_disk))}; writers that failed {len(failed)}\n"
        f"  {listings} listings meanwhile, {hidden} hid a run; `runs check` finds {len(wrong)} wrong"
    )


def one_file(folder: Path, writers: int, appends: int) -> None:
    path = folder / "lines"
    began = time.perf_counter()
    command = [sys.executable, __file__, "--role", "lines", "--out", str(path), "--appends", str(appends // writers)]
    crew = [subprocess.Popen([*command, "--number", str(number)]) for number in range(writers)]
    assert [writer.wait() for writer in crew] == [0] * writers
    took = time.perf_counter() - began
    found, torn = set(), 0
    for line in path.read_text().splitlines():
        try:
            content = json.loads(line)
            found.add((content["writer"], content["line"]))
        except ValueError:
            torn += 1
    asked = writers * (appends // writers)
    print(f"one file: {writers} writers, {took:.1f} s\n  {len(found)} of {asked} lines; torn {torn}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--appends", type=int, default=10_000, help="in all")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--out", type=Path, help="an empty folder on the disk to test; by default a temporary one")
    parser.add_argument("--role", choices=("runs", "lines"), help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    ask = parser.parse_args()
    if ask.role:
        {"runs": write_runs, "lines": write_lines}[ask.role](ask.out, ask.number, ask.appends)
        return
    with tempfile.TemporaryDirectory(dir=ask.out) as folder:
        own_runs(Path(folder), ask.writers, ask.appends, ask.kills)
        one_file(Path(folder), ask.writers, ask.appends)


if __name__ == "__main__":
    main()
