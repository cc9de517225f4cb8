"""Later losses of published curves of pruned models, from the first 80% and from the first half of their readings.

    python -m benchmarks.laws.public_curves FOLDER [--least 9]

FOLDER holds CSV files with a row per reading: `run, tokens, loss`, and `loss_before` where it is known; other columns
are not read. Training losses (runs that end in /train) and runs of fewer readings than `--least` are left out. Most
publications give neither the loss before pruning nor the one right after it, so each run is predicted from its own
readings alone; a loss before pruning that is not known is the one, of a grid below the last reading seen, that makes
the readings most likely. Mean errors are shares of the loss; beside them those of a power law with a floor through the
same readings, and of the last loss seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from regrow.laws.baselines import errors as rival_errors
from regrow.laws.observations import Observations
from regrow.laws.pooled.fit import END_WITHOUT_CONTROL
from regrow.laws.regrowth.curve import gap_and_jacobian
from regrow.laws.regrowth.estimate import Hierarchy, fit_hierarchy
from regrow.laws.regrowth.runs import RunCurve
from regrow.laws.setting import Setting

SHARES = {"first 80%": 0.8, "first half": 0.5}
#: the loss before pruning as a share of the last reading seen
BEFORE = np.array([0.5, 0.7, 0.8, 0.85, 0.9, 0.94, 0.97, 0.99])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--least", type=int, default=9, help="readings that a run has at least")
    options = parser.parse_args()
    print(f"{'run':44} {'readings':>8}  {'seen':10} {'regrowth':>9} {'power law':>9} {'last loss':>9}")
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SHARES}
    for name, tokens, losses, before in curves(options.folder, options.least):
        for seen, share in SHARES.items():
            count = round(share * len(tokens))
            row = predicted(tokens, losses, count, before)
            found[seen].append(row)
            errors = " ".join(f"{error:>9.4f}" for error in row)
            print(f"{name[:44]:44} {len(tokens):>8}  {seen:10} {errors}", flush=True)
    for seen, rows in found.items():
        means = np.mean(rows, axis=0)
        print(f"{'mean':44} {len(rows):>8}  {seen:10} {means[0]:>9.4f} {means[1]:>9.4f} {means[2]:>9.4f}")


def curves(folder: Path, least: int) -> list[tuple[str, np.ndarray, np.ndarray, float | None]]:
    """Name, tokens, losses and loss before pruning of every run above 0 tokens."""
    out = []
    for path in sorted(folder.glob("*.csv")):
        table = pd.read_csv(path)
        for name, rows in table.groupby("run", sort=False):
            rows = rows[(rows.tokens > 0) & rows.loss.notna()].sort_values("tokens").drop_duplicates("tokens")
            if len(rows) < least or "train" in str(name).split("/")[-1]:
                continue
            before = rows.loss_before.dropna()
            out.append((str(name), *(rows[c].to_numpy(float) for c in ("tokens", "loss")), _value(before)))
    return out


def _value(before: pd.Series) -> float | None:
    return float(before.iloc[0]) if len(before) else None


def predicted(tokens: np.ndarray, losses: np.ndarray, count: int, before: float | None) -> tuple[float, float, float]:
    """Mean errors of the readings after the first `count`: `regrowth`, a power law, the last loss."""
    known = [before] if before is not None else (BEFORE * losses[:count].min()).tolist()
    fits = [(fit_one(tokens[:count], losses[:count], value), value) for value in known]
    best, value = max(fits, key=lambda pair: pair[0].log_evidence)
    psi = best.model.natural(best.posterior.psi)
    start = np.array([best.model.arrays.gap_pruned[0]])
    gap, _ = gap_and_jacobian(psi, start, np.array([value]), tokens[None, count:])
    ours = float(np.mean(np.abs((value + gap[0]) / losses[count:] - 1)))
    parts = [observations(tokens[part], losses[part]) for part in (slice(None, count), slice(count, None))]
    rivals = rival_errors([(parts[0], parts[1])], "tokens")
    return ours, rivals["power"] or float("nan"), rivals["last"] or float("nan")


def fit_one(tokens: np.ndarray, losses: np.ndarray, before: float) -> Hierarchy:
    """The law of one run; without a loss right after pruning its level is free."""
    run = RunCurve(
        run="one", family="published", method="pruned", params_before=1e9, pruning_rate=0.5, loss_before=before,
        loss_pruned=None, warmup=0.0, tokens=tokens, loss=losses, baseline=np.full(len(tokens), before),
        controlled=False,
    )  # fmt: skip
    return fit_hierarchy([run], end=END_WITHOUT_CONTROL)


def observations(tokens: np.ndarray, losses: np.ndarray) -> Observations:
    """One run as the rivals read it."""
    x = Setting(params_before=1e9, pruning_rate=0.5, tokens=tokens, loss_before=1.0)
    return Observations(
        family="published", method="pruned", x=x, loss=losses, run=np.zeros(len(tokens), int), runs=("one",),
        baseline="initial",
    )  # fmt: skip


if __name__ == "__main__":
    main()
