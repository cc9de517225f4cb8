"""litgpt's console log (its `metrics.csv` is a table: see `tools`).

    iter 2000: val loss 2.9123, val time: 4312.11 ms
    Epoch 1 | iter 2000 step 250 | loss train: 2.951, val: 2.912 | iter time: 321.45 ms (step) remaining time: 1:02:03
    Final evaluation | val loss: 2.874 | val ppl: 17.703

`iter` counts micro-batches and `step` optimizer steps; both are done. The training line of a step stands before its
evaluation, which has the micro-batch only. The last evaluation is of the last of them. Looked at: litgpt 0.5.13
(2026-07), pretrain.py and finetune/full.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.text import NUMBER, read_lines, to_number

_TRAINED = re.compile(rf"^Epoch \d+ \| iter (\d+) step (\d+) \| loss train: ({NUMBER})")
_EVALUATED = re.compile(rf"^iter (\d+): val loss ({NUMBER}), val time:")
_FINAL = re.compile(rf"^Final evaluation \| val loss: ({NUMBER}) \| val ppl: ({NUMBER})")
TELLING = re.compile("|".join(f"(?:{p.pattern})" for p in (_TRAINED, _EVALUATED, _FINAL)))


def read(path: Path) -> History:
    rows: list[dict[str, Any]] = []
    step_at: dict[int, int] = {}
    batch: int | None = None
    for line in read_lines(path):
        if found := _TRAINED.search(line):
            batch = int(found[1])
            step_at[batch] = int(found[2])
            rows.append({"iter": batch, "step": step_at[batch], "loss": to_number(found[3])})
        elif found := _EVALUATED.search(line):
            batch = int(found[1])
            rows.append({"iter": batch, "step": step_at.get(batch), "val_loss": to_number(found[2])})
        elif found := _FINAL.search(line):
            last = rows[-1] if rows else {"iter": None, "step": None}
            final = {"val_loss": to_number(found[1]), "val_ppl": to_number(found[2])}
            rows.append({"iter": last["iter"], "step": last["step"], **final})
    if not rows:
        raise InputError("not a log of litgpt: no step with a loss", where=str(path), hint="say which it is: --as")
    _fill_steps(rows)
    return History.from_rows(rows, where=str(path))


def _fill_steps(rows: list[dict[str, Any]]) -> None:
    """Steps of evaluations without a training line of their own, from the micro-batches in a step."""
    known = next((row for row in reversed(rows) if row["step"] and row["iter"]), None)
    for row in rows:
        if known is not None and row["step"] is None and row["iter"] is not None:
            row["step"] = row["iter"] * known["step"] // known["iter"]
