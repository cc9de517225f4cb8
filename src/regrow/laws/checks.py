"""Warnings about the data of a fit: what a careful reader would notice in the runs, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regrow.laws.controls import control_curves
from regrow.laws.forms import Form
from regrow.laws.observations import Observations
from regrow.laws.spread import Spread
from regrow.runs.record import RunRecord
from regrow.units import format_count, plural

#: mean correlation of the residuals of different runs above which they share their noise
_SHARED = 0.6
#: correlation of neighbouring residuals, and their size in log loss, from which the form misses the curves' shape
_SMOOTH, _LEAST_MISFIT = 0.4, 1.5e-3


def warn(
    form: Form, seen: Observations, records: Sequence[RunRecord], predicted: np.ndarray, spread: Spread
) -> list[str]:
    """All warnings about the data of one fit; `predicted` [n] is the fitted loss."""
    found = [
        below_baseline(form, seen),
        equal_losses(seen),
        control_drift(form, seen, records, spread),
        shared_noise(seen, np.log(seen.loss) - np.log(predicted)),
        misfit(seen, np.log(seen.loss) - np.log(predicted), spread),
        few_runs(seen, spread),
    ]
    return [text for text in found if text]


def below_baseline(form: Form, seen: Observations) -> str | None:
    """Losses under the loss before pruning: allowed, but a form with a non-negative gap cannot follow them."""
    below = seen.loss < seen.x.loss_before
    if "loss_before" not in form.uses or not below.any():
        return None
    runs = sorted({seen.runs[r] for r in seen.run[below]})
    shown = ", ".join(runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
    hint = "" if seen.baseline == "control" else "; a control and the baseline control would tell training from pruning"
    count = int(below.sum())
    lie = "lies" if count == 1 else "lie"
    return f"{count} of {plural(len(seen), 'checkpoint')} {lie} below the {seen.baseline} baseline ({shown}){hint}"


def equal_losses(seen: Observations) -> str | None:
    """A curve that does not move carries no law."""
    if np.ptp(seen.loss) > 1e-9 * seen.loss.max():
        return None
    return f"all {len(seen)} losses are equal ({seen.loss[0]:g}): there is no curve to fit, the exponents mean nothing"


def drifts(form: Form, seen: Observations, records: Sequence[RunRecord], spread: Spread) -> dict[int, float]:
    """How far, in nats, the controls of this family have moved at their end, by size; only those beyond the noise."""
    if "loss_before" not in form.uses:
        return {}
    moved = {}
    for size, (_, loss, before) in control_curves([r for r in records if r.is_control], seen.family).items():
        drift = float(loss[-1] - before)
        if size in seen.x.params_before and abs(drift) > max(2 * spread.within * before, 1e-3):
            moved[size] = drift
    return moved


def control_drift(form: Form, seen: Observations, records: Sequence[RunRecord], spread: Spread) -> str | None:
    """An unpruned control whose loss moves: the gap from the initial loss is then not what pruning cost."""
    if seen.baseline == "control":
        return None
    moved = drifts(form, seen, records, spread)
    if not moved:
        return None
    shown = ", ".join(f"{drift:+.3f} nats at {format_count(size)}" for size, drift in sorted(moved.items()))
    return (
        f"the unpruned control drifts ({shown}): gaps from the initial loss are off by that; try the baseline control"
    )


def shared_noise(seen: Observations, residual: np.ndarray) -> str | None:
    """Runs whose residuals move together at the same tokens, as they do when one data order serves all."""
    levels, column = np.unique(seen.x.tokens, return_inverse=True)
    table = np.full((len(seen.runs), len(levels)), np.nan)
    table[seen.run, column] = residual
    common = ~np.isnan(table).any(axis=0)
    if len(seen.runs) < 3 or common.sum() < 6:
        return None
    rows = table[:, common]
    # what the form misses is common to all runs too, but smooth: take a cubic in log tokens out of each
    log_d = np.log(levels[common] + 1)
    basis = np.linalg.qr(np.vander(log_d - log_d.mean(), 4))[0]
    steps = rows - rows @ basis @ basis.T
    if (steps.std(axis=1) < 1e-12).any():
        return None
    shared = steps.mean(axis=0)
    if shared[1:] @ shared[:-1] > 0.3 * (shared @ shared):  # still smooth: a misfit, not noise
        return None
    correlation = np.corrcoef(steps)
    mean = float(correlation[np.triu_indices(len(rows), 1)].mean())
    if mean < _SHARED:
        return None
    return (
        f"the runs' noise is shared (correlation {mean:.2f} at the same tokens), as with one data order for all: "
        "the runs agree more than they should and intervals are too narrow"
    )


def misfit(seen: Observations, residual: np.ndarray, spread: Spread) -> str | None:
    """Residuals that wander smoothly along a run: the form bends otherwise than the curves do."""
    if spread.within < _LEAST_MISFIT or np.bincount(seen.run).max() < 6:
        return None
    noise = residual - (np.bincount(seen.run, residual) / np.bincount(seen.run))[seen.run]
    same = seen.run[1:] == seen.run[:-1]
    neighbours = float(np.sum((noise[1:] * noise[:-1])[same]) / np.sum(noise**2))
    if neighbours < _SMOOTH:
        return None
    return (
        f"the curves bend otherwise than the form (residuals of neighbouring checkpoints correlate, {neighbours:.2f}): "
        "compare forms by held-out error, or start the curves later"
    )


def few_runs(seen: Observations, spread: Spread) -> str | None:
    """No degrees of freedom left for the spread between runs."""
    if spread.known:
        return None
    who = "1 run leaves" if len(seen.runs) == 1 else f"{len(seen.runs)} runs leave"
    return (
        f"{who} nothing to estimate the spread between runs from: the spread within runs stands in for it, and "
        "intervals are a lower limit"
    )
