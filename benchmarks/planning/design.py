"""Does a design beat a plain grid of equal cost? Simulated studies of both, fitted and compared.

    python -m benchmarks.planning.design [--truths 100] [--draws 100] [--budget 100] [--pilot 0.2] [--discrepancy 10]

Truths are P^2 laws scattered around those of benchmarks/laws/recovery.py. For each, two studies of the same GPU-hours
(controls included) on three candidate models are simulated (run offsets 0.004, checkpoint noise 0.002 nats) and fitted:
the one `regrow.planning.design` proposes, and all sizes at all rates, once each and equally long. Asked is D* (gain
criterion, 0.01 nats) of a model 2.5 times the largest. The design knows nothing of the truth: it uses its stated
prior, or with `--pilot SHARE` a law fitted to a grid of that share of the budget, whose runs then count as its own.
With `--discrepancy K` no truth is an exact law: exponents change with their inputs and gaps are off, K times as much as
the design allows for.

Prints medians over truths of the width of the 90% interval of log D* and of the error of log D*, their ratios with 90%
intervals from resampling truths, and the coverage. Intervals are those of the fitted parameters' draws.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from multiprocessing import Pool

import numpy as np
from benchmarks.laws.recovery import LARGER, LAWS, MIN_GAIN, RATES, loss_before, natural

from regrow.laws.fitting import fit
from regrow.laws.law import Law
from regrow.laws.simulate import simulate
from regrow.planning.design import DesignModel, DesignSpec, Discrepancy, StudyDesign, design
from regrow.planning.design_problem import FIRST_CHECKPOINT
from regrow.runs.record import RunRecord

SIZES = (0.5e9, 1e9, 2e9)
RATE, LEVEL = 0.25, 0.9
RUN_NOISE, POINT_NOISE = 0.004, 0.002
#: size, rate, tokens of a run
Cell = tuple[float, float, float]
NAMES = ("alpha", "beta", "gamma", "delta", "N_C", "D_C", "E")


@dataclass(frozen=True)
class Truth:
    """A law, and by how much it bends: `bends` for tokens, size and rate, `gap` the share by which gaps are off."""

    params: dict[str, float]
    bends: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gap: float = 0.0

    def bent(self, size: float, rate: float, tokens: np.ndarray) -> tuple[float, float, np.ndarray]:
        """The inputs at which the law itself has the loss that the truth has at these."""
        out = []
        for value, middle, bend in ((tokens, 1e9, 0), (size, 1e9, 1), (rate, RATE, 2)):
            x = np.log(np.asarray(value) / middle)
            out.append(middle * np.exp(x + self.bends[bend] * x**2 / 2))
        return float(out[1]), float(out[2]), out[0]

    def log_tokens(self) -> float:
        """ln D* of the target, by bisection."""
        theta = np.array([self.params[name] for name in NAMES])

        def gain(log_d: float) -> float:
            size, rate, (once, twice) = self.bent(LARGER, RATE, np.exp(log_d) * np.array([1.0, 2.0]))
            return theta[5] * rate ** -theta[2] * size ** -theta[3] * (once ** -theta[1] - twice ** -theta[1])

        low, high = np.log(1e3), np.log(1e18)
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if gain(middle) > MIN_GAIN else (low, middle)
        return low


def draw_truth(seed: int, discrepancy: float) -> Truth:
    """A law near one of the five, and its bends: the default discrepancy, so many times."""
    rng = np.random.default_rng([seed, 7])
    law = dict(list(LAWS.values())[seed % len(LAWS)])
    for name, sd in (("alpha", 0.05), ("beta", 0.04), ("gamma", 0.15), ("delta", 0.05)):
        law[name] += sd * rng.standard_normal() * (law[name] != 0)
    for name in ("N_C", "D_C", "E"):
        law[name] *= np.exp(0.3 * rng.standard_normal())
    bends = Discrepancy().times(discrepancy).bends * rng.standard_normal(3)
    return Truth(natural(law), tuple(bends), Discrepancy().times(discrepancy).gap)


def runs_of(truth: Truth, cells: Iterable[Cell], checkpoints: int, seed: int) -> list[RunRecord]:
    """One simulated run per (size, rate, tokens)."""
    records = []
    for number, (size, rate, length) in enumerate(cells):
        tokens = length * FIRST_CHECKPOINT ** np.linspace(1, 0, checkpoints)
        at_size, at_rate, at_tokens = truth.bent(size, rate, tokens)
        own = np.random.default_rng([seed, number])
        before = loss_before(size)
        off = truth.gap * own.standard_normal()
        scale = {name: truth.params[name] * (1 + off) for name in ("N_C", "D_C", "E")}
        (record,) = simulate(
            truth.params | scale, sizes=[at_size], rates=[at_rate], tokens=at_tokens,
            loss_before=lambda _, before=before: before, run_noise=RUN_NOISE, point_noise=POINT_NOISE,
            seed=int(own.integers(2**31)),
        )  # fmt: skip
        curve = tuple(replace(p, tokens=round(t)) for p, t in zip(record.curve, tokens, strict=True))
        counts = {"params_before": round(size), "params_after": round(size * (1 - rate)), "pruning_rate": rate}
        records.append(replace(record, run=f"run-{number}", curve=curve, **counts))
    return records


def log_tokens_of(theta: np.ndarray) -> np.ndarray:
    """ln D* of the target by parameter vectors [k, 7]."""
    _, beta, gamma, delta, _, d_c, _ = theta.T
    with np.errstate(divide="ignore"):
        return (np.log(d_c * (1 - 2**-beta) / MIN_GAIN) - gamma * np.log(RATE) - delta * np.log(LARGER)) / beta


def judge(law: Law, truth: float) -> tuple[float, float, float]:
    """Width of the interval of ln D*, error of ln D*, whether the interval covers."""
    low, high = np.quantile(log_tokens_of(law.draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    point = float(log_tokens_of(law.theta[None, :])[0])
    return float(high - low), abs(point - truth), float(low <= truth <= high)


def spec_for(budget: float) -> DesignSpec:
    candidates = tuple(DesignModel(params_before=n, loss_before=loss_before(n)) for n in SIZES)
    return DesignSpec(
        target=DesignModel(params_before=LARGER), pruning_rate=RATE, candidates=candidates, rates=RATES,
        budget_gpu_hours=budget, min_gain=MIN_GAIN,
    )  # fmt: skip


def cells_of(proposed: StudyDesign) -> list[Cell]:
    return [(r.params_before, r.pruning_rate, r.tokens) for r in proposed.runs for _ in range(r.repeats)]


def one(job: tuple[int, argparse.Namespace, StudyDesign]) -> list[tuple[float, float, float]]:
    """Grid and design on one truth; `blind` is the design that knows only the prior."""
    seed, given, blind = job
    truth, spec, chosen = draw_truth(seed, given.discrepancy), blind.spec, cells_of(blind)
    grid = [(n, rate, blind.grid_tokens) for n in SIZES for rate in RATES]
    pilot: list[RunRecord] = []
    if given.pilot:
        short = [(n, rate, length * given.pilot) for n, rate, length in grid]
        pilot = runs_of(truth, short, spec.checkpoints, 3 * seed + 2)
        pilot = [replace(record, run=f"pilot-{record.run}") for record in pilot]
        law = fit(pilot, draws=given.draws, seed=seed)[0]
        chosen = cells_of(design(replace(spec, budget_gpu_hours=given.budget * (1 - given.pilot)), law, pilot))
    out = []
    for number, (more, have) in enumerate(((grid, []), (chosen, pilot))):
        records = [*have, *runs_of(truth, more, spec.checkpoints, 3 * seed + number)]
        out.append(judge(fit(records, draws=given.draws, seed=seed)[0], truth.log_tokens()))
    return out


def resampled(statistic: Callable[[np.ndarray], float], rows: np.ndarray) -> str:
    """A statistic of the truths with its 90% interval."""
    rng = np.random.default_rng(0)
    many = [statistic(rows[rng.integers(len(rows), size=len(rows))]) for _ in range(2000)]
    low, high = np.quantile(many, [0.05, 0.95])
    return f"{statistic(rows):.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truths", type=int, default=100)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--budget", type=float, default=100.0, help="GPU-hours of a study")
    parser.add_argument("--pilot", type=float, default=0.0, help="share of the budget spent on a pilot grid first")
    parser.add_argument(
        "--discrepancy", type=float, default=0.0, help="how far truths are from laws, in default doubts"
    )
    parser.add_argument("--allow", type=float, default=1.0, help="how far the design allows them to be")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    start = time.perf_counter()
    blind = design(replace(spec_for(given.budget), discrepancy=Discrepancy().times(given.allow)))
    with Pool(given.workers) as pool:
        rows = np.array(pool.map(one, [(seed, given, blind) for seed in range(given.truths)], chunksize=2))
    pilot = f"a pilot of {given.pilot:.0%} of it first" if given.pilot else "no pilot"
    print(
        f"{given.truths} truths bent by {given.discrepancy:g} doubts, {given.allow:g} allowed for; "
        f"{given.budget:g} GPU-hours a study, {pilot}; {time.perf_counter() - start:.0f} s"
    )
    print(f"{'':<8}{'width of ln D*':>16}{'error of ln D*':>16}{'coverage':>10}")
    for number, name in enumerate(("grid", "design")):
        width, error = np.median(rows[:, number, :2], axis=0)
        print(f"{name:<8}{width:>16.4f}{error:>16.4f}{rows[:, number, 2].mean():>10.2f}")
    print("design / grid, with 90% intervals over truths")
    print("  median of the ratio of widths ", resampled(lambda r: float(np.median(r[:, 1, 0] / r[:, 0, 0])), rows))
    print("  ratio of the median errors    ", resampled(lambda r: float(np.divide(*np.median(r[:, ::-1, 1], 0))), rows))
    print("  share of truths with a narrower interval", f"{np.mean(rows[:, 1, 0] < rows[:, 0, 0]):.2f}")


if __name__ == "__main__":
    main()
