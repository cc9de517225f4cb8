"""nanotron's console log.

    ... [INFO|DP=0|PP=0|TP=0]: iteration: 100 / 2000 | consumed_tokens: 26.2M | ... | lm_loss: 3.41 | lr: 0.0003 | ...

It has no held-out loss: `lm_loss` is of training. Numbers are printed to three digits (`26.2M`), so the tokens of a
step are taken from all of them together: the whole number that fits each. In W&B the count is whole. Looked at:
nanotron 0.4 (2024-03), src/nanotron/trainer.py (train_step_logs) and logging.py (human_format).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.text import read_lines

TELLING = re.compile(r"iteration: (\d+) / \d+ \| (consumed_tokens: .*)")
_FIELD = re.compile(r"([a-z_]+): (-?[\d.]+(?:e[-+]?\d+)?|nan|inf)([KMGTPE]?)\s*(?:\||$)")
_SCALE = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}


def read(path: Path) -> History:
    rows: list[dict[str, Any]] = []
    for line in read_lines(path):
        if found := TELLING.search(line):
            fields = {name: float(value) * _SCALE[scale] for name, value, scale in _FIELD.findall(found[2])}
            rows.append({"iteration": int(found[1]), **fields})
    if not rows:
        raise InputError("not a log of nanotron: no iteration line", where=str(path), hint="say which it is: --as")
    per_step = _tokens_per_step([(row["iteration"], row.get("consumed_tokens", math.nan)) for row in rows])
    notes = () if per_step is None else ("consumed_tokens is printed to three digits: the steps tell it whole",)
    kept = [{k: v for k, v in row.items() if k in ("iteration", "lm_loss", "lr")} for row in rows]
    return History.from_rows(rows if per_step is None else kept, where=str(path), tokens_per_step=per_step, notes=notes)


def _tokens_per_step(counts: list[tuple[int, float]]) -> int | None:
    """The tokens of one step, where every rounded count is a step's number times the same; else None.

    Of the whole numbers that fit it is the one that 1,024 divides, or the largest power of two below.
    """
    known = [(step, count) for step, count in counts if step > 0 and math.isfinite(count)]
    if not known:
        return None
    half = [0.5 * 10 ** (math.floor(math.log10(count)) - 2) for _, count in known]
    low = max(math.ceil((count - h) / step) for (step, count), h in zip(known, half, strict=True))
    high = min(math.floor((count + h) / step) for (step, count), h in zip(known, half, strict=True))
    for power in range(40, -1, -1):
        multiple = -(-low // 2**power) * 2**power
        if low <= multiple <= high:
            return multiple
    return None
