"""How well does a forecast made on the way predict where a run ends?

    regrow study benchmarks/forecast_study.yaml --out build/forecast
    python benchmarks/forecast.py build/forecast
    python benchmarks/forecast.py --simulate

Every run is cut at 25%, 50% and 75% of its tokens, and the loss of its last evaluation is forecast from the evaluations
before the cut: from the run's own curve alone, and by a law of the other runs (p2_shifted per method, this run left
out) that the run's evaluations correct. Beside both, what costs nothing: the last loss seen. Prints the mean absolute
error of the final loss in nats, the width of the 90% interval, and how often it held the measured loss.

`--simulate` asks the same of curves that are shifted power laws with noise: 60 for each of three noises, evaluated at
20 evenly or 10 logarithmically spaced counts; exponents, shifts, floors and heights differ.
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


def simulate(curves: int = 60) -> None:
    """Coverage of the final loss and of D*, on curves whose truth is known."""
    rng = np.random.default_rng(0)
    end = 1e6
    for noise in (0.0005, 0.003, 0.01):
        for name, at in (("20 linear", np.linspace(end / 20, end, 20)), ("10 log", np.geomspace(end / 32, end, 10))):
            held: dict[float, list[bool]] = {share: [] for share in SHARES}
            best: dict[float, list[bool]] = {share: [] for share in SHARES}
            for _ in range(curves):
                beta, shift, floor = rng.uniform(0.1, 0.8), 10 ** rng.uniform(3, 5), rng.uniform(2, 3.5)
                drop = rng.uniform(0.2, 1.0)
                gap = drop / ((at[0] + shift) ** -beta - (at[-1] + shift) ** -beta)
                losses = floor + gap * (at + shift) ** -beta + noise * rng.standard_normal(len(at))
                grid = np.geomspace(1, 1e16, 20000)
                gain = gap * ((grid + shift) ** -beta - (2 * grid + shift) ** -beta)
                truth = grid[min(np.flatnonzero(gain > 0.01)[-1] + 1, len(grid) - 1)] if gain.max() > 0.01 else 1.0
                for share in SHARES:
                    seen = at <= share * end * 1.0001
                    found = forecast(at[seen], losses[seen], final_tokens=int(end))
                    if found.final_loss is None:
                        continue
                    held[share].append(bool(found.final_low <= losses[-1] <= found.final_high))
                    # the search for D* has 16 points a decade
                    low, high = found.best_low or np.inf, found.best_high or np.inf
                    best[share].append(bool(low <= truth * 1.05 and truth <= high * 1.05))
            told = ", ".join(f"{s:.0%}: {np.mean(held[s]):.2f} and {np.mean(best[s]):.2f} of D*" for s in SHARES)
            print(f"noise {noise:g} nats, {name}: covered at {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--simulate", action="store_true")
    args = parser.parse_args()
    if args.simulate:
        simulate()
        return
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
