"""A study killed again and again, against the same study left alone: every cell once, the same results to the bit?

    python -m benchmarks.study.kills [--kills 10] [--engine local|ray] [--lose worker|node] [--workers 2] [--out DIR]

28 cells of the two smallest models of the ladder, in fp32. First the study runs undisturbed into DIR/undisturbed (kept
and used again if it is there). Then it runs into DIR/killed: `regrow study` with all its processes is killed with
SIGKILL at a random moment after a cell has begun to train, and started again, `--kills` times.

With `--engine ray` the study runs on a local Ray cluster instead and the worker process of one cell is killed in the
middle of it; with `--lose node` the cluster has two nodes (two of Ray's daemons on this machine) and one of them is
killed with its workers. The study itself goes on.

Compared: the curves (tokens, held-out and training losses, learning rates), the weights of every final model, and the
times that the `DONE` files were written, which must never change once they are there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from regrow.runs import read_run
from regrow.runs.check import check_runs
from regrow.study import StudySpec

STUDY = """
family: tiny-llama
models: [tiny-llama-0.2m, tiny-llama-0.3m]
methods: [depth, width, "2:4"]
rates: [0.17, 0.25, 0.33]
rates_by_method: {width: [0.10, 0.16]}
width_axes: [intermediate]
seeds: [0, 1]
train:
  tokens: 8k
  batch_tokens: 1024
  learning_rate: 3.0e-4
  eval_at: log:3
  held_out_blocks: 8
  precision: fp32
"""


def command(file: Path, out: Path, ask: argparse.Namespace, engine: str) -> list[str]:
    regrow = [sys.executable, "-m", "regrow.cli.main", "study", str(file), "--out", str(out)]
    return [*regrow, "--engine", engine, "--workers", str(ask.workers), "--json"]


def start(file: Path, out: Path, ask: argparse.Namespace, engine: str = "local", *more: str) -> subprocess.Popen:
    log = (out.parent / f"{out.name}.log").open("a")
    return subprocess.Popen([*command(file, out, ask, engine), *more], stdout=log, stderr=log, start_new_session=True)


def whole(file: Path, out: Path, ask: argparse.Namespace, engine: str = "local") -> float:
    """Run a study to its end; seconds."""
    began = time.perf_counter()
    process = start(file, out, ask, engine)
    if process.wait():
        sys.exit(f"the study failed; see {out}.log")
    return time.perf_counter() - began


def trains(out: Path, since: float) -> bool:
    """Whether a step has been made since a moment."""
    found = list(out.glob("runs/*/progress.json"))
    try:
        return any(path.stat().st_mtime >= since for path in found)
    except FileNotFoundError:  # it has ended meanwhile
        return True


def done_times(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("runs/*/DONE")}


def result(out: Path, name: str) -> tuple[list[tuple], str, float]:
    """What a cell's run found: its curve, the hash of its weights, and the loss of its unpruned model."""
    run = read_run(out / "runs" / name)
    weights = (out / "runs" / name / "model" / "model.safetensors").read_bytes()
    curve = [(p.tokens, p.loss, p.train_loss, p.lr) for p in run.curve]
    return curve, hashlib.sha256(weights).hexdigest(), run.loss_before


def killed_study(file: Path, out: Path, ask: argparse.Namespace) -> tuple[float, int]:
    """The study with all its processes killed again and again; seconds in all, and cells that were run again."""
    rng = random.Random(ask.seed)
    spent, again, seen = 0.0, 0, {}
    for i in range(ask.kills):
        began = time.perf_counter()
        moment = time.time()
        process = start(file, out, ask)
        while process.poll() is None and not trains(out, since=moment):
            time.sleep(0.02)
        at = rng.uniform(0, ask.within)
        try:
            process.wait(timeout=at)
            print(f"kill {i + 1}: the study had ended before", flush=True)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        took = time.perf_counter() - began
        spent += took
        now = done_times(out)
        again += sum(now.get(name) != when for name, when in seen.items())
        seen = now
        wrong = [one for one in check_runs(out) if one.problems] if (out / "study.json").exists() else []
        begun = sum(1 for _ in out.glob("runs/*/curve.jsonl")) - len(now)
        print(
            f"kill {i + 1} after {took:.0f} s, {at:.0f} s of them training: {len(now)} cells done, {begun} begun, "
            f"{len(wrong)} runs not whole",
            flush=True,
        )
    spent += whole(file, out, ask)
    again += sum(done_times(out).get(name) != when for name, when in seen.items())
    return spent, again


