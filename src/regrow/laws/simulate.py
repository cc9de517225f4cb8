"""Runs drawn from a known law, for tests, benchmarks and the design of studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.forms import find_form
from regrow.laws.setting import Reference, Setting
from regrow.runs.record import CurvePoint, RunRecord


def simulate(
    params: Mapping[str, float],
    *,
    sizes: Sequence[float],
    rates: Sequence[float],
    tokens: Sequence[float],
    loss_before: Callable[[float], float],
    form: str = "p2",
    run_noise: float = 0.0,
    point_noise: float = 0.0,
    size_effects: Mapping[int, float] | None = None,
    others: Callable[[int, float], Mapping[str, float]] | None = None,
    seed: int = 0,
    family: str = "simulated",
    method: str = "depth",
) -> list[RunRecord]:
    """One run per size and rate.

    Args:
        params: parameters of the form in natural units.
        sizes, rates, tokens: the grid; every run is read at every count of tokens.
        loss_before: loss before pruning (nats/token) as a function of the parameters.
        run_noise: standard deviation of a run's offset, nats.
        point_noise: standard deviation of a checkpoint around its run, nats.
        others: values of the other columns that the form reads, by parameters and rate; kept in the runs' details.
        size_effects: by whole parameters, the log of the factor by which that size's gaps miss the law; 0 for others.

    Raises:
        InputError: a parameter of the form is missing.
    """
    formula = find_form(form)
    missing = [name for name in formula.names if name not in params]
    if missing:
        raise InputError(f"no value for {', '.join(missing)}", where=f"simulate {form}")
    theta = formula.from_natural(np.array([[params[name] for name in formula.names]], dtype=float), Reference())
    rng = np.random.default_rng(seed)
    d = np.round(np.asarray(tokens, dtype=float))
    runs = []
    for size in map(round, sizes):
        for rate in rates:
            before = float(loss_before(size))
            more = dict(others(size, rate)) if others is not None else {}
            x = Setting(params_before=size, pruning_rate=rate, tokens=d, loss_before=before, **more)
            noise = run_noise * rng.standard_normal() + point_noise * rng.standard_normal(d.shape)
            value, base = formula.value(theta, x)[0], formula.baseline(theta, x)[0]
            loss = base + (value - base) * np.exp((size_effects or {}).get(size, 0.0)) + noise
            names = {"run": f"{size}-{rate:g}", "family": family, "method": method}
            runs.append(_record(names, size, float(rate), before, d, loss, seed, more))
    return runs


def _record(
    names: Mapping[str, Any],
    size: int,
    rate: float,
    before: float,
    tokens: np.ndarray,
    loss: np.ndarray,
    seed: int,
    details: Mapping[str, float],
) -> RunRecord:
    return RunRecord(
        **names,
        params_before=size,
        params_after=max(1, round(size * (1 - rate))),
        pruning_rate=rate,
        loss_before=before,
        curve=tuple(CurvePoint(tokens=int(t), loss=float(v)) for t, v in zip(tokens, loss, strict=True)),
        seed=seed,
        details=details,
    )
