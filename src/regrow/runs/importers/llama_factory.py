"""LLaMA-Factory's `trainer_log.jsonl`: an object per log call, with `current_steps` and `total_steps` in each.

`loss` is the training loss, `eval_loss` the held-out one, `total_tokens` the tokens seen (written with
`include_num_input_tokens_seen`). Early versions write null for what was not logged. The `trainer_state.json` beside it
is the Trainer's. Source: hiyouga/LLaMA-Factory, src/llamafactory/train/callbacks.py, LogCallback.on_log.
"""

from __future__ import annotations

from pathlib import Path

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.tables import json_lines

FILE = "trainer_log.jsonl"


def recognise(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return (path / FILE).is_file()
    first = head.split(b"\n", 1)[0]
    return b'"current_steps"' in first and b'"total_steps"' in first


def read(path: Path) -> History:
    file = path / FILE if path.is_dir() else path
    rows = json_lines(file, what=f"LLaMA-Factory's {FILE}")
    if not all("current_steps" in row for row in rows):
        raise InputError(f"not LLaMA-Factory's {FILE}: no current_steps", where=str(file), hint="say which it is: --as")
    return History.from_rows(rows, where=str(file))
