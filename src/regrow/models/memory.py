"""How much memory is free on a device, a container's own limit included."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")


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
