"""Twenty random kills over one run: does the resumed curve equal the uninterrupted one, to the bit?

    python -m benchmarks.training.kills [--kills 20] [--model tiny-llama-0.2m] [--tokens 120k] [--seed 0]

`regrow train` runs once undisturbed, then again and again with the same command, killed with SIGKILL (nothing can catch
it) at random moments, saving and now and then starting up included, until it has been killed so often; then it may
finish. The run has milestones, an average and cool-down branches, and saves twice for each kill on average. Compared:
every point of the curve, and the bytes of the final weights. After each kill the last whole checkpoint must be as late
as before it, and readable. Lost time is what the killed run needed more, starts included, divided by the kills.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.training.common import machine

from regrow.ladder import find_model
from regrow.runs import RunRecord, read_run
from regrow.training.checkpoints import checkpoints, read_state, step_of
from regrow.training.run import CHECKPOINTS
from regrow.units import parse_count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="tiny-llama-0.2m")
    parser.add_argument("--tokens", default="120k")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        compare(options, Path(temporary))


def command(options: argparse.Namespace, out: Path) -> list[str]:
    """The same command for every start."""
    tokens = parse_count(options.tokens)
    ask = f"train {find_model(options.model)} --data ladder --tokens {tokens} --eval-at linear:4 --held-out-blocks 16"
    ask += f" --average ema:0.9 --cooldown {tokens // 8} --save-every {tokens // (2 * options.kills)}"
    ask += f" --resume --out {out}"
    return [sys.executable, "-m", "regrow.cli.main", *ask.split()]


def start(options: argparse.Namespace, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(options, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def compare(options: argparse.Namespace, folder: Path) -> None:
    whole, killed = folder / "whole", folder / "killed"
    began = time.monotonic()
    running = start(options, whole)
    _wait_for(whole / "run.json", running, after=0)
    starting = time.monotonic() - began
    if running.wait():
        raise SystemExit("the undisturbed run failed")
    undisturbed = time.monotonic() - began
    # half of it passes before a kill on average, and some of that is lost: the run is unfinished until the last
    piece = 2.4 * (undisturbed - starting) / options.kills

    dice = random.Random(options.seed)
    step, lost, moments, began = -1, 0, [], time.monotonic()
    while len(moments) < options.kills:
        now = time.time()
        running = start(options, killed)
        if dice.random() < 0.2:  # while it starts
            time.sleep(dice.uniform(0, starting))
        else:
            _wait_for(killed / "run.json", running, after=now)
            time.sleep(dice.uniform(0, piece))
        if running.poll() is not None:
            break
        running.kill()
        running.wait()
        found = checkpoints(killed / CHECKPOINTS)
        for checkpoint in found:
            read_state(checkpoint)
        latest = step_of(found[-1]) if found else -1
        lost += latest < step
        step = max(step, latest)
        moments.append(latest)
    kills = len(moments)
    if start(options, killed).wait():
        raise SystemExit("the run failed after its kills")
    disturbed = time.monotonic() - began

    ours, theirs = read_run(killed), read_run(whole)
    print(f"{options.model}, {options.tokens} tokens, {kills} kills, {machine()}")
    print(f"last checkpoint at each kill (optimizer steps; -1: none yet): {moments}")
    print(f"curve equal to the bit: {points(ours) == points(theirs)} ({len(ours.curve)} points)")
    same = [(f / "model" / "model.safetensors").read_bytes() for f in (killed, whole)]
    print(f"final weights equal to the bit: {same[0] == same[1]}")
    print(f"checkpoints lost: {lost}")
    print(f"undisturbed {undisturbed:.0f} s (of which starting {starting:.0f} s), killed {disturbed:.0f} s")
    print(f"time lost per kill: {(disturbed - undisturbed) / max(1, kills):.1f} s, a start included")
    if points(ours) != points(theirs) or same[0] != same[1] or lost:
        raise SystemExit(1)


def _wait_for(file: Path, running: subprocess.Popen[bytes], *, after: float) -> None:
    """Until the run has written `file`, or has ended."""
    while running.poll() is None and not (file.exists() and file.stat().st_mtime > after):
        time.sleep(0.01)


def points(run: RunRecord) -> list[tuple[float | None, ...]]:
    return [(p.tokens, p.loss, p.train_loss, p.lr, p.loss_averaged, p.loss_cooled) for p in run.curve]


if __name__ == "__main__":
    main()
