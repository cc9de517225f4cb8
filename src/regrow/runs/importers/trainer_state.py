"""`trainer_state.json` of `transformers.Trainer`, which axolotl and LLaMA-Factory write too.

A JSON object whose `log_history` has a mapping per log call: `loss` (training) in some, `eval_loss` in others, each
with `step`; `num_input_tokens_seen` only with `include_num_input_tokens_seen`. Each checkpoint holds the history up to
it, so the last one is whole (transformers/trainer_callback.py, TrainerState).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History

FILE = "trainer_state.json"


def recognise(path: Path, head: bytes) -> bool:
    return bool(_candidates(path)) if path.is_dir() else head.lstrip()[:1] == b"{" and b'"log_history"' in _whole(path)


def read(path: Path) -> History:
    """Read a file, a checkpoint folder, or an output folder, of which the latest checkpoint is taken."""
    if not path.is_dir():
        return _history(path, _load(path), ())
    files = _candidates(path)
    if not files:
        raise InputError(f"no {FILE} here or in checkpoints", where=str(path), hint="the Trainer writes one in each")
    states = [(file, _load(file)) for file in files]
    file, latest = max(states, key=lambda pair: len(pair[1]["log_history"]))
    for other, state in states:
        rows = state["log_history"]
        if rows != latest["log_history"][: len(rows)]:
            raise InputError(
                f"{other.parent.name} and {file.parent.name} tell different histories: checkpoints of several runs",
                where=str(path),
                hint="name the checkpoint folder of one run",
            )
    notes = (f"the latest of {len(files)} checkpoints: {file}",) if len(files) > 1 else ()
    return _history(file, latest, notes)


def _candidates(folder: Path) -> list[Path]:
    """The folder's own file, and those of the checkpoints in it."""
    return [file for file in (folder / FILE, *sorted(folder.glob(f"checkpoint-*/{FILE}"))) if file.is_file()]


def _whole(path: Path) -> bytes:
    """All of a file that may be one: `log_history` can stand behind a long `stateful_callbacks`."""
    return path.read_bytes()


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = content["log_history"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"not a {FILE}", where=str(path), hint="the Trainer writes one in each checkpoint") from None
    return dict(content)


def _history(path: Path, state: dict[str, Any], notes: tuple[str, ...]) -> History:
    return History.from_rows(state["log_history"], where=str(path), notes=notes)
