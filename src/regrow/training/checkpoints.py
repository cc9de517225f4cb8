"""Checkpoints of a run: written whole or not at all, the last two kept or more, refused by a run of another spec.

A checkpoint is `transformers.Trainer`'s folder (weights, optimizer, schedule, random states) with what regrow adds in
`STATE_FILE`. It is written under a name that is never read and renamed when every byte is on the disk, so a kill at any
moment leaves the checkpoints before it as they were.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from regrow.errors import InputError, reason_of

STAGE = ".saving"
STATE_FILE = "regrow.pt"
KEPT = 2

_NAME = re.compile(r"checkpoint-(\d+)")


def step_of(checkpoint: Path) -> int:
    """Optimizer steps done at a checkpoint."""
    found = _NAME.fullmatch(checkpoint.name)
    if found is None:
        raise InputError("not a checkpoint", where=str(checkpoint))
    return int(found[1])


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in `folder`, by step."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((p for p in found if _NAME.fullmatch(p.name) and (p / STATE_FILE).is_file()), key=step_of)


def last_checkpoint(folder: Path, *, spec: str) -> Path | None:
    """The latest whole checkpoint of a run, None without one.

    Raises `InputError` if it belongs to a run of another spec than the one with the hash `spec`.
    """
    found = checkpoints(folder)
    if not found:
        return None
    state = read_state(found[-1])
    if state.get("spec") != spec:
        raise InputError(
            f"the checkpoint is of another spec ({state.get('spec')}, not {spec})",
            where=str(found[-1]),
            hint="choose another --out, or ask for what was asked before",
        )
    return found[-1]


def read_state(checkpoint: Path, *, process: int = 0) -> dict[str, Any]:
    """What regrow keeps in a checkpoint. Raises `InputError` if it can't be read."""
    try:
        return torch.load(_file(checkpoint, process), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a broken file
        raise InputError(
            f"the checkpoint can't be read ({reason_of(error)})",
            where=str(checkpoint),
            hint="remove it: the run goes on from the one before",
        ) from None


def write_state(folder: Path, state: Mapping[str, Any], *, process: int = 0) -> None:
    """Write regrow's part of a checkpoint in the making: the main process's, and the others' of a sharded model."""
    if process == 0 or state.get("processes"):
        torch.save(dict(state), _file(folder, process))


def _file(checkpoint: Path, process: int) -> Path:
    return checkpoint / (STATE_FILE if process == 0 else STATE_FILE.replace(".", f"_{process}."))


def clear_stage(folder: Path) -> None:
    """Remove the unfinished checkpoint of a run that was killed while it saved."""
    shutil.rmtree(folder / STAGE, ignore_errors=True)


def open_stage(folder: Path, name: str) -> None:
    """Make the empty folder that checkpoint `name` is written in."""
    clear_stage(folder)
    (folder / STAGE / name).mkdir(parents=True)


def publish(folder: Path, name: str, *, keep: int | None = KEPT) -> None:
    """Move the staged checkpoint `name` into place once it is on the disk; remove all but the last `keep`, if given."""
    staged = folder / STAGE / name
    for file in [*staged.rglob("*"), staged]:
        _sync(file)
    target = folder / name
    if target.exists():  # of a run that went back further than this one and came again
        shutil.rmtree(target)
    os.replace(staged, target)
    clear_stage(folder)
    _sync(folder)
    for old in [] if keep is None else checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
