"""The law `regrowth` beside `p2` on what neither has seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from regrow.errors import RegrowError
from regrow.laws import fit, select_law, validate
from regrow.laws.setting import Setting
from regrow.laws.validation import HoldOutResult
from regrow.methods import is_masked
from regrow.runs import RunRecord

#: What is held out, in the page's words. The last two need one law for several methods or families: `p2` has none.
HOLD_OUTS = {
    "size": "the largest size",
    "rate": "the highest rate of each size",
    "tokens": "the last fifth of each run",
    "method": "a whole method",
    "family": "a whole family",
}
SHARED = ("method", "family")
LEVEL = 0.9


def validated(arguments: tuple[list[RunRecord], str, str]) -> list[HoldOutResult]:
    """One hold-out by one form; none where the form can't do it."""
    runs, hold_out, form = arguments
    if form == "p2" and hold_out in SHARED:
        return []
    return list(validate(runs, hold_out, form))


def held_out_table(results: dict[tuple[str, str], list[HoldOutResult]]) -> Iterator[list[str]]:
    """Errors of both laws by what was held out: each group, and the mean of the groups."""
    yield [
        "held out", "family", "method",
        "`regrowth`", "worst", "coverage", "width", "`p2`", "worst", "coverage", "width",
        "nearest run or last loss", "own power law",
    ]  # fmt: skip
    for hold_out, words in HOLD_OUTS.items():
        new = results[hold_out, "regrowth"]
        old = {(r.family, r.method): r for r in results[hold_out, "p2"]}
        for r in new:
            other = old.get((r.family, r.method))
            yield [words, r.family, r.method, *judged(r), *judged(other), *(guess(other, k) for k in ("last", "power"))]
        yield [f"**{words}**", "", "**mean**", *mean_of(new), *mean_of(list(old.values())), "", ""]


def judged(result: HoldOutResult | None) -> list[str]:
    if result is None:
        return ["cannot", "-", "-", "-"]
    return [f"{result.mape:.4f}", f"{result.max_ape:.4f}", f"{result.coverage:.2f}", f"{result.width:.3f}"]


def mean_of(results: Sequence[HoldOutResult]) -> list[str]:
    """Mean error of the groups; coverage and width over all their readings."""
    if not results:
        return ["cannot", "-", "-", "-"]
    points = [r.n_points for r in results]
    coverage, width = (np.average([getattr(r, k) for r in results], weights=points) for k in ("coverage", "width"))
    worst = max(r.max_ape for r in results)
    return [f"**{np.mean([r.mape for r in results]):.4f}**", f"{worst:.4f}", f"**{coverage:.2f}**", f"{width:.3f}"]


def guess(result: HoldOutResult | None, name: str) -> str:
    value = None if result is None else result.baselines.get(name)
    return "-" if value is None else f"{value:.4f}"


def few_table(runs: Sequence[RunRecord]) -> Iterator[list[str]]:
    """All else from four runs: depth at two rates, the smallest Llama, with its control."""
    smallest = min(r.params_before for r in runs if r.family == "tiny-llama")
    chosen = [r for r in runs if r.family == "tiny-llama" and r.params_before == smallest]
    rates = sorted({r.pruning_rate for r in chosen if r.method == "depth"})[:2]
    four = [r for r in chosen if r.is_control or (r.method == "depth" and r.pruning_rate in rates)]
    (law,) = fit(four, form="regrowth")
    yield ["predicted", "runs", "error", "worst", "coverage", "width"]
    largest = max(r.params_before for r in runs if r.family == "tiny-llama")
    for words, mine in (
        ("the largest Llama", [r for r in runs if r.family == "tiny-llama" and r.params_before == largest]),
        ("all Qwens", [r for r in runs if r.family == "tiny-qwen2"]),
    ):
        yield [words, *errors_of(law, [r for r in mine if not r.is_control])]


def errors_of(law: Any, runs: Sequence[RunRecord]) -> list[str]:
    """How a law predicts runs that it has not seen: number, error, worst, coverage, width."""
    error, inside, width = [], [], []
    for run in runs:
        points = [p for p in run.curve if p.tokens > 0]
        x = setting_of(run, law).at(np.array([float(p.tokens) for p in points]))
        loss = np.array([p.loss for p in points])
        said, (low, high) = law.loss(x), law.interval(x, level=LEVEL)
        error.append(np.abs(said / loss - 1))
        inside.append((low <= loss) & (loss <= high))
        width.append((high - low) / loss)
    errors = np.concatenate(error)
    return [
        str(len(runs)), f"{errors.mean():.4f}", f"{errors.max():.4f}",
        f"{np.concatenate(inside).mean():.2f}", f"{np.concatenate(width).mean():.3f}",
    ]  # fmt: skip


def setting_of(run: RunRecord, law: Any) -> Setting:
    """Where a law is read for this run: what its form reads of it, as far as it is known; without tokens."""
    read = {c.name: float(c.read(run)[0]) for c in (*law.formula.columns, *law.formula.optional) if c.name != "tokens"}
    return Setting(**{name: value for name, value in read.items() if np.isfinite(value)})


def real_table(runs: Sequence[RunRecord]) -> Iterator[list[str]]:
    """SmolLM2 on a GPU: the highest rate from the lower two, and a method from the other, beside `p2`."""
    yield ["predicted", "from", "`regrowth`: runs, error, worst, coverage, width", "`p2`"]
    controls = [r for r in runs if r.is_control]
    by = {m: [r for r in runs if r.method == m] for m in ("depth", "width")}
    highest = {m: max(r.pruning_rate for r in mine) for m, mine in by.items()}
    lower = [r for r in runs if not is_masked(r.method) and r.pruning_rate < highest.get(r.method, 0.0)]
    both = select_by_method(fit([*lower, *controls], form="regrowth"))
    for method, mine in by.items():
        top = [r for r in mine if r.pruning_rate == highest[method]]
        yield [f"{method}, rate {highest[method]:.2f}", "the lower rates", ", ".join(errors_of(both[method], top)),
               p2_error([r for r in lower if r.method == method], top)]  # fmt: skip
    for method, other in (("depth", "width"), ("width", "depth")):
        law = select_law(fit([*by[other], *controls], form="regrowth"))
        yield [f"{method}, every rate", other, ", ".join(errors_of(law, by[method])), "cannot"]


def select_by_method(laws: Sequence[Any]) -> dict[str, Any]:
    return {law.method: law for law in laws}


def p2_error(fitted: Sequence[RunRecord], held: Sequence[RunRecord]) -> str:
    try:
        return ", ".join(errors_of(select_law(fit(list(fitted), form="p2")), held))
    except RegrowError as refused:
        return refused.what
