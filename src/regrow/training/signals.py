"""SIGINT and SIGTERM: the step in progress is finished and a checkpoint written before the run ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

from regrow.errors import RunFailed
from regrow.training.processes import processes


class RunStopped(RunFailed):
    """A run was asked to stop and has written a checkpoint. Exit code 130, as shells expect of an interrupt."""

    exit_code = 130


class StopRequest:
    """Whether this process, or one beside it, was asked to stop."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def heard(self, step: int, device: torch.device) -> bool:
        """Whether any process was asked; to be called by all of them, at every step."""
        state = processes()
        if state.num_processes == 1:
            return self.signal is not None
        if device.type != "cpu" and step % 8:  # asking waits for the device
            return False
        asked = torch.tensor(float(self.signal is not None), device=device)
        dist.all_reduce(asked, op=dist.ReduceOp.MAX)
        return bool(asked.item())


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Inside, the first SIGINT or SIGTERM only sets the request; a second one acts as it would outside.

    In another thread than the main one nothing is caught, as Python delivers signals there alone.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear(number: int, frame: FrameType | None) -> None:
        request.signal = signal.Signals(number).name
        for known, handler in before.items():
            signal.signal(known, handler)

    for number in before:
        signal.signal(number, hear)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
