"""The Ray engine: cells as tasks of a Ray cluster, one that runs already or a local one started for the study.

Ray places the tasks by the CPUs and GPUs they ask for, keeps its worker processes from cell to cell (imports are paid
once each), and gives the cell of a worker or a node that was lost to another one. Results do not pass through Ray:
workers write run folders, so every machine must see the study's folder under the same path.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from regrow.errors import InputError
from regrow.runs.store import RunWarning
from regrow.study.cells import Cell
from regrow.study.engine import Job
from regrow.study.machine import default_workers, threads_each
from regrow.study.own_cluster import OwnCluster, asks_for_a_token
from regrow.study.worker import do

#: Seconds for a cluster's port to open, and for Ray to join it.
_PORT, _JOIN = 5.0, 40.0
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


class RayEngine:
    """Cells as Ray tasks; see `Engine`. Where Ray is connected already, that connection is used and left open.

    Raises `InputError` if Ray is not installed, the address does not answer, or the cluster lacks the CPUs or GPUs
    that a cell takes.
    """

    name = "ray"

    def __init__(
        self,
        *,
        workers: int | None = None,
        address: str | None = None,
        retries: int = 1,
        cpus: float | None = None,
        gpus: float | None = None,
    ) -> None:
        self._ray = _import_ray()
        self.retries = retries
        self._owned = not self._ray.is_initialized()
        self._cluster: OwnCluster | None = None
        local = address is None
        if self._owned and address is None:
            self._cluster = OwnCluster(self._ray, (workers or default_workers()) * (cpus or 1), **_QUIET)
        elif self._owned and address is not None:
            _join(self._ray, address)
        try:
            there = self._ray.cluster_resources()
            has_gpus = there.get("GPU", 0) > 0
            self.takes = {
                "num_gpus": gpus if gpus is not None else float(has_gpus),
                "num_cpus": cpus if cpus is not None else 1.0,
            }
            room = self._room(there)
        except BaseException:
            self.close()
            raise
        self.workers = workers or room
        # on one machine the CPU's threads are shared out as the local engine does; on a cluster a cell has its own
        share = threads_each(self.workers) if local else max(1, int(self.takes["num_cpus"]))
        environment = {"OMP_NUM_THREADS": str(share), "TOKENIZERS_PARALLELISM": "false"}
        if "PYTHONPATH" in os.environ:  # a worker must import the regrow that asks
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        # max_calls: by default the worker of a GPU task ends with it, and the next one would import torch again
        self._task = self._ray.remote(
            **self.takes, max_retries=retries, max_calls=0, runtime_env={"env_vars": environment}
        )(do)

    def _room(self, there: dict[str, float]) -> int:
        """Cells that the cluster has room for at once."""
        room = []
        for key, resource in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
            asked, has = self.takes[key], there.get(resource, 0.0)
            if asked > has:
                raise InputError(
                    f"a cell takes {asked:g} {resource}s, the cluster has {has:g}",
                    where=f"--{resource.lower()}s",
                    hint="ask for less, or add nodes",
                )
            if asked:
                room.append(int(has / asked))
        return max(1, min(room, default=1))

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Cell, str | None]]:
        waiting = deque(jobs)
        doing: dict[Any, Job] = {}
        try:
            while waiting or doing:
                while waiting and len(doing) < self.workers:
                    job = waiting.popleft()
                    doing[self._task.remote(job)] = job
                ended, _ = self._ray.wait(list(doing))
                for reference in ended:
                    yield doing.pop(reference).cell, self._answer(reference)
        finally:
            for reference in doing:
                with contextlib.suppress(Exception):
                    self._ray.cancel(reference, force=True)

    def _answer(self, reference: Any) -> str | None:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            what = type(error).__name__
            often = f", {self.retries + 1} times" if self.retries else ""
            return f"its worker process died ({what}{often}); run the study again to go on with it"

    def probe(self, cells: Sequence[Cell]) -> list[float | None]:
        try:
            return self._ray.get(self._task.remote(list(cells)))
        except self._ray.exceptions.RayError:
            return [None] * len(cells)

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()
        elif self._owned:
            self._ray.shutdown()


def _import_ray() -> Any:
    # read when ray is imported: it sends usage statistics unless this is set
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError:
        raise InputError("Ray is not installed", where="--engine ray", hint="pip install 'regrow[ray]'") from None
    return ray


def _join(ray: Any, address: str) -> None:
    """Join the cluster at `address`."""
    if address != "auto":
        _check_port(address)
    failure: list[BaseException] = []

    def join() -> None:
        try:
            ray.init(address=address, **_QUIET)
        except BaseException as error:
            failure.append(error)

    # Ray waits for a minute and more for what answers and is no cluster
    joining = threading.Thread(target=join, daemon=True)
    with _silent():  # it warns of every try
        joining.start()
        joining.join(_JOIN)
    if joining.is_alive() or failure:
        raise InputError("no Ray cluster answers to this process", where=f"--address {address}", hint=_JOIN_HINT)
    if not asks_for_a_token():
        warnings.warn(
            f"--address {address}: this Ray cluster asks for no token, and whoever reaches its ports can run code in "
            "it; docs/study.md says how to start one that asks",
            RunWarning,
            stacklevel=2,
        )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing on stderr, not from libraries in C++ either."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


_HINT = "start one with `ray start --head`, or leave --address out for a local one"
_JOIN_HINT = f"a cluster with tokens needs RAY_AUTH_MODE=token and its token here, too; else {_HINT}"


def _check_port(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError("not an address", where=f"--address {address}", hint="write host:port, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=_PORT).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"no Ray cluster answers ({reason})", where=f"--address {address}", hint=_HINT) from None
