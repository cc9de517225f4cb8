"""The records of the reference studies, and what the tables share: computed once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from regrow.laws import Law, fit, validate
from regrow.laws.forms import FORMS
from regrow.laws.validation import HoldOutResult
from regrow.methods import is_masked
from regrow.runs import RunRecord, read_runs
from results import regrowth, stopping

#: The studies whose runs the laws are fitted to, and those shown beside them.
LADDERS = ("ladder-llama", "ladder-qwen2")
DISTILLED, REAL = "ladder-llama-distilled", "smollm2"
#: The same model on a GPU: by the default proportions of width pruning, and by neurons alone.
GPU, NEURONS = "smollm2-2m", "smollm2-2m-neurons"
#: The runs whose checkpoints answered the ladder's tasks.
SCORES = "scores-llama"
#: The runs that go past the stopping point.
LONG = ("long-llama", "long-qwen2")
#: The runs of one model under seven learning rates and batches.
RECIPES = "recipe-llama"
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

    @cached_property
    def beside(self) -> dict[tuple[str, str], list[HoldOutResult]]:
        """By hold-out and form, `regrowth` and `p2` on the same held-out readings."""
        asked = [(hold_out, form) for hold_out in regrowth.HOLD_OUTS for form in ("regrowth", "p2")]
        with ProcessPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(regrowth.validated, [(self.base, *place) for place in asked])
            return dict(zip(asked, found, strict=True))

    @cached_property
    def stops(self) -> list[stopping.Stop]:
        """The long runs: D* measured and predicted."""
        return stopping.stops(self.base, self.long)

    @cached_property
    def long(self) -> list[RunRecord]:
        """The runs that go past the stopping point, and their controls."""
        return [run for name in LONG for run in self.studies.get(name, []) if run.status == "done"]

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
