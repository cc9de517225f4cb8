"""A run over several processes: the main one writes, and results are shared. Without a launcher there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import accelerate
import torch
import torch.distributed as dist
from accelerate.utils import broadcast_object_list

T = TypeVar("T")


def processes() -> accelerate.PartialState:
    """This process among its launcher's: `process_index`, `num_processes`, `is_main_process`, `device`."""
    # `cpu` makes accelerate start gloo where there is no GPU; without it, it would take each process for a run alone
    return accelerate.PartialState(cpu=not torch.cuda.is_available())


def on_main(work: Callable[[], T]) -> T:
    """What `work` returns, done by the main process alone; what it raises is raised in every process."""
    state = processes()
    if state.num_processes == 1:
        return work()
    outcome: list[object] = [None, None]
    if state.is_main_process:
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if isinstance(outcome[1], Exception):
        raise outcome[1]
    return outcome[0]  # type: ignore[return-value]


def add_up(values: torch.Tensor) -> torch.Tensor:
    """The sum of `values` over the processes, in place."""
    if processes().num_processes > 1:
        dist.all_reduce(values)
    return values
