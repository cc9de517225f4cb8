"""The local engine: worker processes on this machine, one at a time per GPU, CPU threads shared out between them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from regrow.errors import InputError
from regrow.study.cells import Cell
from regrow.study.engine import Job
from regrow.study.machine import default_workers, threads_each, visible_gpus

#: Seconds that a worker is given to finish its step, write a checkpoint and end.
_GRACE = 30.0


class _Worker:
    """A process that answers tasks over a connection. It is started by itself, not forked and not spawned from the
    user's script, so that a script needs no `if __name__ == "__main__"` and no thread or GPU of ours is copied."""

    def __init__(self, slot: int, environment: dict[str, str]) -> None:
        self.slot = slot
        self.connection, theirs = Pipe()
        command = [sys.executable, "-m", "regrow.study.worker", str(theirs.fileno()), str(os.getpid())]
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env={**os.environ, **environment}, stdin=subprocess.DEVNULL
        )
        theirs.close()  # only the worker holds that end, so we read end-of-file when it dies

    def send(self, task: Any) -> None:
        # a worker that has died meanwhile says so when its answer is read
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(task)

    def end(self) -> int:
        """End it if it still runs; returns its exit code (minus the signal that ended it)."""
        self.connection.close()  # an idle worker ends by itself
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            return self.process.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class LocalEngine:
    """Cells in `workers` processes on this machine; see `Engine`."""

    name = "local"

    def __init__(self, *, workers: int | None = None, retries: int = 1) -> None:
        self.gpus = visible_gpus()
        self.workers = workers or default_workers()
        self.retries = retries
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}

    def environment(self, slot: int) -> dict[str, str]:
        """Environment of a worker: its share of the CPU's threads, and its GPU."""
        share = {
            # read once, when torch starts its pools
            "OMP_NUM_THREADS": str(threads_each(self.workers)),
            "TOKENIZERS_PARALLELISM": "false",
        }
        if self.gpus:
            share["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        return share

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Cell, str | None]]:
        if importlib.util.find_spec("torch") is None:
            raise InputError("training needs torch", hint="pip install 'regrow[train]'")
        waiting = deque((job, 0) for job in jobs)
        doing: dict[Connection, tuple[Job, int]] = {}
        try:
            while waiting or doing:
                while waiting and len(doing) < self.workers:
                    worker = self._take()
                    doing[worker.connection] = waiting.popleft()
                    worker.send(doing[worker.connection][0])
                for connection in wait(list(doing)):
                    assert isinstance(connection, Connection)
                    job, died = doing.pop(connection)
                    error, code = self._answer(connection)
                    if code is None:
                        yield job.cell, error
                    elif died < self.retries:
                        waiting.appendleft((job, died + 1))
                    else:
                        yield job.cell, _death(code, died)
        finally:
            for connection in doing:
                self._busy.pop(connection).end()

    def probe(self, cells: Sequence[Cell]) -> list[float | None]:
        if importlib.util.find_spec("torch") is None:
            return [None] * len(cells)
        worker = self._take()
        worker.send(list(cells))
        speeds, code = self._answer(worker.connection)
        return [None] * len(cells) if code is not None else speeds

    def close(self) -> None:
        for worker in (*self._idle, *self._busy.values()):
            worker.end()
        self._idle.clear()
        self._busy.clear()

    def _take(self) -> _Worker:
        if not self._idle:
            taken = {worker.slot for worker in self._busy.values()}
            slot = next(slot for slot in range(self.workers) if slot not in taken)
            self._idle.append(_Worker(slot, self.environment(slot)))
        worker = self._idle.pop()
        self._busy[worker.connection] = worker
        return worker

    def _answer(self, connection: Connection) -> tuple[Any, int | None]:
        """(answer, None), or (None, exit code) if the worker died."""
        worker = self._busy.pop(connection)
        try:
            answer = connection.recv()
        except (EOFError, OSError):
            code = worker.process.wait()
            worker.connection.close()
            return None, code
        self._idle.append(worker)
        return answer, None


def _death(code: int, retries: int) -> str:
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    often = f", {retries + 1} times" if retries else ""
    why = "; out of memory?" if code == -signal.SIGKILL else ""
    return f"its worker process died ({how}{often}{why}); run the study again to go on with it"
