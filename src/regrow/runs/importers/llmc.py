"""Logs of llm.c: the console, and `main.log` in its output folder.

    | total batch size      | 524288                                             |      (console)
    val loss 3.512345
    step  251/19560 | loss 3.512345 (+0.12z)| norm 0.5123 (-0.33z)| lr 6.00e-04 | ...
    s:250 tel:3.5123                                                                (main.log)
    s:250 trl:3.5101 lr:0.000600 norm:0.51

A held-out loss is read before the step of its number, so N steps are done; in the console it has no number and stands
after the last step printed. `trl` of step N is logged when N + 1 are done. Source: karpathy/llm.c at f1e2ace
(2025-05-10), train_gpt2.cu and llmc/logger.h.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.text import NUMBER, read_lines, to_number

_LOGGED = re.compile(rf"^s:(\d+) (tel|trl):({NUMBER})")
_STEP = re.compile(rf"^step\s+(\d+)/\d+ \| (?:train )?loss ({NUMBER})")
_VALIDATION = re.compile(rf"^val loss ({NUMBER})\s*$")
_BATCH = re.compile(r"^\| total batch size\s+\| (\d+)\s+\||^total desired batch size: (\d+)")
TELLING = re.compile("|".join(f"(?:{p.pattern})" for p in (_LOGGED, _STEP, _BATCH)))


def read(path: Path) -> History:
    rows: list[dict[str, Any]] = []
    done, per_step = 0, None
    for line in read_lines(path):
        if found := _LOGGED.search(line):
            held_out = found[2] == "tel"
            step = int(found[1]) + (0 if held_out else 1)
            rows.append({"step": step, "val_loss" if held_out else "loss": to_number(found[3])})
        elif found := _STEP.search(line):
            done = int(found[1])
            rows.append({"step": done, "loss": to_number(found[2])})
        elif found := _VALIDATION.search(line):
            rows.append({"step": done, "val_loss": to_number(found[1])})
        elif found := _BATCH.search(line):
            per_step = int(found[1] or found[2])
    if not rows:
        raise InputError("not a log of llm.c: no step with a loss", where=str(path), hint="say which it is: --as")
    return History.from_rows(rows, where=str(path), tokens_per_step=per_step)
