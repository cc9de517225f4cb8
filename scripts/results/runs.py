"""What was run, and where each run began and ended."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from regrow.runs import RunRecord
from regrow.units import format_count
from results.evidence import DISTILLED, GPU, LADDERS, NEURONS, RATES, REAL, Evidence
from results.layout import at_rates, by_place, number


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
    details = run.details
    threads = details.get("threads")
    shared = "" if "NVIDIA" in str(details.get("device")) else f", {threads} thread{'' if threads == 1 else 's'}"
    return f"{details.get('device', '-')}{shared}, {details.get('precision', '-')}"


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
