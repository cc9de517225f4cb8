"""Checkpoints of a run: written whole or not at all, at least the last two kept, refused by a run of another spec.

A checkpoint is `transformers.Trainer`'s folder (weights, optimizer, schedule, random states) with what regrow adds in
`STATE_FILE`. It is written under a name that is never read and renamed when every byte is on the disk, so a kill at any
moment leaves the checkpoints before it as they were. Before one is used its files are compared with what was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from regrow.disk import write_json, write_text
from regrow.errors import InputError, reason_of
from regrow.runs.store import COPIES, CURVE_FILE, RunWarning

STAGE = ".saving"
STATE_FILE = "regrow.pt"
#: The other files of a checkpoint with their sizes and hashes, written last.
FILES = "regrow_files.json"
KEPT = 2
#: Bytes of the largest file that is hashed whole, and of each end that is hashed of a larger one.
_WHOLE, _ENDS = 1 << 26, 1 << 16

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
    """The latest checkpoint of a run that is whole, None if the run has none yet.

    A `RunWarning` names those that are passed over because they are damaged. Raises `InputError` if every one is, or
    if the checkpoint belongs to a run of another spec than the one with the hash `spec`.
    """
    damaged: list[str] = []
    for found in reversed(checkpoints(folder)):
        problem = damage(found)
        if problem is not None:
            damaged.append(f"{found.name} ({problem})")
            continue
        try:
            state = read_state(found)
        except InputError as error:  # of a checkpoint whose files are not listed
            damaged.append(f"{found.name} ({error.what})")
            continue
        if state.get("spec") != spec:
            raise InputError(
                f"the checkpoint is of another spec ({state.get('spec')}, not {spec})",
                where=str(found),
                hint="choose another --out, or ask for what was asked before",
            )
        if damaged:
            passed = f"{folder}: damaged: {', '.join(damaged)}; the run goes on from {found.name}"
            warnings.warn(passed, RunWarning, stacklevel=2)
        return found
    if damaged:
        raise InputError(
            f"no checkpoint is whole: {', '.join(damaged)}",
            where=str(folder),
            hint="restore one, or remove this folder to begin the run anew",
        )
    return None


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, None if they are as they were written.

    In a checkpoint without a list of its files, only missing or empty files are found.
    """
    try:
        listed = json.loads((checkpoint / FILES).read_text())["files"]
        for name, known in listed.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != known["bytes"]:
                return f"{name} holds {path.stat().st_size} of {known['bytes']} bytes"
            if _hash(path) != known["sha256"]:
                return f"{name} was changed"
    except FileNotFoundError:
        needed = ("optimizer.pt", "scheduler.pt") if not any(checkpoint.glob("*.distcp")) else ("scheduler.pt",)
        lacking = next((name for name in needed if not (checkpoint / name).is_file()), None)
        empty = next((p.name for p in checkpoint.iterdir() if p.is_file() and not p.stat().st_size), None)
        return f"{lacking} is missing" if lacking else (f"{empty} is empty" if empty else None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{FILES} can't be read"
    return None


def _hash(path: Path) -> str:
    """SHA-256 of a file, or of its two ends if it is large, so that gigabytes are not read twice."""
    with path.open("rb") as stream:
        size = path.stat().st_size
        if size <= _WHOLE:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256(stream.read(_ENDS))
        stream.seek(size - _ENDS)
        digest.update(stream.read(_ENDS))
        return digest.hexdigest()


def _list_files(folder: Path) -> None:
    """Write down the size and the hash of every file of a checkpoint."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _hash(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    write_json(folder / FILES, {"files": files})


def read_state(checkpoint: Path, *, process: int = 0) -> dict[str, Any]:
    """What regrow keeps in a checkpoint. Raises `InputError` if it can't be read."""
    try:
        return torch.load(_file(checkpoint, process), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of exceptions for a broken file
        raise InputError(
            f"the checkpoint can't be read ({reason_of(error)})",
            where=str(checkpoint),
            hint="restore it",
        ) from None


def restore_curve(out: Path, checkpoint: Path) -> None:
    """Restore a missing curve from the copy in a checkpoint, with a `RunWarning`.

    Raises `InputError` if the checkpoint has none: the readings before it could not be made again.
    """
    copy = checkpoint / COPIES[CURVE_FILE]
    if not copy.is_file():
        raise InputError(
            f"{CURVE_FILE} is missing, and with it the readings before {checkpoint.name}",
            where=str(out),
            hint="restore it from a backup, or choose another --out",
        )
    write_text(out / CURVE_FILE, copy.read_text())
    warnings.warn(f"{out}: {CURVE_FILE} was missing and is restored from {checkpoint.name}", RunWarning, stacklevel=2)


def write_state(folder: Path, state: Mapping[str, Any], *, process: int = 0) -> None:
    """Write regrow's part of an unfinished checkpoint: from the main process, and from every process of a sharded
    model."""
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
    """Move the staged checkpoint `name` into place once it is on the disk; remove all but the last `keep`, if given.

    Checkpoints of later steps, left by a run that restarted from an earlier one, are removed too. A copy of the run's
    record and curve lies in the checkpoint, for a run folder that loses its own.
    """
    staged = folder / STAGE / name
    for kept, copy in COPIES.items():
        if (folder.parent / kept).is_file():
            shutil.copyfile(folder.parent / kept, staged / copy)
    _list_files(staged)
    for file in [*staged.rglob("*"), staged]:
        _sync(file)
    target = folder / name
    if target.exists():  # left by a run that restarted from an earlier checkpoint
        shutil.rmtree(target)
    os.replace(staged, target)
    clear_stage(folder)
    _sync(folder)
    here = step_of(target)
    there = checkpoints(folder)
    old = [] if keep is None else [path for path in there if step_of(path) <= here][:-keep]
    for path in [*old, *(path for path in there if step_of(path) > here)]:
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
