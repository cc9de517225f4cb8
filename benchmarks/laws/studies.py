"""What `fit` and `validate` take on the runs of `studies/`: processor time of this build and of another one, in turns.

    python -m benchmarks.laws.studies --against CHECKOUT [--repeats 5] [--forms auto,p2] [--hold-outs size,rate]
    python -m benchmarks.laws.studies --against CHECKOUT --files 'ladder-llama.jsonl' --hold-outs run --skip-fit

Every measurement runs in a process of its own and counts from after the imports and the reading of the records. The
other build is the folder of another checkout (`git worktree add ../then COMMIT`). A measurement of more than
`--seconds` of processor time is stopped. "all" is the sum over the forms that both builds ended.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parents[2]
FORMS = "auto,regrowth,p2,p2_counts,p2_shifted,p2_odds,chinchilla,compression,sparse"
#: what both builds run: a step (`fit` or a hold-out), a form and the files, as JSON
CHILD = """
import json, sys, time
from pathlib import Path
from regrow.laws import fit, validate
from regrow.runs import read_runs
step, form, files = json.loads(sys.argv[1])
runs = [run for path in files for run in read_runs(Path(path))]
start = time.process_time()
found = fit(runs, form=form, draws=200) if step == "fit" else validate(runs, step, forms=form)
print(json.dumps([time.process_time() - start, len(runs), len(found)]))
"""


def measure(checkout: Path, step: str, form: str, files: list[str], limit: int) -> tuple[float, int, int] | None:
    """Seconds, runs and results of one step; None where it took more than the limit, or the build refuses it."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([step, form, files])],
        env={**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit)),
    )
    return tuple(json.loads(done.stdout)) if done.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="the folder of another checkout")
    parser.add_argument("--studies", type=Path, default=HERE / "studies")
    parser.add_argument("--files", default="**/*.jsonl", help="which of its records")
    parser.add_argument("--forms", default=FORMS)
    parser.add_argument("--hold-outs", default="", help="of validate: size,rate,tokens,run")
    parser.add_argument("--skip-fit", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=600)
    ask = parser.parse_args()
    files = [str(path.resolve()) for path in sorted(ask.studies.glob(ask.files))]
    builds = {"this": HERE} | ({"other": ask.against.resolve()} if ask.against else {})
    steps = ([] if ask.skip_fit else ["fit"]) + [name for name in ask.hold_outs.split(",") if name]
    print(f"{len(files)} files, {os.cpu_count()} cores, seconds of processor time, median of {ask.repeats}")
    print(f"{'step':<8}{'form':<12}{'runs':>5}{'results':>8}{'other':>9}{'this':>9}{'ratio':>7}")
    for step in steps:
        whole = dict.fromkeys(builds, 0.0)
        for form in ask.forms.split(","):
            if form == "auto" and step != "fit":
                continue
            taken: dict[str, list[float]] = {name: [] for name in builds}
            what = "    -       -"
            for _ in range(ask.repeats):
                for name, checkout in builds.items():
                    found = measure(checkout, step, form, files, ask.seconds)
                    if found is not None:
                        taken[name].append(found[0])
                        what = f"{found[1]:>5}{found[2]:>8}"
            middle = {name: median(seconds) for name, seconds in taken.items() if seconds}
            if len(middle) == len(builds):
                whole = {name: whole[name] + seconds for name, seconds in middle.items()}
            print(f"{step:<8}{form:<12}{what}{shown(middle)}", flush=True)
        print(f"{step:<8}{'all':<12}{'':>13}{shown(whole)}", flush=True)


def shown(seconds: dict[str, float]) -> str:
    """The times of the other build and of this one, and their ratio; "-" for one that was not measured."""
    cells = [f"{seconds[name]:>9.2f}" if name in seconds else f"{'-':>9}" for name in ("other", "this")]
    both = len(seconds) == 2 and seconds["other"] > 0
    return "".join(cells) + (f"{seconds['this'] / seconds['other']:>7.2f}" if both else f"{'-':>7}")


if __name__ == "__main__":
    main()
