"""OLMo-core's console log: blocks of metrics behind a marker of the step, and of an evaluation behind its own line.

    [step=100/2000,epoch=1,eta=...]
        train/CE loss=3.412
        throughput/total tokens=26,214,400
    Finished lm evals in 12.3 seconds. Metrics:
        c4_en-validation/CE loss=3.398
        c4_en-validation/PPL=29.90

An evaluation has no number. It stands after the marker of its step, or just before it, by the order of the callbacks:
of the two, the one that makes the evaluations multiples of one interval. Counts of a billion and more are printed
rounded (`1.049B`); a W&B history has them whole. There and in Comet the held-out losses are `eval/lm/SET/CE loss` and
the count is `throughput/total tokens`. Looked at: ai2-olmo-core 3.0.0 (2026-10), train/callbacks/console_logger.py,
evaluator_callback.py and utils.py (format_float).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.text import read_lines

_STEP = re.compile(r"\[step=(\d+)/(?:\d+|\?\?\?),epoch=\d+(?:,eta=[^]]*)?\]")
_EVALUATION = re.compile(r"Finished .+ evals in [\d.]+ seconds\. Metrics:")
_VALUE = re.compile(r"^\s{4}(\S[^=]*)=(-?[\d.,]+(?:[eE][-+]?\d+)?|nan|-?inf)([BTPE]?)\s*$")
_SCALE = {"": 1.0, "B": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
TELLING = re.compile(f"{_STEP.pattern}|{_EVALUATION.pattern}")


def read(path: Path) -> History:
    rows: list[dict[str, Any]] = []
    evaluations: list[dict[str, Any]] = []
    latest = 0
    for line in read_lines(path):
        if found := _STEP.search(line):
            rows.append({"step": int(found[1])})
            latest = max(latest, int(found[1]))
        elif _EVALUATION.search(line):
            rows.append({"step": latest})
            evaluations.append(rows[-1])
        elif rows and (found := _VALUE.match(line)):
            name = f"eval/{found[1]}" if evaluations and rows[-1] is evaluations[-1] else found[1]
            rows[-1][name] = float(found[2].replace(",", "")) * _SCALE[found[3]]
    late = _one_late([row["step"] for row in evaluations if row["step"] > 0])
    for row in evaluations:
        row["step"] += late if row["step"] > 0 else 0
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        raise InputError("not a log of OLMo-core: no metric", where=str(path), hint="say which it is: --as")
    # metrics are collected for several steps at a time, and then printed under their own, earlier numbers
    rows.sort(key=lambda row: row["step"])
    return History.from_rows(rows, where=str(path))


def _one_late(markers: list[int]) -> int:
    """1 where evaluations stand just before the marker of their step, 0 where they stand after it."""
    distinct = set(markers)
    return int(len(distinct) > 1 and math.gcd(*(n + 1 for n in distinct)) > math.gcd(*distinct))
