"""Experiment trackers beside the run record: the callbacks that transformers has for W&B, TensorBoard, Trackio, ..."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import integration_utils as hf

from regrow.errors import InputError, one_of

#: Folder of TensorBoard's event files in a run's folder, unless TENSORBOARD_LOGGING_DIR names another.
TENSORBOARD = "tensorboard"


def tracker_callbacks(names: Sequence[str], out: Path) -> tuple[TrainerCallback, ...]:
    """A callback for each tracker named; TensorBoard's files go to the run folder `out`.

    Raises `InputError` for a name that transformers does not know, and for a tracker that is not installed.
    """
    return tuple(_tracker(one_of(name, sorted(_known()), what="tracker", where="--report-to"), out) for name in names)


def _known() -> dict[str, Any]:
    return dict(hf.INTEGRATION_TO_CALLBACK)


def _tracker(name: str, out: Path) -> TrainerCallback:
    try:
        callback: TrainerCallback = _known()[name]()
    except (RuntimeError, ImportError):  # what they raise where their library is missing
        hint = f"pip install {name.replace('_', '-')}"
        raise InputError(f"{name} is not installed", where="--report-to", hint=hint) from None
    if name == TENSORBOARD and getattr(callback, "logging_dir", None) is None:
        callback.logging_dir = str(out / TENSORBOARD)  # type: ignore[attr-defined]
    return callback
