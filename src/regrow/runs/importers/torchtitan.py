"""torchtitan's console log.

    [titan] ... - root - INFO - step: 20  loss: 11.8347  grad_norm: 4.6875  memory: ...
    [titan] ... - root - INFO - validate step: 20  loss: 12.4699  memory: 69.81GiB(88.17%)  tps: 74,600

The first is the training loss, the second the held-out one; each rank may write it. The line "Trainer is initialized
with ... global batch size B, ... sequence length S" gives the tokens of a step, B times S. Source: pytorch/torchtitan,
torchtitan/components/metrics.py (log, log_validation) and torchtitan/train.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.text import NUMBER, clean, read_lines, to_number

_STEP = re.compile(rf"\b(validate )?step:\s*(\d+)\s+loss:\s*({NUMBER})", re.IGNORECASE)
_BATCH = re.compile(r"Trainer is initialized with .*?global batch size (\d+),.*?sequence length (\d+)")


def recognise(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return False
    text = clean(head)
    return _STEP.search(text) is not None or _BATCH.search(text) is not None


def read(path: Path) -> History:
    rows = []
    per_step = set()
    for line in read_lines(path):
        for found in _STEP.finditer(line):
            column = "validation_metrics/loss" if found[1] else "loss_metrics/global_avg_loss"
            rows.append({"step": int(found[2]), column: to_number(found[3])})
        batch = _BATCH.search(line)
        if batch:
            per_step.add(int(batch[1]) * int(batch[2]))
    if not rows:
        raise InputError("not a torchtitan log: no step with a loss", where=str(path), hint="say which it is: --as")
    if len(per_step) > 1:
        raise InputError(
            f"steps of {' and '.join(f'{n:,}' for n in sorted(per_step))} tokens in one log",
            where=str(path),
            hint="import the parts apart",
        )
    return History.from_rows(rows, where=str(path), tokens_per_step=next(iter(per_step), None))
