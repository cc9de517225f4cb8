"""A worker process of any engine: it runs one job after another, and imports torch once.

`python -m regrow.study.worker HANDLE PARENT` serves the local engine over a connection; a Ray task calls `do` itself.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from regrow.errors import RegrowError
from regrow.study.cells import Cell
from regrow.study.engine import Job

LOG_FILE = "log.txt"
#: Set by SIGTERM while the local engine's worker runs a cell: the cell writes a checkpoint and ends.
_asked_to_end = threading.Event()
#: Seconds between two looks at whether the study that started this process is still there.
_WATCH = 0.2


def do(task: Job | list[Cell]) -> Any:
    """Run a job, or measure the training speed of cells."""
    return _run(task) if isinstance(task, Job) else _probe(task)


def _run(job: Job) -> str | None:
    """Run one cell; None, or what went wrong in a line: exceptions do not all cross processes."""
    try:
        os.chdir(job.base)
        job.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{error.filename}: {error.strerror}; every machine of the cluster must see the study's folder"
    with _output_to(job.out / LOG_FILE):
        try:
            with _importing():
                from regrow.study.cell import run_cell
                from regrow.training.signals import StopRequest

            class Asked(StopRequest):
                def heard(self, step: int, device: Any) -> bool:
                    self.signal = "the study's end" if _asked_to_end.is_set() else None
                    return super().heard(step, device)

            run_cell(job.cell, job.out, shared=job.shared, uses=job.uses, stop=Asked())
        except RegrowError as error:
            return str(error)
        except Exception as error:  # a bug or a full machine: this cell is lost, the others go on
            traceback.print_exc()
            lines = str(error).strip().splitlines()
            return f"{type(error).__name__}: {lines[0] if lines else 'no message'}; more in {job.out / LOG_FILE}"
        finally:
            _let_go()
    return None


@contextmanager
def _importing() -> Iterator[None]:
    """Import without looking for garbage: imports make none, and the search takes a fifth of their time.

    What was imported stays, so later collections, which training asks for, skip it too.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _let_go() -> None:
    """Free a cell's models (they form reference cycles) before the next cell loads its own."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _probe(cells: list[Cell]) -> list[float | None]:
    with _importing():
        from regrow.study.probe import training_speed

    found: list[float | None] = []
    for cell in cells:
        try:
            found.append(training_speed(cell))
        except Exception:  # a failed estimate must not stop the study; the cell itself reports the error
            found.append(None)
    return found


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send what this process and its libraries print to a file; an empty file is removed."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        empty = os.fstat(log).st_size == 0
        for handle, number in zip(kept, (1, 2), strict=True):
            os.dup2(handle, number)
            os.close(handle)
        os.close(log)
        if empty:
            path.unlink(missing_ok=True)


def _end_with(parent: int) -> None:
    # a worker whose study was killed must not go on writing beside the study that resumes it
    while os.getppid() == parent:
        time.sleep(_WATCH)
    os._exit(1)


def serve(connection: Connection, parent: int) -> None:
    """Answer tasks until the connection closes."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the study too, and it ends its workers itself
    signal.signal(signal.SIGTERM, lambda number, frame: _asked_to_end.set())
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        with suppress(BrokenPipeError):  # a worker that was asked to end may have nobody to answer
            connection.send(do(task))
        if _asked_to_end.is_set():
            return


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
