"""How well does a forecast made on the way predict where a run ends?

    python -m benchmarks.planning.forecast studies/ladder-llama.jsonl
    python -m benchmarks.planning.forecast --simulate

Every run is cut at 25%, 50% and 75% of its tokens, and the loss of its last evaluation is forecast from the evaluations
before the cut, from the run's own curve alone. The runs of the largest model are forecast by a law as well: the
default of `fit` on the runs of the smaller models, corrected by the run's own evaluations; before the first of them
(0%) it is the law alone. Beside both, what costs nothing: the last loss seen. Prints the mean absolute error of
the final loss in nats, the width of the 90% interval, and how often it held the measured loss; then the largest model's
runs one by one, with D*. Any study's runs will do: those of the greatest length with 12 evaluations or more are taken.

`--simulate` asks the same of curves that are shifted power laws with noise: 60 for each of three noises, evaluated at
20 evenly or 10 logarithmically spaced counts; exponents, shifts, floors and heights differ.
"""

from __future__ import annotations

import argparse

import numpy as np

from regrow.laws import Law, Setting, fit
from regrow.planning.forecast import Forecast, forecast
from regrow.runs import RunRecord, read_runs

SHARES = (0.25, 0.5, 0.75)


def cut(run: RunRecord, share: float) -> tuple[list[int], list[float]]:
    """The evaluations of a run up to a share of its tokens."""
    end = run.curve[-1].tokens
    seen = [p for p in run.curve if p.tokens <= share * end * 1.0001]
    return [p.tokens for p in seen], [p.loss for p in seen]


def smaller_laws(runs: list[RunRecord]) -> dict[str, Law]:
    """By method, a law of the models smaller than the largest, with their controls: the default of `fit`."""
    largest = max(run.params_before for run in runs)
    laws = fit([run for run in runs if run.params_before < largest], draws=200)
    return {law.method: law for law in laws}


def by_law(run: RunRecord, law: Law, share: float) -> Forecast:
    """By a law of other runs, corrected by the evaluations up to a share of the tokens."""
    setting = Setting(params_before=run.params_before, pruning_rate=run.pruning_rate, loss_before=run.loss_before)
    tokens, losses = cut(run, share)
    return forecast(tokens, losses, final_tokens=run.curve[-1].tokens, law=law, setting=setting)


def alone(run: RunRecord, share: float) -> Forecast:
    """By the run's own evaluations up to a share of the tokens."""
    tokens, losses = cut(run, share)
    return forecast(tokens, losses, final_tokens=run.curve[-1].tokens)


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
                    low, high = interval(found)
                    # the search for D* has 16 points a decade
                    best[share].append(bool(low <= truth * 1.05 and truth <= high * 1.05))
            told = ", ".join(f"{s:.0%}: {np.mean(held[s]):.2f} and {np.mean(best[s]):.2f} of D*" for s in SHARES)
            print(f"noise {noise:g} nats, {name}: covered at {told}")


def interval(found: Forecast) -> tuple[float, float]:
    """The interval of D*; an end that is not given lies beyond the tokens between which D* is given."""
    first, most = found.first_tokens or 0.0, found.most_tokens or np.inf
    low, high = found.best_low, found.best_high
    if low is None:
        low = most if found.best_bound.startswith("more") and high is None else 0.0
    if high is None:
        high = first if found.best_bound.startswith("less") else np.inf
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--simulate", action="store_true")
    args = parser.parse_args()
    if args.simulate:
        simulate()
        return
    every = list(read_runs(*args.runs))
    runs = [run for run in every if not run.is_control and len(run.curve) >= 12]
    length = max(run.curve[-1].tokens for run in runs)
    runs = [run for run in runs if run.curve[-1].tokens == length]
    largest = [run for run in runs if run.params_before == max(r.params_before for r in runs)]
    laws = smaller_laws(every)
    print(f"{len(runs)} runs, {length:,} tokens and {len(runs[0].curve) - 1} evaluations each")
    print("\n| forecast from | at | made | error | width of the interval | held the end |\n|---|---|---|---|---|---|")
    for share in (0.0, *SHARES):
        if share:
            error = np.mean([abs(cut(run, share)[1][-1] - run.curve[-1].loss) for run in runs])
            print(f"| the last loss seen | {share:.0%} | {len(runs)} | {error:.4f} | - | - |")
            summary("the run alone", share, [(alone(run, share), run) for run in runs])
        known = [run for run in largest if run.method in laws]
        mine = [(alone(run, share), run) for run in known] if share else []
        summary("the run alone, largest model", share, mine)
        summary("a law of the smaller, largest model", share, [(by_law(r, laws[r.method], share), r) for r in known])
    print("\n| run | at | forecast by the law | measured | D* |\n|---|---|---|---|---|")
    for run in largest:
        for share in (0.0, *SHARES) if run.method in laws else ():
            found = by_law(run, laws[run.method], share)
            loss = f"{found.final_loss:.4f} ({found.final_low:.4f} to {found.final_high:.4f})"
            end = f"{run.curve[-1].loss:.4f}"
            print(f"| {run.method} {run.pruning_rate:.2f} | {share:.0%} | {loss} | {end} | {found.best_in_words()} |")


def summary(name: str, share: float, forecasts: list[tuple[Forecast, RunRecord]]) -> None:
    """One row: of the forecasts that were made, how far off, how wide, and how many held the end."""
    made = [(found, run.curve[-1].loss) for found, run in forecasts if found.final_loss is not None]
    if not made:
        return
    error = np.mean([abs(found.final_loss - end) for found, end in made])
    width = np.mean([found.final_high - found.final_low for found, _ in made])
    held = sum(found.final_low <= end <= found.final_high for found, end in made)
    print(f"| {name} | {share:.0%} | {len(made)} | {error:.4f} | {width:.4f} | {held} of {len(made)} |")


if __name__ == "__main__":
    main()
