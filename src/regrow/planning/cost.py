"""What a training run costs: FLOPs per token, GPU-hours, money.

Peaks are dense bf16 matrix rates as the vendor's datasheet gives them (where it gives the rate with 2:4 sparsity,
half of that). A price is the user's own: without one there is no cost, not a cost of zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from regrow.arch import Architecture
from regrow.errors import InputError, one_of
from regrow.units import format_count

#: Model FLOPs utilisation assumed where none is given: the share of the peak that well-tuned dense training of
#: 1B to 100B models reaches (Llama 3, arXiv 2407.21783, reports 0.38 to 0.43 on H100).
DEFAULT_MFU = 0.4


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU. `peak_flops` is its dense bf16 rate in FLOP/s, `source` the vendor's page that says so."""

    name: str
    label: str
    peak_flops: float
    source: str


def _gpu(name: str, label: str, teraflops: float, source: str) -> tuple[str, Gpu]:
    return name, Gpu(name=name, label=label, peak_flops=teraflops * 1e12, source=source)


_NVIDIA = "https://www.nvidia.com/en-us/data-center"
_AMD = "https://www.amd.com/en/products/accelerators/instinct"

GPUS: dict[str, Gpu] = dict(
    [
        _gpu("a100", "NVIDIA A100", 312.0, f"{_NVIDIA}/a100/"),
        _gpu("h100", "NVIDIA H100 SXM", 989.5, f"{_NVIDIA}/h100/"),
        _gpu("h200", "NVIDIA H200 SXM", 989.5, f"{_NVIDIA}/h200/"),
        _gpu("b200", "NVIDIA B200 (HGX)", 2250.0, f"{_NVIDIA}/hgx/"),
        _gpu("l40s", "NVIDIA L40S", 362.05, f"{_NVIDIA}/l40s/"),
        _gpu("l4", "NVIDIA L4", 121.0, f"{_NVIDIA}/l4/"),
        _gpu("rtx-4090", "NVIDIA GeForce RTX 4090", 165.2, "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"),
        _gpu("mi250x", "AMD Instinct MI250X", 383.0, f"{_AMD}/mi200/mi250x.html"),
        _gpu("mi300x", "AMD Instinct MI300X", 1307.4, f"{_AMD}/mi300/mi300x.html"),
        _gpu("mi325x", "AMD Instinct MI325X", 1307.4, f"{_AMD}/mi300/mi325x.html"),
    ]
)  # fmt: skip


def find_gpu(name: str) -> Gpu:
    """A GPU of the table by name, in any case and with any separator (`H100`, `RTX 4090`, `rtx4090`).

    Raises `InputError` with the nearest name if there is none.
    """
    squeezed = _squeeze(name)
    for gpu in GPUS.values():
        if squeezed in (_squeeze(gpu.name), _squeeze(gpu.label), _squeeze(gpu.label.split(" ", 1)[1])):
            return gpu
    return GPUS[one_of(name.lower(), GPUS, what="GPU")]


def _squeeze(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def check_mfu(mfu: float) -> float:
    """`mfu` if it is a fraction in (0, 1], else `InputError`."""
    if not 0 < mfu <= 1:
        raise InputError(f"MFU {mfu:g}", hint="it is a fraction: above 0, at most 1")
    return mfu


def gpu_hours(flops: float, *, gpu: Gpu, mfu: float = DEFAULT_MFU) -> float:
    """GPU-hours (of one GPU) that `flops` floating-point operations take at this utilisation of the peak."""
    return flops / (gpu.peak_flops * check_mfu(mfu)) / 3600.0


def cost_usd(hours: float | None, *, price_usd_per_hour: float | None) -> float | None:
    """Money in USD, or None where the hours or the price of a GPU-hour are not known."""
    if price_usd_per_hour is not None and not (math.isfinite(price_usd_per_hour) and price_usd_per_hour >= 0):
        raise InputError(f"price {price_usd_per_hour:g} USD per GPU-hour", hint="a price is not negative")
    return None if hours is None or price_usd_per_hour is None else hours * price_usd_per_hour


def say_gpu_time(hours: float) -> str:
    """Hours of one GPU in words; seconds where a toy model takes less than a hundredth of an hour."""
    return f"{format_count(hours)} GPU-hours" if hours >= 0.01 else f"{hours * 3600:.2g} GPU-seconds"


def say_usd(cost: float) -> str:
    """Money in words."""
    return f"{format_count(cost)} USD" if cost >= 0.01 or cost == 0 else "under 0.01 USD"


def is_masked(method: str) -> bool:
    """Whether a method zeroes weights in place (`2:4`), so that training multiplies whole matrices all the same."""
    return ":" in method


@dataclass(frozen=True, kw_only=True)
class TrainingFlops:
    """FLOPs of one post-training token, forward and backward, and in words how they were counted."""

    per_token: float
    how: str


def flops_per_token(
    *,
    params_before: float,
    pruning_rate: float,
    method: str,
    architecture: Architecture | None = None,
    context: int = 4096,
) -> TrainingFlops:
    """Training FLOPs per token of the pruned model.

    Without an architecture 6 * N1 (Kaplan et al. 2020, arXiv 2001.08361), N1 = N0 * (1 - pruning_rate). With one, the
    exact count at this context length, scaled: by the share of blocks kept for depth pruning (the output embedding
    stays), by the share of parameters kept otherwise. N:M sparsity trains masked dense matrices: nothing is saved.
    """
    kept = 1.0 - pruning_rate
    if is_masked(method):
        if architecture is None:
            return TrainingFlops(per_token=6.0 * params_before, how="6 per parameter, zeros included")
        exact = architecture.training_flops_per_token(context)
        return TrainingFlops(per_token=exact, how=f"exact for the dense shape at context {context}, zeros included")
    if architecture is None:
        return TrainingFlops(per_token=6.0 * params_before * kept, how="6 per kept parameter")
    exact = architecture.training_flops_per_token(context)
    blocks = architecture.layers * architecture.block_params
    removed = pruning_rate * architecture.params
    if method == "depth" and removed < blocks:
        head = 6.0 * architecture.vocab * architecture.hidden
        how = f"exact at context {context}, blocks scaled by the share kept, output embedding whole"
        return TrainingFlops(per_token=(exact - head) * (1.0 - removed / blocks) + head, how=how)
    how = f"exact for the unpruned shape at context {context}, scaled by the share of parameters kept"
    return TrainingFlops(per_token=exact * kept, how=how)
