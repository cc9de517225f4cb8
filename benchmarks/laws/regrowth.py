"""Does a fit of the form `regrowth` find the law that made the runs, where sizes and runs have effects of their own?

Runs of a known law (3 sizes x 2 methods x 4 gaps x 20 checkpoints; log pace and log exponent of each size off by 0.2
and 0.05, of each run by 0.15 and 0.05; checkpoint noise 0.002) are fitted, and `p2` with them; both are asked about a
model 2.5 times larger than the largest seen. The second truth ends at a floor of 4% of the loss before pruning.

    python -m benchmarks.laws.regrowth [--seeds 40] [--draws 200]

Prints, per truth and form, the median error of the loss, the median factor by which D* (gain criterion, 0.01 nats per
doubling) is off, the coverage of the nominal 90% interval, and for `regrowth` the median of the end that it finds.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from regrow.laws import fit
from regrow.laws.law import Law
from regrow.laws.regrowth.curve import gap_and_jacobian
from regrow.laws.setting import Setting
from regrow.planning.criteria import Gain
from regrow.planning.curves import Curves
from regrow.planning.solve import optimal_tokens
from regrow.runs.record import CONTROL, CurvePoint, RunRecord

SIZES, LARGER = (2e8, 6e8, 2e9), 5e9
TOKENS = np.geomspace(1e7, 2e10, 20)
PACE, EXPONENT, RATE = 1e8, 0.4, 0.25
FLOORS = {"no floor": 0.0, "a floor": 0.04}


def loss_before(size: float) -> float:
    return 1.8 + 0.9 * (size / 1e9) ** -0.25


def curve(size: float, gap: float, off: np.ndarray, floor: float, tokens: np.ndarray = TOKENS) -> np.ndarray:
    """Losses of a run whose log pace and log exponent are off by `off` [2]."""
    psi = np.array([0.0, math.log(PACE) + off[0], math.log(EXPONENT) + off[1], floor])
    return loss_before(size) + gap_and_jacobian(psi, np.array(gap), np.array(loss_before(size)), tokens)[0]


def record(name: str, method: str, size: float, losses: np.ndarray, start: float) -> RunRecord:
    """A run as it would be read from disk."""
    points = [CurvePoint(tokens=int(d), loss=float(v)) for d, v in zip(TOKENS, losses, strict=True)]
    rate = 0.0 if method == CONTROL else RATE
    return RunRecord(
        run=name, family="simulated", method=method, params_before=int(size), params_after=int(size * (1 - rate)),
        pruning_rate=rate, loss_before=loss_before(size), curve=(CurvePoint(tokens=0, loss=start), *points),
    )  # fmt: skip


def study(seed: int, floor: float) -> tuple[list[RunRecord], float, np.ndarray]:
    """The runs, and the gap of the larger model that is asked for, with what its pace and exponent are off by."""
    rng = np.random.default_rng(seed)
    runs, answer = [], (0.0, np.zeros(2))
    for size in (*SIZES, LARGER):
        of_size = np.array([0.2, 0.05]) * rng.standard_normal(2)
        for method in ("depth", "width"):
            for number, gap in enumerate(np.exp(rng.uniform(math.log(0.3), math.log(2.0), 4))):
                off = of_size + np.array([0.15, 0.05]) * rng.standard_normal(2)
                if size == LARGER:
                    answer = (float(gap), off)
                    continue
                read = curve(size, gap, off, floor) + 0.002 * rng.standard_normal(len(TOKENS))
                name = f"{method}-{size:g}-{number}"
                runs.append(record(name, method, size, read, loss_before(size) + gap))
        flat = np.full(len(TOKENS), loss_before(size))
        runs.append(record(f"control-{size:g}", CONTROL, size, flat, loss_before(size)))
    return runs, *answer


def true_stop(gap: float, off: np.ndarray, floor: float) -> float:
    """Where doubling the tokens buys less than 0.01 nats, on the true curve."""
    fine = np.geomspace(1e6, 1e15, 20_000)
    gain = curve(LARGER, gap, off, floor, fine) - curve(LARGER, gap, off, floor, 2 * fine)
    return float(fine[np.flatnonzero(gain >= 0.01)[-1] + 1])


def main() -> None:
    """Print the table."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--seeds", type=int, default=40)
    ask.add_argument("--draws", type=int, default=200)
    given = ask.parse_args()
    print("truth, form: error of the loss, D* off by a factor, coverage, end found")
    for name, floor in FLOORS.items():
        for form in ("regrowth", "p2"):
            rows = []
            for seed in range(given.seeds):
                runs, gap, shift = study(seed, floor)
                losses = curve(LARGER, gap, shift, floor)
                law: Law = next(x for x in fit(runs, form, draws=given.draws) if x.method == "width")
                before = loss_before(LARGER)
                at = Setting(params_before=LARGER, pruning_rate=RATE, loss_before=before, loss_pruned=before + gap)
                x = at.at(TOKENS)
                low, high = law.interval(x)
                found = float(optimal_tokens(Gain(), Curves(law, at, draws=False))[0])
                off = abs(math.log(found / true_stop(gap, shift, floor))) if 0 < found < np.inf else math.log(1e3)
                inside = np.mean((low <= losses) & (losses <= high))
                error = np.mean(np.abs(law.loss(x) / losses - 1))
                rows.append((error, off, inside, law.params.get("end", np.nan)))
            error, off, _, end = np.median(rows, axis=0)
            inside = np.mean([row[2] for row in rows])
            shown = "-" if form == "p2" else f"{end:.3f}"
            print(f"{name}, {form}: {error:.4f}, {math.exp(off):.2f}, {inside:.2f}, {shown}")


if __name__ == "__main__":
    main()
