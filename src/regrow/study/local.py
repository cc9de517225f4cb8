"""The local engine: cells in worker processes on this machine, CPU threads shared out between them."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from regrow.errors import RegrowError
from regrow.study.spec import Cell


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(threads: int, parent: int) -> None:
    def follow() -> None:
        # a worker whose study was killed must not go on writing beside the study that resumes it
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    # before torch is imported: its thread pools read these once
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _run(cell: Cell, out: Path) -> str | None:
    """Run one cell; returns None or what went wrong, as exceptions do not all cross processes."""
    from regrow.study.cell import run_cell

    try:
        run_cell(cell, out)
    except RegrowError as error:
        return str(error)
    except Exception as error:  # a bug or a full machine: this cell is lost, the others go on
        return f"{type(error).__name__}: {error}"
    return None


def run_local(cells: Sequence[tuple[Cell, Path]], *, workers: int) -> Iterator[tuple[Cell, str | None]]:
    """Run cells in `workers` processes and yield each as it ends, with its error if it failed.

    Cells start in the order given. A worker that dies takes the cells that were not finished with it; they are
    yielded as failed and the next call runs them again.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, cpu_count() // workers)
    with ProcessPoolExecutor(
        max_workers=workers, mp_context=context, initializer=_start_worker, initargs=(threads, os.getpid())
    ) as pool:
        futures: dict[Future[str | None], Cell] = {pool.submit(_run, cell, out): cell for cell, out in cells}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenExecutor:
                yield futures[future], "its worker process died (out of memory?); run the study again"
