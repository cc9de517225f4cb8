"""Commands that write are killed (SIGKILL) at random moments and run twice at once: is every output whole?

    python -m benchmarks.cli.kills [--kills 5] [--only prune,report]

A command is first run alone, which says how long it takes and what it writes. Then it is killed at random moments of
that time, each time over an output that an earlier command wrote; after each kill the output must be the old one or the
new one. Then two of them run at once, and at last the command runs alone and must leave nothing beside its output. An
import need not be whole after a kill: the same command must complete it. `train`, `cooldown` and studies have
benchmarks of their own (`benchmarks.training.kills`, `benchmarks.study.kills`).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.laws.growth import table

from regrow.locks import LOCK_FILE

MODEL = "tiny-llama-0.2m"
#: What differs from one writing to the next: times and process ids.
_VARIES = ("README.md", LOCK_FILE)


@dataclass(frozen=True)
class Writer:
    """A command and its output; `other` is the command whose output lies there before."""

    command: Sequence[str]
    other: Sequence[str]
    resumes: bool = False


def writers(folder: Path) -> dict[str, Writer]:
    """The commands, with what they read written into `folder`."""
    runs, few, law = (str(folder / name) for name in ("runs.parquet", "few.parquet", "law.json"))
    table(2000, 20).to_parquet(runs)
    table(400, 20).to_parquet(few)
    call("fit", few, "--form", "p2", "--out", law)
    (folder / "log.csv").write_text("step,eval_loss\n1,4.0\n2,3.9\n3,3.8\n")
    rows = "".join(f"log.csv,r{i:03},f,depth,100,80,2.0,1000\n" for i in range(60))
    manifest = folder / "manifest.csv"
    manifest.write_text("path,run,family,method,params_before,params_after,loss_before,tokens_per_step\n" + rows)
    prune = ["prune", MODEL, "--method", "depth", "--scorer", "angular", "--overwrite", "--rate"]
    found = {
        kind: Writer(["runs", "export", runs, "--out", f"OUT.{kind}"], ["runs", "export", few, "--out", f"OUT.{kind}"])
        for kind in ("csv", "parquet", "jsonl")
    }
    fit, report = ["--form", "p2", "--out", "OUT.json"], ["--no-validate", "--out", "OUT.html"]
    found["fit"] = Writer(["fit", runs, *fit], ["fit", few, *fit])
    found["report"] = Writer(["report", law, runs, *report], ["report", law, few, *report])
    found["import"] = Writer(["import", "--manifest", str(manifest), "--out", "OUT"], [], resumes=True)
    found["prune"] = Writer([*prune, "0.3", "--out", "OUT"], [*prune, "0.15", "--out", "OUT"])
    return found


def start(command: Sequence[str], out: Path) -> subprocess.Popen[bytes]:
    asked = [part.replace("OUT", str(out)) if part.startswith("OUT") else part for part in command]
    return subprocess.Popen(
        [sys.executable, "-m", "regrow.cli.main", *asked], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def call(*command: str, out: Path = Path()) -> float:
    """Run a command to its end; its seconds."""
    began = time.monotonic()
    code = start(command, out).wait()
    if code:
        raise SystemExit(f"regrow {' '.join(command)} ended with {code}")
    return time.monotonic() - began


def state(folder: Path) -> Mapping[str, str]:
    """Files of a folder that hold an output, by their hashes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in _VARIES and ".tmp" not in str(path.relative_to(folder))
    }


def tried(name: str, writer: Writer, root: Path, kills: int) -> str:
    """Kill, run twice at once, run alone; what came out in one line."""
    rng, known = random.Random(name), []
    for command in (writer.other, writer.command):
        folder = root / f"{name}-{len(known)}"
        folder.mkdir(parents=True)
        seconds = call(*command, out=folder / "out") if command else 0.0
        known.append(state(folder))
    folder = root / name
    folder.mkdir()
    torn = cut = 0
    for _ in range(kills):
        if writer.other:
            call(*writer.other, out=folder / "out")
        process = start(writer.command, folder / "out")
        time.sleep(rng.uniform(0.2, 1.0) * seconds)
        cut += process.poll() is None
        process.kill()
        process.wait()
        found = state(folder)
        if writer.resumes:
            torn += not set(found.items()) <= set(known[1].items()) | {
                (k, v) for k, v in found.items() if "import" in k
            }
            call(*writer.command, out=folder / "out")
            torn += state(folder) != known[1]
            shutil.rmtree(folder / "out")
        else:
            torn += found not in known
    both = [start(writer.command, folder / "out") for _ in range(2)]
    codes = sorted(process.wait() for process in both)
    torn += state(folder) != known[1]
    if not writer.resumes:
        call(*writer.command, out=folder / "out")
    left = [p.name for p in folder.iterdir() if p.name.startswith(".") and time.time() - p.stat().st_mtime > 60]
    return (
        f"{name:<9}{seconds:5.1f} s alone, {cut} of {kills} killed before the end, {torn} outputs torn; "
        f"two at once ended with {codes[0]} and {codes[1]}; {len(left)} old left-overs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--only", help="names, separated by commas")
    ask = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, writer in writers(Path(folder)).items():
            if ask.only is None or name in ask.only.split(","):
                print(tried(name, writer, Path(folder) / "out", ask.kills), flush=True)


if __name__ == "__main__":
    main()
