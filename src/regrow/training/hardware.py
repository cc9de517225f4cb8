"""The hardware and the versions of a run, for its record."""

from __future__ import annotations

import platform
from typing import Any

import torch
import transformers

from regrow.training.processes import processes


def hardware() -> dict[str, Any]:
    """The device, and the versions that affect a run's numbers."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else processor(),
        "devices": torch.cuda.device_count() if cuda else 1,
        "processes": processes().num_processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The CPU by its name and the vector instructions that PyTorch uses on it, e.g. `AMD EPYC, AVX2`."""
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"
