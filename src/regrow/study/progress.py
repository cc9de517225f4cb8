"""The state of each cell of a study, read from its folder by any process on any machine. Light."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regrow.disk import write_text
from regrow.runs.store import CURVE_FILE, RUN_FILE, is_done
from regrow.study.cells import Cell

if TYPE_CHECKING:
    from regrow.training.callbacks import Progress

PROGRESS_FILE = "progress.json"
#: Seconds between two writes of a run's progress.
_EVERY = 1.0


class ProgressFile:
    """Writes the progress of a run into a file beside its curve; removes the file when the block ends.

    The file is never read as a result, so it is not synced, and a full disk does not stop the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PROGRESS_FILE
        self._last = 0.0

    def __enter__(self) -> ProgressFile:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self.path.unlink()

    def tell(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < _EVERY:
            return
        self._last = now
        content = {"tokens": progress.tokens, "loss": progress.loss, "tokens_per_second": progress.tokens_per_second}
        with suppress(OSError):
            write_text(self.path, json.dumps(content), sync=False)


@dataclass(frozen=True, kw_only=True)
class CellState:
    """Where a cell stands.

    Attributes:
        state: `done`, `running`, `stopped` (begun, but no process works on it), `failed` or `waiting`.
        tokens: trained on, of `total`.
        loss: held-out loss read last, nats/token.
        tokens_per_second: speed of training; None where it is not known yet.
    """

    name: str
    state: str
    tokens: int
    total: int
    loss: float | None
    tokens_per_second: float | None

    @property
    def seconds_left(self) -> float | None:
        """Seconds that training still takes at its speed; None if unknown."""
        if self.state != "running" or not self.tokens_per_second:
            return None
        return (self.total - self.tokens) / self.tokens_per_second


def cell_state(cell: Cell, folder: Path, *, since: float = 0.0) -> CellState:
    """Read a cell's state. A run whose last progress is older than `since` (seconds of the epoch) counts as stopped."""
    total = cell.train.steps * cell.train.batch_tokens
    record = _read_json(folder / RUN_FILE)
    if record is None:
        return CellState(name=cell.name, state="waiting", tokens=0, total=total, loss=None, tokens_per_second=None)
    point = _last_point(folder)
    tokens, speed = int(point.get("tokens") or 0), None
    if point.get("seconds"):
        speed = tokens / point["seconds"]
    if is_done(folder, spec_hash=cell.hash):
        state = "done"
    else:
        state = "failed" if record.get("status") == "failed" else "stopped"
        progress = _read_json(folder / PROGRESS_FILE)
        with suppress(OSError):
            if (folder / RUN_FILE).stat().st_mtime >= since and state == "stopped":
                state = "running"
        if progress is not None and state == "running":
            tokens = max(tokens, int(progress["tokens"]))
            speed = progress["tokens_per_second"] or speed
    return CellState(
        name=cell.name, state=state, tokens=tokens, total=total, loss=point.get("loss"), tokens_per_second=speed
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _last_point(folder: Path) -> dict[str, Any]:
    """The last whole line of a curve; empty without one."""
    try:
        lines = (folder / CURVE_FILE).read_text().splitlines()
    except OSError:
        return {}
    for line in reversed(lines[-2:]):
        with suppress(ValueError):
            return dict(json.loads(line))
    return {}