def in_the_middle(out: Path, process: subprocess.Popen) -> Path | None:
    """Wait for a run in the middle of its curve, once some cells are done; None if the study ends before."""
    while process.poll() is None:
        time.sleep(0.02)
        if len(done_times(out)) < 8:
            continue
        for curve in out.glob("runs/*/curve.jsonl"):
            if curve.read_text().count("\n") == 2 and not (curve.parent / "DONE").exists():
                return curve.parent
    return None


def worker_lost(file: Path, out: Path, ask: argparse.Namespace) -> float:
    """The study on a local Ray cluster, one cell's worker killed in the middle of it; seconds."""
    began = time.perf_counter()
    process = start(file, out, ask, "ray")
    run = in_the_middle(out, process)
    if run is not None:
        os.kill(int((run / ".lock").read_text().split()[1]), signal.SIGKILL)
        print(f"killed the worker of {run.name}, {len(done_times(out))} cells done", flush=True)
    if process.wait():
        sys.exit(f"the study failed; see {out}.log")
    return time.perf_counter() - began


def node_lost(file: Path, out: Path, ask: argparse.Namespace) -> float:
    """The study on a Ray cluster of two nodes with one CPU each, one node killed in the middle of it; seconds."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    began = time.perf_counter()
    try:
        process = start(file, out, ask, "ray", "--address", cluster.address)
        run = in_the_middle(out, process)
        if run is not None:
            cluster.remove_node(node, allow_graceful=False)
            print(f"killed a node while {run.name} ran, {len(done_times(out))} cells done", flush=True)
        if process.wait():
            sys.exit(f"the study failed; see {out}.log")
        return time.perf_counter() - began
    finally:
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--lose", choices=("worker", "node"), default="worker", help="with --engine ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--within", type=float, default=15.0, help="seconds from the first step to a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("kills"))
    ask = parser.parse_args()
    ask.out.mkdir(parents=True, exist_ok=True)
    file = ask.out / "study.yaml"
    file.write_text(STUDY)
    names = [cell.name for cell in StudySpec.from_yaml(file).cells()]
    left_alone, note = ask.out / "undisturbed", ask.out / "undisturbed.seconds"
    if not note.exists():
        shutil.rmtree(left_alone, ignore_errors=True)
        note.write_text(f"{whole(file, left_alone, ask)}\n")
    undisturbed = float(note.read_text())
    print(f"{len(names)} cells, undisturbed {undisturbed:.0f} s, {ask.workers} workers", flush=True)
    out = ask.out / ("killed" if ask.engine == "local" else f"ray-{ask.lose}")
    shutil.rmtree(out, ignore_errors=True)
    again = 0
    if ask.engine == "local":
        spent, again = killed_study(file, out, ask)
        lost = (spent - undisturbed) / max(ask.kills, 1)
        print(f"killed {ask.kills} times: {spent:.0f} s in all, {lost:.1f} s lost a kill")
    else:
        lose = {"worker": worker_lost, "node": node_lost}[ask.lose]
        print(f"on Ray, one {ask.lose} killed: {lose(file, out, ask):.0f} s")
    differ = [name for name in names if result(left_alone, name) != result(out, name)]
    states = check_runs(out)
    print(
        f"cells done {len(done_times(out))} of {len(names)}, run again after they were done {again}, "
        f"not whole {sum(bool(s.problems) for s in states)}, different from the undisturbed study {len(differ)}"
    )
    if differ or again:
        sys.exit(f"differ: {', '.join(differ)}")


if __name__ == "__main__":
    main()
