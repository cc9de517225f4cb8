"""Processor time of a study in this build and in another one, in turns, and how far apart their curves are.

    python -m benchmarks.study.speed --against CHECKOUT
    python -m benchmarks.study.speed --against CHECKOUT --models tiny-llama-3m --seeds 0 --share 0.125

It runs cells of a study file (`--study`, the ladder's Llamas unless it is given) with one worker on one thread, for
`--share` of its tokens and readings, on the local engine. Both builds run the same file; the other build is the folder
of another checkout (`git worktree add ../then COMMIT`). Processor seconds are of all processes from start to end,
loading of libraries included. How far apart the losses of both builds are, at the same reading of the same run, stands
beside the scatter of a seed: the standard deviation of a loss over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from benchmarks.training.common import machine, table

HERE = Path(__file__).resolve().parents[2]
#: One reading of one run: model, method, rate, seed and tokens.
Reading = tuple[str, str, float, int, int]


def subset(study: dict[str, Any], ask: argparse.Namespace) -> dict[str, Any]:
    """The study of fewer models, rates and seeds, with a share of its tokens and of its readings."""
    train = dict(study["train"])
    batch = train["batch_tokens"]
    train["tokens"] = max(1, round(train["tokens"] * ask.share / batch)) * batch
    between = train["eval_at"][1:-1]
    kept = between[:: max(1, round(1 / ask.share))]
    train["eval_at"] = sorted({0, train["tokens"], *(round(t * ask.share / batch) * batch for t in kept)})
    return {**study, "models": ask.models, "rates": ask.rates, "seeds": ask.seeds, "train": train}


def run(checkout: Path, file: Path, out: Path) -> float:
    """Processor seconds of a study in a build."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "regrow.cli.main", "study", str(file), "--out", str(out), "--workers", "1"],
        env={**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def losses(out: Path) -> dict[Reading, float]:
    """The losses of every reading of a study's runs."""
    found = {}
    for folder in (out / "runs").iterdir():
        record = json.loads((folder / "run.json").read_text())
        key = (record["details"]["model"], record["method"], round(record["pruning_rate"], 3), record["seed"])
        for line in (folder / "curve.jsonl").read_text().splitlines():
            point = json.loads(line)
            found[(*key, point["tokens"])] = point["loss"]
    return found


def scatter(found: dict[Reading, float]) -> list[float]:
    """The standard deviation over the seeds of every loss that was read during training."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for (model, method, rate, _, tokens), loss in found.items():
        if tokens:
            groups.setdefault((model, method, rate, tokens), []).append(loss)
    return [statistics.stdev(group) for group in groups.values() if len(group) > 1]


def spread(numbers: list[float]) -> str:
    """Median, ninth tenth and largest, nats/token."""
    ordered = sorted(numbers)
    ninth = ordered[math.ceil(0.9 * len(ordered)) - 1]
    return (
        f"median {statistics.median(ordered):.1e}, ninth tenth {ninth:.1e}, largest {ordered[-1]:.1e} of {len(ordered)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="the folder of another checkout")
    parser.add_argument("--study", type=Path, default=HERE / "studies" / "ladder-llama.yaml")
    parser.add_argument("--models", type=lambda text: text.split(","), default=["tiny-llama-0.2m", "tiny-llama-0.3m"])
    parser.add_argument("--rates", type=lambda text: [float(t) for t in text.split(",")], default=[0.25])
    parser.add_argument("--seeds", type=lambda text: [int(t) for t in text.split(",")], default=[0, 1])
    parser.add_argument("--share", type=float, default=0.25, help="of the study's tokens and readings")
    parser.add_argument("--repeats", type=int, default=1)
    ask = parser.parse_args()
    builds = {"other": ask.against.resolve(), "this": HERE}
    took: dict[str, list[float]] = {name: [] for name in builds}
    curves: dict[str, dict[Reading, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.yaml"
        asked = subset(yaml.safe_load(ask.study.read_text()), ask)
        file.write_text(yaml.safe_dump(asked))
        for repeat in range(ask.repeats):
            for name in list(builds)[:: 1 if repeat % 2 == 0 else -1]:
                out = Path(folder) / f"{name}-{repeat}"
                took[name].append(run(builds[name], file, out))
                curves[name] = losses(out)
    print(f"{', '.join(ask.models)}, rates {ask.rates}, seeds {ask.seeds}, {asked['train']['tokens']:,} tokens a run,")
    print(f"readings at {asked['train']['eval_at']}, {machine()}, one thread\n")
    middle = {name: statistics.median(seconds) for name, seconds in took.items()}
    rows = [[name, f"{seconds:.1f} s", f"{seconds / middle['other']:.2f}"] for name, seconds in middle.items()]
    table(["build", "processor time", "of the other build's"], rows)
    same = curves["this"].keys() & curves["other"].keys()
    apart = {reading: curves["this"][reading] - curves["other"][reading] for reading in same}
    print(f"\nlosses apart right after pruning: {spread([abs(d) for r, d in apart.items() if not r[-1]])}")
    print(f"losses apart in training: {spread([abs(d) for r, d in apart.items() if r[-1]])}")
    seeds = scatter(curves["this"])
    if seeds:
        print(f"scatter of a seed: {spread(seeds)}")


if __name__ == "__main__":
    main()
