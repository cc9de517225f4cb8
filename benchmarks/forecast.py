"""How well does a forecast made on the way predict where a run ends?

    regrow study benchmarks/forecast_study.yaml --out build/forecast
    python benchmarks/forecast.py build/forecast

Every run is cut at 25%, 50% and 75% of its tokens, and the loss of its last evaluation is forecast from the evaluations
before the cut: from the run's own curve alone, and by a law of the other runs (p2_shifted per method, this run left
out) that the run's evaluations correct. Beside both, what costs nothing: the last loss seen. Prints the mean absolute
error of the final loss in nats, the width of the 90% interval, and how often it held the measured loss.
"""

from __future__ import annotations

import argparse

import numpy as np

from regrow.errors import RegrowError
from regrow.laws import fit
from regrow.planning.curves import Setting
from regrow.planning.forecast import Forecast, forecast
from regrow.runs import RunRecord, read_runs

SHARES = (0.25, 0.5, 0.75)


def cut(run: RunRecord, share: float) -> tuple[list[int], list[float]]:
    """The evaluations of a run up to a share of its tokens."""
    end = run.curve[-1].tokens
    seen = [p for p in run.curve if p.tokens <= share * end * 1.0001]
    return [p.tokens for p in seen], [p.loss for p in seen]


def by_law(run: RunRecord, runs: list[RunRecord], share: float) -> Forecast | None:
    """By a law of the other runs of the method; None where they do not carry one."""
    others = [r for r in runs if r.run != run.run and r.method == run.method]
    try:
        (law,) = fit(others, form="p2_shifted", draws=200)
        setting = Setting(params_before=run.params_before, pruning_rate=run.pruning_rate, loss_before=run.loss_before)
        tokens, losses = cut(run, share)
        return forecast(tokens, losses, final_tokens=run.curve[-1].tokens, law=law, setting=setting)
    except RegrowError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    args = parser.parse_args()
    runs = [run for run in read_runs(*args.runs) if not run.is_control and len(run.curve) >= 12]
    print(f"{len(runs)} runs, {runs[0].curve[-1].tokens:,} tokens and {len(runs[0].curve) - 1} evaluations each")
    print(f"{'forecast from':22} {'at':>4} {'made':>6} {'error':>8} {'width':>8} {'covered':>9}")
    for share in SHARES:
        ends = [run.curve[-1].loss for run in runs]
        last = [cut(run, share)[1][-1] for run in runs]
        error = np.mean(np.abs(np.array(last) - ends))
        print(f"{'the last loss seen':22} {share:4.0%} {len(runs):>6} {error:8.4f} {'-':>8} {'-':>9}")
        own: list[Forecast | None] = []
        for run in runs:
            tokens, losses = cut(run, share)
            found = forecast(tokens, losses, final_tokens=run.curve[-1].tokens)
            own.append(found if found.final_loss is not None else None)
        law = [by_law(run, runs, share) for run in runs]
        for name, found_all in (("the run alone", own), ("a law and the run", law)):
            made = [(f, end) for f, end in zip(found_all, ends, strict=True) if f is not None]
            if not made:
                print(f"{name:22} {share:4.0%} {0:>6}")
                continue
            error = np.mean([abs(f.final_loss - end) for f, end in made])
            width = np.mean([f.final_high - f.final_low for f, _ in made])
            covered = sum(f.final_low <= end <= f.final_high for f, end in made)
            print(f"{name:22} {share:4.0%} {len(made):>6} {error:8.4f} {width:8.4f} {covered:>4} of {len(made)}")


if __name__ == "__main__":
    main()
