"""NeMo AutoModel's `training.jsonl` and `validation.jsonl`, in the folder of its checkpoints.

    {"step": 99, "epoch": 0, "timestamp": "...", "loss": 2.91, ..., "tps": ..., "num_tokens_per_step": 262144, ...}
    {"step": 99, "epoch": 0, "timestamp": "...", "val_loss": 2.87, "lr": ..., "num_label_tokens": 65536, "mem": ...}

`step` counts from 0 and is logged before it is raised: `step` + 1 are done. Every step is logged, so the tokens are the
sum of `num_tokens_per_step`; `num_label_tokens` of a validation is the size of the held-out set. Of several held-out
sets each has a file `validation_NAME.jsonl`. Looked at: nemo_automodel 0.7.0 (2026-10), recipes/llm/train_ft.py,
components/loggers/metric_logger.py and components/training/step_scheduler.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.tables import json_lines

_TRAINING = "training.jsonl"
_PER_STEP = "num_tokens_per_step"


def recognise(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return (path / _TRAINING).is_file() and bool(_validations(path))
    first = head.split(b"\n", 1)[0]
    own = b'"tps_per_gpu"' in first or (b'"val_loss"' in first and b'"num_label_tokens"' in first)
    return b'"step"' in first and b'"timestamp"' in first and own


def read(path: Path) -> History:
    """Read the folder, or one of its files; a file of validations is read with the training beside it."""
    if path.is_dir():
        training, validations = path / _TRAINING, _validations(path)
    elif path.name.startswith("validation"):
        training, validations = path.parent / _TRAINING, [path]
    else:
        training, validations = path, []
    rows = _rows(training) if training.is_file() else []
    counted = _count(rows)
    for file in validations:
        name = file.stem.removeprefix("validation").lstrip("_")
        column = f"val_loss/{name}" if name and len(validations) > 1 else "val_loss"
        for row in _rows(file):
            at = {"step": row["step"], "total_tokens": counted.get(row["step"])}
            rows.append({**at, column: row.get("val_loss")})
    if not rows:
        raise InputError("not a log of NeMo AutoModel: no step", where=str(path), hint="say which it is: --as")
    rows.sort(key=lambda row: row["step"])
    return History.from_rows(rows, where=str(path), tool="automodel")


def _validations(folder: Path) -> list[Path]:
    return sorted(folder.glob("validation*.jsonl"))


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file; of a step that was trained twice after a resume, the later one."""
    found = json_lines(file, what="a log of NeMo AutoModel")
    if not all(isinstance(row.get("step"), int) for row in found):
        raise InputError("not a log of NeMo AutoModel: a row without a step", where=str(file), hint="--as jsonl")
    kept = ("step", "loss", "val_loss", "lr", _PER_STEP)
    return list({row["step"]: {k: v for k, v in row.items() if k in kept} for row in found}.values())


def _count(rows: list[dict[str, Any]]) -> dict[int, int]:
    """Tokens trained on at each step, where every step from the first on says how many it has; else none."""
    total, counted = 0, {}
    for number, row in enumerate(sorted(rows, key=lambda row: row["step"])):
        if row["step"] != number or not isinstance(row.get(_PER_STEP), int | float):
            return {}
        total += int(row[_PER_STEP])
        counted[row["step"]] = row["total_tokens"] = total
    return counted
