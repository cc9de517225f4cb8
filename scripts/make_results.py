"""Write the tables and pictures of docs/results.md from the records of the reference studies.

    python scripts/make_results.py [--page docs/results.md] [--studies studies]

The page's text is written by people and kept; what stands between `<!-- table: NAME -->` and `<!-- end -->` is written
anew. Everything is computed from the archives in `studies/` with fixed seeds, so that equal records give an equal page.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from regrow.errors import RegrowError
from regrow.laws import Law, Setting, fit, validate
from regrow.laws.forms import FORMS
from regrow.laws.validation import HoldOutResult
from regrow.methods import is_masked
from regrow.planning import Gain, PlanSpec, Trend, check_trends, plan
from regrow.report.content import gather
from regrow.report.picture import picture_svg
from regrow.runs import CONTROL, RunRecord, read_runs
from regrow.units import format_count, format_factor

ROOT = Path(__file__).parents[1]
#: The studies whose runs the laws are fitted to, and those shown beside them.
LADDERS = ("ladder-llama", "ladder-qwen2")
DISTILLED, REAL = "ladder-llama-distilled", "smollm2"
#: The same model on a GPU: by the default proportions of width pruning, and by neurons alone.
GPU, NEURONS = "smollm2-2m", "smollm2-2m-neurons"
#: Readings of the same runs: their losses, without the beginnings of the curves, of averaged weights, and the gaps
#: above the unpruned control.
RAW, LATER, AVERAGED, CONTROLLED = READINGS = (
    "as it is", "after 1/8 of the tokens", "of averaged weights", "above the control",
)  # fmt: skip
#: Depth and width beyond this rate are not fitted with the others: they are what the law is stressed with.
STRESS = 0.45
STRESSED = "rate 0.5"
RATES = (0.15, 0.25, 0.35, 0.5)
#: What the page promises to look at: errors of the held-out losses, and the share of them inside 90% intervals.
AIMS = {"tokens": 0.005, "size": 0.015, "rate": 0.02}
COVERAGE = 0.8
MIN_GAIN = 0.01

Scored = TypeVar("Scored", HoldOutResult, Law)


class Evidence:
    """The records and what is computed from them once."""

    def __init__(self, folder: Path) -> None:
        found = {path.stem: read_runs(path) for path in sorted(folder.glob("*.jsonl"))}
        self.studies: Mapping[str, list[RunRecord]] = found
        self.ladder = [run for name in LADDERS for run in found.get(name, [])]

    @cached_property
    def base(self) -> list[RunRecord]:
        """Runs up to the rate 0.35, 2:4 and the controls."""
        return [run for run in self.ladder if not is_stress(run)]

    @cached_property
    def laws(self) -> dict[str, list[Law]]:
        """By form, the laws of every family and method."""
        return {form: list(fit(self.base, form=form)) for form in FORMS}

    @cached_property
    def validated(self) -> dict[tuple[str, str], list[HoldOutResult]]:
        """By reading of the runs and hold-out, every validation of the page; the readings are those of `READINGS`."""
        families = {run.family for run in self.ladder if is_stress(run)}
        stressed = [run for run in self.ladder if run.family in families and not is_masked(run.method)]
        asked: dict[tuple[str, str], dict[str, Any]] = {(RAW, STRESSED): {"runs": stressed, "hold_out": "rate"}}
        later = [without_beginning(run) for run in self.base]
        for name in AIMS:
            asked[RAW, name] = {"runs": self.base, "hold_out": name}
            asked[LATER, name] = {"runs": later, "hold_out": name, "forms": "p2"}
            asked[AVERAGED, name] = {"runs": self.base, "hold_out": name, "forms": "p2", "loss": "averaged"}
            asked[CONTROLLED, name] = {"runs": self.base, "hold_out": name, "forms": "p2", "baseline": "control"}
        with ProcessPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            waiting = {place: pool.submit(_validated, arguments) for place, arguments in asked.items()}
            return {place: future.result() for place, future in waiting.items()}

    @property
    def held_out(self) -> dict[str, list[HoldOutResult]]:
        """By hold-out, what every form said of the runs as they are."""
        return {name: self.validated[RAW, name] for name in (*AIMS, STRESSED)}


def _validated(arguments: dict[str, Any]) -> list[HoldOutResult]:
    return list(validate(**arguments))


def is_stress(run: RunRecord) -> bool:
    """Whether a run is pruned further than the laws are fitted."""
    return not is_masked(run.method) and run.pruning_rate > STRESS


def without_beginning(run: RunRecord) -> RunRecord:
    """The run without its readings in the first eighth of its tokens."""
    return replace(run, curve=tuple(p for p in run.curve if p.tokens >= run.curve[-1].tokens / 8))


def runs_table(seen: Evidence) -> Iterator[list[str]]:
    """What was run, on what, for how long."""
    yield ["study", "models", "runs", "tokens a run", "unpruned controls", "hours of one process", "hardware"]
    for name, runs in seen.studies.items():
        tokens = sorted({run.curve[-1].tokens for run in runs})
        seconds = [run.curve[-1].seconds for run in runs]
        hours = "-" if None in seconds else f"{sum(s for s in seconds if s is not None) / 3600:.1f}"
        yield [
            f"`{name}`",
            ", ".join(format_count(size) for size in sorted({run.params_before for run in runs})),
            str(len(runs)),
            " to ".join(f"{t:,}" for t in dict.fromkeys((tokens[0], tokens[-1]))),
            str(sum(run.is_control for run in runs)),
            hours,
            "; ".join(dict.fromkeys(map(hardware, runs))),
        ]


def hardware(run: RunRecord) -> str:
    """What a run was trained on, as it recorded it."""
    told = run.details
    threads = told.get("threads")
    shared = "" if "NVIDIA" in str(told.get("device")) else f", {threads} thread{'' if threads == 1 else 's'}"
    return f"{told.get('device', '-')}{shared}, {told.get('precision', '-')}"


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


SPOKEN = {"params_before": "size", "pruning_rate": "rate", "tokens": "tokens", "loss_before": "L0"}


def losses_table(seen: Evidence) -> Iterator[list[str]]:
    """The same law on every reading of the same runs."""
    yield ["family", "method", "loss", *(f"{name}, coverage" for name in AIMS)]
    results = {place: {key(r): r for r in found if r.form == "p2"} for place, found in seen.validated.items()}
    for one in in_order([r for r in seen.held_out["tokens"] if r.form == "p2"]):
        for reading in READINGS:
            yield [one.family, one.method, reading, *(judged(n, results[reading, n].get(key(one))) for n in AIMS)]


def trends_table(seen: Evidence) -> Iterator[list[str]]:
    """The paper's two claims, and the law's own conditions."""
    checked = [(law, {trend.name: trend for trend in check_trends(law)}) for law in in_order(seen.laws["p2"])]
    claims = list(dict.fromkeys(claim for _, found in checked for claim in found))
    yield ["family", "method", *claims]
    for law, found in checked:
        yield [law.family, law.method, *(said(found[claim]) for claim in claims)]


def said(trend: Trend) -> str:
    """A condition's answer, and in what share of the refits it is so."""
    if trend.holds is None:
        return "can't tell"
    return f"{'yes' if trend.holds else '**no**'} ({number(trend.share, '.2f')})"


