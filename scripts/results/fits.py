"""How well the forms describe the runs that they were fitted to, and what their laws say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from regrow.errors import RegrowError
from regrow.laws import Law, Setting
from regrow.planning import Gain, PlanSpec, Trend, check_trends, plan
from regrow.runs import RunRecord
from regrow.units import format_count, format_factor
from results.evidence import MIN_GAIN, RATES, STRESS, Evidence
from results.layout import at_rates, by_place, in_order, number


def fits_table(seen: Evidence) -> Iterator[list[str]]:
    """How well each form describes what it was fitted to."""
    yield ["family", "method", "form", "R^2", "Huber", "ASD", "MAPE", "status"]
    for law in in_order([law for laws in seen.laws.values() for law in laws]):
        m = law.metrics
        yield [
            law.family,
            law.method,
            f"`{law.form}`",
            number(m["r2"], ".4f"),
            number(m["huber"], ".1e"),
            number(m["asd"], ".4f"),
            number(m["mape"], ".4f"),
            law.status,
        ]


def places_table(seen: Evidence) -> Iterator[list[str]]:
    """Where `p2` fits and where it doesn't: its errors on the runs it was fitted to, taken apart."""
    yield ["family", "method", "smallest to largest size", "lowest to highest rate", "first, second half of the tokens"]
    for law in in_order(seen.laws["p2"]):
        runs = [run for run in seen.base if (run.family, run.method) == (law.family, law.method)]
        sizes = sorted({run.params_before for run in runs})
        errors: list[tuple[int, int, bool, float]] = []
        for place, there in enumerate(at_rates(runs)):
            for run in there:
                points = [p for p in run.curve if p.tokens > 0]
                tokens = np.array([p.tokens for p in points], float)
                rate, before = run.pruning_rate, run.loss_before
                x = Setting(params_before=run.params_before, pruning_rate=rate, tokens=tokens, loss_before=before)
                wrong = np.abs(law.loss(x) / np.array([p.loss for p in points]) - 1)
                late = tokens > tokens[-1] / 2
                errors += [(sizes.index(run.params_before), place, *pair) for pair in zip(late, wrong, strict=True)]
        yield [law.family, law.method, *(means_by([(e[i], e[3]) for e in errors]) for i in range(3))]


def means_by(errors: Sequence[tuple[int, float]]) -> str:
    """The mean error of each part, in the parts' order."""
    return ", ".join(f"{np.mean([e for p, e in errors if p == part]):.4f}" for part in sorted({p for p, _ in errors}))


def trends_table(seen: Evidence) -> Iterator[list[str]]:
    """The paper's two claims, and the law's own conditions."""
    checked = [(law, {trend.name: trend for trend in check_trends(law)}) for law in in_order(seen.laws["p2"])]
    claims = list(dict.fromkeys(claim for _, found in checked for claim in found))
    yield ["family", "method", *claims]
    for law, found in checked:
        yield [law.family, law.method, *(answer_of(found[claim]) for claim in claims)]


def answer_of(trend: Trend) -> str:
    """A condition's answer, and in what share of the refits it is so."""
    if trend.holds is None:
        return "can't tell"
    return f"{'yes' if trend.holds else '**no**'} ({number(trend.share, '.2f')})"


def tokens_table(seen: Evidence) -> Iterator[list[str]]:
    """When to stop, by the law of all runs up to 0.35."""
    rates = [rate for rate in RATES if rate < STRESS]
    yield ["family", "method", "size", *map(str, rates)]
    laws = {(law.family, law.method): law for law in seen.laws["p2"]}
    for (family, method, size), runs in by_place([run for run in seen.base if not run.is_control]).items():
        law = laws.get((family, method))
        cells = ["-" if law is None or not there else when_to_stop(law, there[0]) for there in at_rates(runs)]
        yield [family, method, format_count(size), *cells[: len(rates)]]


def when_to_stop(law: Law, run: RunRecord) -> str:
    """D* of a run's model and rate, with its interval and how far beyond the runs' tokens it lies."""
    try:
        found = plan(law, plan_spec(run))
    except RegrowError as refused:
        return refused.what
    if found.tokens is None:  # "less than 6.14k", where the runs support a bound only
        return "none is enough" if found.tokens_reason is None else found.tokens_reason.split(" tokens")[0]
    low, high = ("?" if t is None else format_count(t) for t in (found.tokens_low, found.tokens_high))
    beyond = found.extrapolates.get("tokens", 1.0)
    return f"{format_count(found.tokens)} ({low} to {high}){f', {format_factor(beyond)}x' if beyond >= 1.05 else ''}"


def plan_spec(run: RunRecord) -> PlanSpec:
    """The question that a run's model and rate ask."""
    return PlanSpec(
        params_before=run.params_before,
        pruning_rate=run.pruning_rate,
        loss_before=run.loss_before,
        criterion=Gain(min_gain=MIN_GAIN),
        context=int(run.details.get("sequence_length") or 256),
    )
