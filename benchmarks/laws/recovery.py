"""Does a fit find the law that made the runs, and do its intervals cover what they say?

Runs of known P^2 laws (here 3 sizes x 3 rates x 20 checkpoints, offsets of 0.004 nats between runs, checkpoint noise of
0.002) are fitted; the law is asked about a model 2.5 times larger than the largest seen.

    python -m benchmarks.laws.recovery [--seeds 200] [--draws 200] [--law NAME ...] [--size-effect 0.02] [--sizes 6]

With `--size-effect` the gaps of each size, the larger one too, miss the law by a factor exp(effect x normal) that its
runs share. `--sizes` sets how many sizes there are between 0.5B and 2B.

Prints one row per law: median and 90th percentile over seeds of the error of the gap L - L0 and of the factor by
which D* (gain criterion, 0.01 nats per doubling) is off, and the coverage of nominal 90% intervals.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from regrow.laws.fitting import fit
from regrow.laws.setting import Setting
from regrow.laws.simulate import simulate
from regrow.planning.trends import tokens_for_gain

SMALLEST, LARGEST, RATES, TOKENS = 0.5e9, 2e9, (0.15, 0.25, 0.35), np.geomspace(1e8, 1e10, 20)
LARGER = 2.5 * LARGEST
MIN_GAIN = 0.01
#: exponents, and the three terms in nats at 1e9 parameters, rate 0.25 and 1e9 tokens
LAWS = {
    "large gaps": {"alpha": 0.35, "beta": 0.45, "gamma": -1.3, "delta": 0.15, "N_C": 0.35, "D_C": 0.6, "E": 0.5},
    "no size term": {"alpha": 0.0, "beta": 0.45, "gamma": -1.3, "delta": 0.2, "N_C": 0.0, "D_C": 0.3, "E": 0.3},
    "small gaps": {"alpha": 0.4, "beta": 0.35, "gamma": -1.2, "delta": 0.1, "N_C": 0.05, "D_C": 0.12, "E": 0.05},
    "steep size term": {"alpha": 0.6, "beta": 0.5, "gamma": -1.1, "delta": 0.05, "N_C": 0.15, "D_C": 0.25, "E": 0.1},
    "no floor": {"alpha": 0.0, "beta": 0.2, "gamma": -1.4, "delta": 0.15, "N_C": 0.0, "D_C": 0.4, "E": 0.0},
}


def natural(law: dict[str, float]) -> dict[str, float]:
    """Terms given at the reference point, in natural units."""
    whole = 0.25 ** law["gamma"] * 1e9 ** law["delta"]
    return law | {
        "N_C": law["N_C"] * whole * 1e9 ** law["alpha"],
        "D_C": law["D_C"] * whole * 1e9 ** law["beta"],
        "E": law["E"] * whole,
    }


def loss_before(size: float) -> float:
    return 1.8 + 0.9 * (size / 1e9) ** -0.25


def recover(law: dict[str, float], seed: int, given: argparse.Namespace) -> dict[str, float]:
    """One simulated study, its fit, and how far it is off."""
    truth, draws = natural(law), given.draws
    sizes = np.geomspace(SMALLEST, LARGEST, given.sizes).round()
    drawn = given.size_effect * np.random.default_rng([seed, 1]).standard_normal(len(sizes) + 1)
    effect = {int(size): value for size, value in zip((*sizes, LARGER), drawn, strict=True)}
    common = {"tokens": TOKENS, "loss_before": loss_before, "size_effects": effect}
    noise = {"run_noise": 0.004, "point_noise": 0.002}
    fitted = fit(simulate(truth, sizes=sizes, rates=RATES, seed=seed, **common, **noise), draws=draws, seed=seed)[0]
    out: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        out.setdefault(name, []).append(value)

    for size, label in ((LARGER, "larger"), (sizes[len(sizes) // 2], "inside")):
        exact = simulate(truth, sizes=[size], rates=RATES, **common)
        fresh = simulate(truth, sizes=[size], rates=RATES, seed=seed + 100_000, **common, **noise)
        for true_run, new_run in zip(exact, fresh, strict=True):
            rate, before = true_run.pruning_rate, true_run.loss_before
            x = Setting(params_before=size, pruning_rate=rate, loss_before=before)
            true = np.array([p.loss for p in true_run.curve])
            new = np.array([p.loss for p in new_run.curve])
            low, high = fitted.interval(x.at(TOKENS))
            note(f"run {label}", float(np.mean((new >= low) & (new <= high))))
            if label == "inside":
                continue
            low, high = fitted.interval(x.at(TOKENS), of="mean")
            note("mean larger", float(np.mean((true >= low) & (true <= high))))
            gap = true - true_run.loss_before
            note("gap error", float(np.mean(np.abs(fitted.gap(x.at(TOKENS)) / gap - 1))))
            scale = truth["D_C"] * rate ** -truth["gamma"] * size ** -truth["delta"]
            scale *= np.exp(effect[int(size)])
            best = (scale * (1 - 2 ** -truth["beta"]) / MIN_GAIN) ** (1 / truth["beta"])
            found = tokens_for_gain(fitted, x, min_gain=MIN_GAIN)
            note("D* factor", float(np.exp(abs(np.log(found[0] / best)))))
            ends = np.quantile(found[1:], [0.05, 0.95])
            note("D* covered", float(ends[0] <= best <= ends[1]))
    return {name: float(np.mean(values)) for name, values in out.items()} | {"size term": fitted.params["N_C"] > 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--size-effect", type=float, default=0.0)
    parser.add_argument("--sizes", type=int, default=3)
    parser.add_argument("--law", nargs="*", default=list(LAWS), choices=list(LAWS))
    given = parser.parse_args()
    print(f"{given.sizes} sizes, effect of a size {given.size_effect:g}")
    print(f"{given.seeds} seeds, {given.draws} draws, nominal coverage 0.90, {LARGER:.3g} parameters asked for")
    head = ("gap err", "(90%)", "D* fac", "(90%)", "run@2.5x", "run in", "mean@2.5x", "D* cov", "N_C used")
    print(f"{'law':<16}" + "".join(f"{h:>10}" for h in head))
    for name in given.law:
        start = time.perf_counter()
        rows = [recover(LAWS[name], seed, given) for seed in range(given.seeds)]
        column = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        numbers = (
            np.median(column["gap error"]),
            np.quantile(column["gap error"], 0.9),
            np.median(column["D* factor"]),
            np.quantile(column["D* factor"], 0.9),
            *(column[k].mean() for k in ("run larger", "run inside", "mean larger", "D* covered", "size term")),
        )
        print(
            f"{name:<16}" + "".join(f"{v:>10.3f}" for v in numbers) + f"   {time.perf_counter() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
