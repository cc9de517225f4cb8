"""LLaMA-Factory's `trainer_log.jsonl`: an object per log call, with the step and `total_steps` in each.

Its two engines write two dialects. v0 (every release to 0.9.5): `current_steps`, `loss` (training), `eval_loss`, and
`total_tokens` with `include_num_input_tokens_seen`; early versions write null for what was not logged. v1 (0.9.5,
2026-05): `step`, `loss` (training), no evaluation. The `trainer_state.json` beside it is the Trainer's. Source:
hiyouga/LLaMA-Factory, src/llamafactory/train/callbacks.py (LogCallback.on_log) and
src/llamafactory/v1/utils/callbacks/logging_callback.py.
"""

from __future__ import annotations

from pathlib import Path

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.tables import json_lines

FILE = "trainer_log.jsonl"
_STEPS = ("current_steps", "step")


def recognise(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return (path / FILE).is_file()
    first = head.split(b"\n", 1)[0]
    return b'"total_steps"' in first and any(b'"%s"' % step.encode() in first for step in _STEPS)


def read(path: Path) -> History:
    file = path / FILE if path.is_dir() else path
    rows = json_lines(file, what=f"LLaMA-Factory's {FILE}")
    if not all(any(step in row for step in _STEPS) for row in rows):
        raise InputError(
            f"not LLaMA-Factory's {FILE}: a row without a step", where=str(file), hint="say which it is: --as"
        )
    return History.from_rows(rows, where=str(file))
