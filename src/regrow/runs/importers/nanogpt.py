"""Console logs of nanoGPT and of modded-nanogpt, which count alike: an evaluation at step N stands after N steps.

    tokens per iteration will be: 491,520                                   (nanoGPT)
    step 2000: train loss 3.5683, val loss 3.5712
    iter 2000: loss 3.5512, time 43120.32ms, mfu 45.01%
    step:250/1770 val_loss:4.0123 train_time:31234ms step_avg:124.94ms      (modded-nanogpt)

The loss of `iter N` is of the step that follows, so N + 1 are done. modded-nanogpt prints its own code first, and its
batch grows on the way in recent records: there --tokens-per-step is a mean. Source: karpathy/nanoGPT, train.py (master,
2025-11), and KellerJordan/modded-nanogpt, train_gpt.py at f411b3d (2026-08-01).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.text import NUMBER, read_lines, to_number

_EVALUATED = re.compile(rf"^step (\d+): train loss ({NUMBER}), val loss ({NUMBER})")
_TRAINED = re.compile(rf"^iter (\d+): loss ({NUMBER}), time")
_MODDED = re.compile(rf"^step:(\d+)/\d+ (val|train)_loss:({NUMBER}) train_time:")
_TOKENS = re.compile(r"^tokens per iteration will be: ([\d,]+)")
TELLING = re.compile("|".join(f"(?:{p.pattern})" for p in (_EVALUATED, _TRAINED, _MODDED, _TOKENS)))


def read(path: Path) -> History:
    rows: list[dict[str, Any]] = []
    per_step = None
    for line in read_lines(path):
        if found := _EVALUATED.search(line):
            rows.append({"step": int(found[1]), "train_loss": to_number(found[2]), "val_loss": to_number(found[3])})
        elif found := _TRAINED.search(line):
            rows.append({"step": int(found[1]) + 1, "loss": to_number(found[2])})
        elif found := _MODDED.search(line):
            rows.append({"step": int(found[1]), f"{found[2]}_loss": to_number(found[3])})
        elif found := _TOKENS.search(line):
            per_step = int(to_number(found[1]))
    if not rows:
        raise InputError("not a log of nanoGPT: no step with a loss", where=str(path), hint="say which it is: --as")
    evaluated = [row for row in rows if "val_loss" in row]
    # the loss of `iter N` stands after the evaluation at N + 1 steps and before none: for a curve only one kind counts
    return History.from_rows(evaluated or rows, where=str(path), tokens_per_step=per_step)
