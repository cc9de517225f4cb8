"""torchtitan's console log.

    [titan] ... - root - INFO - step: 20  loss: 11.8347  grad_norm: 4.6875  memory: ...
    [titan] ... - root - INFO - validate step: 20  loss: 12.4699  memory: 69.81GiB(88.17%)  tps: 74,600

The first is the training loss, the second the held-out one; each rank may write it, and a rank of a pipeline that has
no loss writes -1 (0.2) or -0 (main) in its place. A line at the start gives the tokens of a step, in one of three
wordings (`_BATCHES`). Source: pytorch/torchtitan, torchtitan/components/metrics.py (log, log_validation) and
torchtitan/trainer.py, releases 0.1 to 0.3 and main at b5bcd76c6 (2026-08-21).
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.text import NUMBER, read_lines, to_number

_STEP = re.compile(rf"\b(validate )?step:\s*(\d+)\s+loss:\s*({NUMBER})", re.IGNORECASE)
#: What the start line has said of the tokens in a step, with the version and the date from which.
_BATCHES = (
    re.compile(
        r"Training starts at step \d+, with .*?global batch size (\d+),.*?sequence length (\d+)"
    ),  # 0.1, 2025-03
    re.compile(r"Trainer is initialized with .*?global batch size (\d+),.*?sequence length (\d+)"),  # 0.2, 2025-07
    re.compile(r"Trainer is initialized with .*?(\d+) tokens per train step"),  # main, 2026-08
)
TELLING = re.compile(
    rf"Trainer is initialized with .*(global batch size|tokens per train step)|{_BATCHES[0].pattern}"
    rf"|\b(validate )?step:\s*\d+\s+loss:\s*{NUMBER}\s+(grad_norm|memory):",
    re.IGNORECASE,
)


def read(path: Path) -> History:
    rows = []
    per_step = set()
    for line in read_lines(path):
        for found in _STEP.finditer(line):
            column = "validation_metrics/loss" if found[1] else "loss_metrics/global_avg_loss"
            rows.append({"step": int(found[2]), column: to_number(found[3])})
        for pattern in _BATCHES:
            if (batch := pattern.search(line)) is not None:
                per_step.add(math.prod(map(int, batch.groups())))
    if not rows:
        raise InputError("not a torchtitan log: no step with a loss", where=str(path), hint="say which it is: --as")
    if len(per_step) > 1:
        raise InputError(
            f"steps of {' and '.join(f'{n:,}' for n in sorted(per_step))} tokens in one log",
            where=str(path),
            hint="import the parts apart",
        )
    return History.from_rows(rows, where=str(path), tokens_per_step=next(iter(per_step), None))
