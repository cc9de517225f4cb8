"""Every form on what was held out, beside what a sceptic would try first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from regrow.laws import fit, validate
from regrow.laws.forms import FORMS
from regrow.laws.validation import HoldOutResult
from regrow.methods import is_masked
from regrow.units import format_factor
from results.evidence import AIMS, COVERAGE, GPU, READINGS, Evidence
from results.layout import in_order, key, number

SPOKEN = {"params_before": "size", "pruning_rate": "rate", "tokens": "tokens", "loss_before": "L0"}


def generalisation_table(seen: Evidence) -> Iterator[list[str]]:
    """Errors on what was held out, by form; an aim that is met is bold."""
    yield ["family", "method", "form", *(f"{name}, coverage" for name in seen.held_out)]
    results = {name: {key(r): r for r in found} for name, found in seen.held_out.items()}
    for one in in_order(list({key(r): r for found in results.values() for r in found.values()}.values())):
        cells = [judged(name, results[name].get(key(one))) for name in results]
        yield [one.family, one.method, f"`{one.form}`", *cells]


def judged(hold_out: str, result: HoldOutResult | None) -> str:
    """An error and the coverage beside it."""
    if result is None:
        return "-"
    error, coverage = f"{result.mape:.4f}", f"{result.coverage:.2f}"
    if result.mape <= AIMS.get(hold_out, 0):
        error = f"**{error}**"
    return f"{error}, {f'**{coverage}**' if result.coverage >= COVERAGE else coverage}"


def forms_table(seen: Evidence) -> Iterator[list[str]]:
    """Every form over all families and methods: its mean error on what was held out, and how often it is the best."""
    yield ["form", *(f"{name}: mean error, times best" for name in seen.held_out)]
    for form in FORMS:
        cells = []
        for found in seen.held_out.values():
            groups: dict[tuple[str, str], dict[str, float]] = {}
            for r in found:
                groups.setdefault((r.family, r.method), {})[r.form] = r.mape
            errors = [errors[form] for errors in groups.values() if form in errors]
            best = sum(min(errors, key=lambda f: errors[f]) == form for errors in groups.values())
            cells.append(f"{np.mean(errors):.4f}, {best} of {len(groups)}" if errors else "-")
        yield [f"`{form}`", *cells]


def baselines_table(seen: Evidence) -> Iterator[list[str]]:
    """`p2` on what was held out beside what a sceptic would try first."""
    yield [
        "family", "method", "hold-out", "`p2`", "worst", "of the gap", "coverage", "nearest run / last loss",
        "own power law", "`chinchilla`", "how far outside",
    ]  # fmt: skip
    for name, found in seen.held_out.items():
        for r in in_order([r for r in found if r.form == "p2"]):
            outside = ", ".join(f"{SPOKEN[k]} {format_factor(v)}x" for k, v in sorted(r.outside.items()) if v > 1.005)
            yield [
                r.family,
                r.method,
                name,
                number(r.mape, ".4f"),
                number(r.max_ape, ".4f"),
                number(r.gap_mape, ".3f"),
                number(r.coverage, ".2f"),
                *(number(r.baselines.get(k), ".4f") for k in ("last", "power", "chinchilla")),
                outside or "-",
            ]


def losses_table(seen: Evidence) -> Iterator[list[str]]:
    """The same law on every reading of the same runs."""
    yield ["family", "method", "loss", *(f"{name}, coverage" for name in AIMS)]
    results = {place: {key(r): r for r in found if r.form == "p2"} for place, found in seen.validated.items()}
    for one in in_order([r for r in seen.held_out["tokens"] if r.form == "p2"]):
        for reading in READINGS:
            yield [one.family, one.method, reading, *(judged(n, results[reading, n].get(key(one))) for n in AIMS)]


def real_laws_table(seen: Evidence) -> Iterator[list[str]]:
    """SmolLM2 on a GPU: `p2` of its three rates, and what it says of the later tokens and of the highest rate."""
    yield ["pruned", "gaps above", "R^2", "tokens, coverage", "last loss", "rate, coverage", "nearest run's gap"]
    runs = [run for run in seen.studies[GPU] if not is_masked(run.method)]
    for baseline, name in (("initial", "the loss before"), ("control", "the control")):
        laws = {law.method: law for law in fit(runs, form="p2", baseline=baseline, draws=1)}
        found = {hold: validate(runs, hold_out=hold, forms="p2", baseline=baseline) for hold in ("tokens", "rate")}
        for method, law in laws.items():
            later, higher = (next(r for r in found[hold] if r.method == method) for hold in ("tokens", "rate"))
            yield [
                method, name, number(law.metrics["r2"], ".3f"), f"{later.mape:.4f}, {later.coverage:.2f}",
                number(later.baselines.get("last"), ".4f"), f"{higher.mape:.4f}, {higher.coverage:.2f}",
                number(higher.baselines.get("last"), ".4f"),
            ]  # fmt: skip
