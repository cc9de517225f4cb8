"""What the training benchmarks share: a model by name, text as blocks, a pruned copy, processes, a table."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import torch

from regrow.data import Blocks, read_blocks
from regrow.ladder import find_corpus, find_model
from regrow.models.load import load_tokenizer


def model_folder(name: str) -> str:
    """A checkpoint folder: a ladder model or a path; `smollm2` is SmolLM2-135M (see smollm2.py)."""
    if name == "smollm2":
        from benchmarks.models.smollm2 import smollm2

        return str(smollm2())
    return find_model(name)


def ladder_blocks(folder: str, split: str, length: int) -> Blocks:
    """The ladder's text with the tokenizer of a model, in blocks."""
    return read_blocks(find_corpus("ladder", split), load_tokenizer(folder), sequence_length=length)


def prune_2_4(folder: str, out: Path) -> str:
    """The model in 2:4 by magnitude, which needs no calibration."""
    from regrow.pruning.prune import prune
    from regrow.pruning.spec import PruneSpec

    prune(folder, PruneSpec(method="2:4", scorer="magnitude"), calibration=None, out=out)
    return str(out)


def prune_width(folder: str, rate: float, out: Path) -> str:
    """The model pruned in width to the rule's shape, by activations on 64 blocks of the ladder's text."""
    from regrow.pruning.prune import prune
    from regrow.pruning.spec import PruneSpec

    calibration = ladder_blocks(folder, "post_train", 256).sample(64, seed=0)
    prune(folder, PruneSpec(method="width", rate=rate, search=1), calibration=calibration, out=out)
    return str(out)


def prune_depth(folder: str, rate: float, out: Path) -> str:
    """The model pruned in depth, by the default scorer on 64 blocks of the ladder's text."""
    from regrow.pruning.prune import prune
    from regrow.pruning.spec import PruneSpec

    calibration = ladder_blocks(folder, "post_train", 256).sample(64, seed=0)
    prune(folder, PruneSpec(method="depth", rate=rate), calibration=calibration, out=out)
    return str(out)


def machine() -> str:
    """The hardware of a measurement, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, torch {torch.__version__}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} CPU cores ({platform.machine()}), no GPU, torch {torch.__version__}"


def run_processes(command: list[str], count: int) -> None:
    """Run a Python command in `count` processes, as torchrun would start them; raise if one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared.setdefault("OMP_NUM_THREADS", "1")
    running = [
        subprocess.Popen([sys.executable, *command], env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    codes = [process.wait() for process in running]  # of all, so that none is left behind
    if any(codes):
        raise SystemExit(f"a process of {command} failed")


def table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")
