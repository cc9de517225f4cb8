"""What runs cells: one small contract, and the engines by name. Light: an engine imports what it needs when it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from regrow.errors import InputError, one_of
from regrow.study.cells import Cell

ENGINES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell to run.

    Attributes:
        cell: what to run.
        out: its run folder, absolute.
        shared: folder of what cells share, absolute; None to share nothing.
        base: the folder that relative paths in the cell start from.
        uses: how many cells of the study need this cell's pruned model: one that is used once is not stored.
    """

    cell: Cell
    out: Path
    shared: Path | None
    base: Path
    uses: int = 1


class Engine(Protocol):
    """Runs jobs in processes of its own, as many at a time as it has `workers`.

    A cell that raises, and a process that dies, cost that cell alone. A cell whose process died is given to another
    one, up to `retries` times, and goes on from its last checkpoint.
    """

    name: str
    workers: int

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Cell, str | None]]:
        """Start the jobs in their order and yield each cell as it ends, with its error or None."""
        ...

    def probe(self, cells: Sequence[Cell]) -> list[float | None]:
        """Training FLOP/s that one worker reaches on each cell's unpruned model and recipe, each tried for about a
        second; None where it can't be tried, e.g. as the model does not fit."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...


def make_engine(
    name: str = "local",
    *,
    workers: int | None = None,
    address: str | None = None,
    retries: int = 1,
    cpus: float | None = None,
    gpus: float | None = None,
) -> Engine:
    """An engine by its name.

    Args:
        name: `local` (processes on this machine) or `ray` (a Ray cluster, or a local one started for the study).
        workers: cells that run at once; by default one per GPU, else one per CPU and at most four (`local`), or what
            the cluster has room for (`ray`).
        address: of a running Ray cluster, e.g. `auto` or `10.0.0.1:6379`.
        retries: how often a cell whose process died is given to another one.
        cpus, gpus: what a cell takes of a Ray cluster.

    Raises `InputError` for what cannot be, or a cluster that does not answer.
    """
    one_of(name, ENGINES, what="engine", where="--engine")
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers", where="--workers", hint="give at least 1")
    if retries < 0:
        raise InputError(f"{retries} retries", where="--retries", hint="give 0 or more")
    for option, value, least in (("--cpus", cpus, 0.0), ("--gpus", gpus, -1.0)):
        if value is not None and not value > least:
            raise InputError(f"{value:g}", where=option, hint="give a positive number")
    if name == "ray":
        from regrow.study.ray import RayEngine

        return RayEngine(workers=workers, address=address, retries=retries, cpus=cpus, gpus=gpus)
    given = {"--address": address, "--cpus": cpus, "--gpus": gpus}
    for option, asked in given.items():
        if asked is not None:
            raise InputError("only a Ray cluster has one", where=option, hint="add --engine ray")
    from regrow.study.local import LocalEngine

    return LocalEngine(workers=workers, retries=retries)