def gaps_table(seen: Evidence) -> Iterator[list[str]]:
    """How far above the unpruned model the runs are at once and at the end: means over seeds, nats/token."""
    yield ["family", "method", "size", *map(str, RATES), "most that two seeds differ by at the end"]
    for (family, method, size), runs in by_place(seen.ladder).items():
        cells, apart = ["-"] * len(RATES), []
        for i, there in enumerate(at_rates(runs)):
            if there:
                begin, end = ([run.curve[j].loss - run.loss_before for run in there] for j in (0, -1))
                cells[i] = f"{np.mean(begin):.3f} -> {np.mean(end):.3f}"
                apart += [max(end) - min(end)] if len(there) > 1 else []
        yield [family, method, format_count(size), *cells, number(max(apart, default=None), ".3f")]


def by_place(runs: Sequence[RunRecord]) -> dict[tuple[str, str, int], list[RunRecord]]:
    """The runs of each family, method and size, in the page's order."""
    groups: dict[tuple[str, str, int], list[RunRecord]] = {}
    for run in sorted(runs, key=lambda r: (order_of(r.family, r.method), r.params_before)):
        groups.setdefault((run.family, "control" if run.is_control else run.method, run.params_before), []).append(run)
    return groups


def at_rates(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The runs nearest to each of `RATES`; what has no rate to choose, 2:4 and the controls, stands in the first."""
    places: list[list[RunRecord]] = [[] for _ in RATES]
    for run in runs:
        chosen = not (is_masked(run.method) or run.is_control)
        places[int(np.argmin(np.abs(np.array(RATES) - run.pruning_rate))) if chosen else 0].append(run)
    return places


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
    if found.tokens is None:
        return "none is enough"
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


def real_table(seen: Evidence) -> Iterator[list[str]]:
    """SmolLM2: what a real model lost and won back."""
    yield ["run", "rate", "parameters left", "tokens", "unpruned", "at once", "at the end", "of the gap won back"]
    for run in seen.studies.get(REAL, []):
        first, last, before = run.curve[0].loss, run.curve[-1].loss, run.loss_before
        won = "-" if run.is_control else f"{(first - last) / (first - before):.2f}"
        name = "control" if run.is_control else run.method
        yield [
            name, f"{run.pruning_rate:.3f}", format_count(run.params_after), f"{run.curve[-1].tokens:,}",
            f"{before:.4f}", f"{first:.4f}", f"{last:.4f}", won,
        ]  # fmt: skip


def real_gpu_table(seen: Evidence) -> Iterator[list[str]]:
    """SmolLM2 on a GPU: where each run ended, and how far above the control after as many tokens."""
    yield ["pruned", "rate", "parameters left", "tokens", "at once", "at the end", "above the control", "won back"]
    control = next(run for run in seen.studies[GPU] if run.is_control)
    unpruned = {p.tokens: p.loss for p in control.curve}
    for run in (*seen.studies[GPU], *seen.studies[NEURONS]):
        first, last = run.curve[0], run.curve[-1]
        name = "nothing (the control)" if run.is_control else run.method
        name += ", neurons alone" if run.family == NEURONS else ""
        above = last.loss - unpruned[last.tokens]
        yield [
            name, f"{run.pruning_rate:.3f}", format_count(run.params_after), f"{last.tokens:,}",
            f"{first.loss:.4f}", f"{last.loss:.4f}", *(
                ("-", "-") if run.is_control else (f"{above:.4f}", f"{1 - above / (first.loss - run.loss_before):.2f}")
            ),
        ]  # fmt: skip


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


def distillation_table(seen: Evidence) -> Iterator[list[str]]:
    """Cross-entropy against distillation where both have cost the same FLOPs: means over seeds."""
    yield ["size", "method", "rate", "FLOPs", "cross-entropy", "distilled", "gained, nats"]
    groups: dict[tuple[int, str, float], dict[bool, list[RunRecord]]] = {}
    for distilled, name in ((False, LADDERS[0]), (True, DISTILLED)):
        for run in seen.studies.get(name, []):
            if not run.is_control:
                place = (run.params_before, run.method, round(run.pruning_rate, 3))
                groups.setdefault(place, {}).setdefault(distilled, []).append(run)
    for (size, method, rate), sides in sorted(groups.items()):
        if len(sides) < 2:
            continue
        flops = min(flops_of(run) * run.curve[-1].tokens for side in sides.values() for run in side)
        plain, taught = (float(np.mean([at_flops(r, flops) for r in sides[d]])) for d in (False, True))
        yield [
            format_count(size), method, f"{rate:.3f}", f"{flops:.3g}", f"{plain:.4f}", f"{taught:.4f}",
            f"{plain - taught:+.4f}",
        ]  # fmt: skip


def flops_of(run: RunRecord) -> float:
    """FLOPs of training on a token, the teacher's share included, as the run recorded them."""
    return float(run.details["flops_per_token"])


def at_flops(run: RunRecord, flops: float) -> float:
    """A run's loss after so many FLOPs, interpolated in the logarithm of the tokens."""
    points = [p for p in run.curve if p.tokens > 0]
    return float(np.interp(np.log(flops / flops_of(run)), np.log([p.tokens for p in points]), [p.loss for p in points]))


def pictures(seen: Evidence) -> Iterator[tuple[str, str]]:
    """Name and SVG of each family and method: the law without the largest size, and the runs of the largest."""
    for family, method in dict.fromkeys((run.family, run.method) for run in seen.base if not run.is_control):
        runs = [run for run in seen.base if run.family == family and run.method in (method, CONTROL)]
        largest = max(run.params_before for run in runs)
        fitted = [run for run in runs if run.params_before < largest]
        unseen = [run for run in runs if run.params_before == largest and not run.is_control]
        (law,) = fit(fitted, form="p2")
        middle = sorted(unseen, key=lambda run: run.pruning_rate)[len(unseen) // 2]
        title = f"{family}, {method}: the largest model, predicted from the smaller ones"
        content = gather(fitted, [law], [plan(law, plan_spec(middle))], held_out=unseen, title=title)
        yield f"results_{family}_{method.replace(':', 'of')}.svg", picture_svg(content) + "\n"


def key(result: HoldOutResult | Law) -> tuple[str, str, str]:
    return result.family, result.method, result.form


def in_order(results: Sequence[Scored]) -> list[Scored]:
    """By family, method and form, each in the order in which the page speaks of them."""
    return sorted(results, key=lambda r: (order_of(r.family, r.method), list(FORMS).index(r.form)))


def order_of(family: str, method: str) -> tuple[str, int]:
    methods = ("none", "depth", "width")
    return family, methods.index(method) if method in methods else len(methods)


def number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


TABLES: Mapping[str, Callable[[Evidence], Iterator[list[str]]]] = {
    "runs": runs_table,
    "fits": fits_table,
    "places": places_table,
    "generalisation": generalisation_table,
    "forms": forms_table,
    "baselines": baselines_table,
    "losses": losses_table,
    "trends": trends_table,
    "gaps": gaps_table,
    "tokens": tokens_table,
    "real": real_table,
    "real-gpu": real_gpu_table,
    "real-laws": real_laws_table,
    "distillation": distillation_table,
}


def as_markdown(rows: Iterator[list[str]]) -> str:
    """A table; the first row is its heading."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def fill(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The page with every marked table written anew. Raises `ValueError` for a marker that names no table."""

    def table(found: re.Match[str]) -> str:
        if found[1] not in tables:
            raise ValueError(f"no table is called {found[1]!r}; there are {', '.join(tables)}")
        return f"<!-- table: {found[1]} -->\n\n{tables[found[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- table: ([\w-]+) -->.*?<!-- end -->", table, page, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md")
    parser.add_argument("--studies", type=Path, default=ROOT / "studies")
    options = parser.parse_args()
    seen = Evidence(options.studies)
    say = lambda name, table: (print(f"{name}...", file=sys.stderr), as_markdown(table(seen)))[1]  # noqa: E731
    page = fill(options.page.read_text(), {name: (lambda n=name, t=table: say(n, t)) for name, table in TABLES.items()})
    options.page.write_text(page)
    folder = options.page.parent / "figures"
    folder.mkdir(exist_ok=True)
    for name, picture in pictures(seen):
        print(f"{name}...", file=sys.stderr)
        (folder / name).write_text(picture)


if __name__ == "__main__":
    main()
