"""What cells share: the loss of the unpruned model, calibration scores, pruned models. Each is made once.

Each thing lies in one folder, named by the hash of what it was made from. If several workers need the same thing, one
makes it and the others wait. It is moved into place when it is complete. The folder may be removed at any time: what
is missing is made again.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from regrow.errors import RegrowError
from regrow.locks import hold
from regrow.runs import Score, spec_hash
from regrow.runs.scores import plain_scores, read_scores

T = TypeVar("T")

SHARED = "shared"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of thing that is shared: the folder it lies in, and the end of its files' names."""

    name: str
    suffix: str = ""


LOSSES = Kind(name="loss-before", suffix=".json")
TASK_SCORES = Kind(name="scores-before", suffix=".json")
SCORES = Kind(name="scores", suffix=".safetensors")
PRUNED = Kind(name="pruned")


def share(
    folder: Path | None,
    kind: Kind,
    key: Mapping[str, Any],
    *,
    make: Callable[[], T],
    save: Callable[[T, Path], None],
    load: Callable[[Path], T],
) -> T:
    """The thing made from `key`: loaded if it is there, else made and saved.

    Args:
        folder: where shared things lie; None to make it and save nothing.
        key: everything that affects it, as plain data.
        make, save, load: `load(path)` gives back what `save(made, path)` wrote, or raises.
    """
    if folder is None:
        return make()
    place = folder / kind.name / f"{spec_hash(key)}{kind.suffix}"
    found = load_whole(place, load)
    if found is not None:
        return found
    place.parent.mkdir(parents=True, exist_ok=True)
    with hold(place.parent / f".{spec_hash(key)}.lock", what="being made", hint="wait", wait=None):
        found = load_whole(place, load)  # the process that held the lock has made it
        if found is not None:
            return found
        made = make()
        stage = place.parent / f".{uuid.uuid4().hex[:8]}{kind.suffix}"
        try:
            save(made, stage)
            _remove(place)  # a broken one
            stage.replace(place)
        except (OSError, RegrowError):
            # the disk is full: this cell goes on with what it has, and the others make their own
            pass
        finally:
            _remove(stage)
        return made


def load_whole(place: Path, load: Callable[[Path], T]) -> T | None:
    """Load what lies at `place`; None if there is nothing or it is broken."""
    if not place.exists():
        return None
    try:
        return load(place)
    except (OSError, ValueError, KeyError, TypeError, RegrowError):
        return None  # removed or broken meanwhile


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def save_number(value: float, path: Path) -> None:
    path.write_text(json.dumps({"value": value}) + "\n")


def save_task_scores(scores: Mapping[str, Score], path: Path) -> None:
    path.write_text(json.dumps(plain_scores(scores)) + "\n")


def load_task_scores(path: Path) -> dict[str, Score]:
    return read_scores(json.loads(path.read_text()))


def load_number(path: Path) -> float:
    return float(json.loads(path.read_text())["value"])
