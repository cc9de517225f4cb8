"""The contract of an engine, which runs the cells of a study. Light."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from regrow.study.cells import Cell


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell to run.

    Attributes:
        cell: what to run.
        out: its run folder, absolute.
        shared: folder of what cells share, absolute; None to share nothing.
        base: the folder that relative paths in the cell start from.
        uses: how many cells of the study need this cell's pruned model. A model that is used once is not stored.
    """

    cell: Cell
    out: Path
    shared: Path | None
    base: Path
    uses: int = 1


class Engine(Protocol):
    """Runs jobs in worker processes, at most `workers` at a time.

    An error or a dead process affects only its own cell. If the process dies, another one continues the cell from its
    last checkpoint, up to `retries` times.
    """

    name: str
    workers: int

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Cell, str | None]]:
        """Start the jobs in their order and yield each cell as it ends, with its error or None."""
        ...

    def probe(self, cells: Sequence[Cell]) -> list[float | None]:
        """Training FLOP/s that one worker reaches on each cell's unpruned model and recipe, each tried for about a
        second; None if it can't be measured, e.g. because the model does not fit."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...
