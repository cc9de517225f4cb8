"""Model FLOPs utilisation as the user's own runs reached it: tokens per second times FLOPs, over the GPU's peak."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.methods import is_masked
from regrow.planning.cost import GPUS, Gpu
from regrow.runs.objective import Objective
from regrow.runs.record import RunRecord
from regrow.runs.store import RUN_FILE, read_run

#: Where a run folder keeps the model it trained.
_MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A measured utilisation: the fraction of the peak, of how many runs, and in words where it comes from."""

    mfu: float
    runs: int
    how: str


def measured_mfu(paths: Iterable[str | Path], gpu: Gpu) -> Measured:
    """The utilisation of the run folders under `paths`, all of their FLOPs over all of their time.

    Raises `InputError` where no run there holds times and ran on this GPU, with what is missing.
    """
    flops = seconds = 0.0
    names, left_out = [], []
    for path in map(Path, paths):
        folders = [found.parent for found in sorted(path.rglob(RUN_FILE))]
        if not folders:
            raise InputError(
                "no run folders here", where=str(path), hint="the utilisation comes from runs that regrow trained"
            )
        for folder in folders:
            config = folder / _MODEL / "config.json"
            shape = Architecture.from_pretrained(config) if config.exists() else None
            try:
                did, took = flops_and_seconds(read_run(folder), gpu, shape)
            except InputError as error:
                left_out.append(error)
                continue
            flops, seconds = flops + did, seconds + took
            names.append(folder.name)
    if not names:
        raise InputError(f"no run to measure the utilisation from: {left_out[0]}", hint="give the MFU itself")
    mfu = flops / seconds / gpu.peak_flops
    if mfu > 1:
        raise InputError(f"the runs reach {mfu:.3g} times the peak of {gpu.label}", hint="are they of this GPU?")
    beside = f", {len(left_out)} left out" if left_out else ""
    how = f"measured on {len(names)} run{'s' if len(names) > 1 else ''} ({', '.join(_few(names))}){beside}"
    return Measured(mfu=mfu, runs=len(names), how=how)


def flops_and_seconds(run: RunRecord, gpu: Gpu, shape: Architecture | None = None) -> tuple[float, float]:
    """Training FLOPs of a run and the GPU-seconds they took, counted as a plan counts them.

    From the curve's times, which leave evaluations out, first reading to last; else from the speed noted at its end.
    FLOPs per token are those that the run's record holds, a teacher's forward pass included; else those of the `shape`
    of the pruned model, else 6 per parameter (zeros of N:M sparsity included).

    Raises `InputError` for a run without times or hardware, of another device, or with a teacher whose FLOPs are not
    in the record.
    """
    where = f"run {run.run}"
    device = run.details.get("device")
    if not device:
        raise InputError("no hardware recorded", where=where)
    if gpu_of_device(str(device)) != gpu:
        raise InputError(f"ran on {device}, not on {gpu.label}", where=where, hint="name its GPU with --gpu")
    recorded = run.details.get("flops_per_token")
    if recorded is None and Objective.parse(run.objective).distils:
        raise InputError("distils from a teacher, whose FLOPs are not recorded", where=where)
    timed = [(point.tokens, point.seconds) for point in run.curve if point.seconds is not None]
    tokens, seconds = 0.0, 0.0
    if len(timed) > 1:
        tokens, seconds = timed[-1][0] - timed[0][0], timed[-1][1] - timed[0][1]
    elif run.details.get("tokens_per_second"):
        tokens, seconds = float(run.details["tokens_per_second"]), 1.0
    if not (tokens > 0 and seconds > 0):
        raise InputError("no times recorded", where=where)
    if recorded is not None:
        per_token = float(recorded)
    elif shape is not None:
        per_token = shape.training_flops_per_token(int(run.details.get("sequence_length", 0)))
    else:
        per_token = 6.0 * (run.params_before if is_masked(run.method) else run.params_after)
    return per_token * tokens, seconds * int(run.details.get("devices") or 1)


def gpu_of_device(device: str) -> Gpu | None:
    """The GPU of the table that a device's own name means (`NVIDIA H100 80GB HBM3`); None for another device."""
    words = set(re.split(r"[^a-z0-9]+", device.lower()))
    fitting = [gpu for gpu in GPUS.values() if words.issuperset(gpu.name.split("-"))]
    return max(fitting, key=lambda gpu: len(gpu.name), default=None)


def _few(names: Sequence[str]) -> list[str]:
    return list(names) if len(names) <= 3 else [*names[:2], "..."]
