"""How much memory is free on a device, a container's own limit included; and what a process keeps of what it frees."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")

#: Parameters of glibc's `mallopt` (malloc.h) and what they are set to, in bytes: how much free memory at the end of the
#: heap is kept, by how much the heap grows, and from which size a buffer has pages of its own, which are never kept.
_MALLOC = {"M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 2**26), "M_MMAP_THRESHOLD": (-3, 2**31 - 1)}


@cache
def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees for its next buffers; returns whether the C library can.

    By default glibc gives a large buffer back to the system as soon as it is freed, and the system clears its pages
    again for the next one. A training step frees and takes all its activations: a fifth of the processor time of a
    step went there, of SmolLM2-135M as of a model of 0.2M parameters.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows, musl
        return False
    taken = [mallopt(name, value) for name, value in _MALLOC.values()]
    return all(answer == 1 for answer in taken)


def free_memory(device: torch.device) -> int | None:
    """Bytes that the process may still take on the device; None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    free = psutil.virtual_memory().available
    # a container's own limit, where it is lower (control groups version 2)
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        # the kernel counts cached files as used, but frees them when a process asks for memory
        usage = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        used -= int(usage.get("inactive_file", 0)) + int(usage.get("active_file", 0))
        free = min(free, limit - used)
    except (OSError, ValueError):
        pass
    return free
