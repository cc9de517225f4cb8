"""What this machine has for workers: CPUs, threads and GPUs. Light: nothing here imports torch."""

from __future__ import annotations

import os
import subprocess

#: Workers of tiny models on a CPU gain nothing beyond this many.
MOST_CPU_WORKERS = 4


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(workers: int) -> int:
    """Threads for each of so many workers: an equal share of the CPUs, and at most `OMP_NUM_THREADS` where it is set.

    A thread that waits for a busy CPU spins: two threads on one CPU take several times the processor time of one.
    """
    share = max(1, cpu_count() // workers)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(asked)) if asked.isdecimal() and int(asked) else share


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them. Without it the driver is asked."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed.stdout.split() if listed.returncode == 0 else []


def default_workers() -> int:
    """Cells that run at once unless the user says: one per GPU, else one per CPU and at most four."""
    return len(visible_gpus()) or min(cpu_count(), MOST_CPU_WORKERS)
