"""What a training run costs: FLOPs per token, GPU-hours, money.

Peaks are dense bf16 matrix rates as the vendor's datasheet gives them (where it gives the rate with 2:4 sparsity,
half of that). A price is the user's own: without one there is no cost, not a cost of zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regrow.errors import InputError, one_of
from regrow.methods import DEPTH_AND_WIDTH, is_masked
from regrow.units import check_price, format_count

if TYPE_CHECKING:
    from regrow.arch import Architecture
    from regrow.footprint import MemoryTarget
    from regrow.shapes import Pruned

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
        _gpu("h100-pcie", "NVIDIA H100 PCIe", 756.0, "https://resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper"),
        _gpu("h100-nvl", "NVIDIA H100 NVL", 835.5, f"{_NVIDIA}/h100/"),
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
    check_price(price_usd_per_hour, where="cost")
    return None if hours is None or price_usd_per_hour is None else hours * price_usd_per_hour


def say_gpu_time(hours: float) -> str:
    """Hours of one GPU in words; seconds where a toy model takes less than a hundredth of an hour."""
    return f"{format_count(hours)} GPU-hours" if hours >= 0.01 else f"{hours * 3600:.2g} GPU-seconds"


def say_usd(cost: float) -> str:
    """Money in words."""
    return f"{format_count(cost)} USD" if cost >= 0.01 or cost == 0 else "under 0.01 USD"


@dataclass(frozen=True, kw_only=True)
class TrainingFlops:
    """FLOPs of one post-training token, forward and backward, and in words how they were counted.

    `teacher` is the part of a teacher's forward pass.
    """

    per_token: float
    how: str
    teacher: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PrunedModel:
    """A model before and after pruning, as far as it is known: what it has, and what a token through it costs.

    Attributes:
        method: `depth`, `width`, `N:M`, or another name a law was fitted under.
        params_before, params_after: parameters; after pruning to N:M the non-zero ones.
        pruning_rate: the rate reached, 1 - after/before: that of whole blocks or channels where the shape is known.
        before, after: the shapes; None where they are not known.
    """

    method: str
    params_before: float
    params_after: float
    pruning_rate: float
    before: Architecture | None = None
    after: Architecture | None = None

    def training_flops(self, context: int = 4096, teacher: Architecture | float | None = None) -> TrainingFlops:
        """FLOPs of a post-training token at this context length; with a `teacher`, its forward pass too.

        Exact where the shape is known (`Architecture.training_flops_per_token`); without a shape 6 per parameter
        (Kaplan et al. 2020, arXiv 2001.08361). N:M sparsity trains masked dense matrices: nothing is saved.
        """
        masked = is_masked(self.method)
        zeros = ", zeros included" if masked else ""
        if self.after is not None:
            counted = self.after.training_flops_per_token(context)
            how = f"exact for the pruned shape at context {context}"
        elif self.before is not None:
            counted = self.before.training_flops_per_token(context) * (1.0 if masked else 1.0 - self.pruning_rate)
            how = f"exact for the unpruned shape at context {context}, scaled by the share of parameters kept"
        else:
            counted = 6.0 * (self.params_before if masked else self.params_after)
            how = f"6 per {'' if masked else 'kept '}parameter"
        how += zeros
        if teacher is None:
            return TrainingFlops(per_token=counted, how=how)
        size = teacher_size(teacher)
        taught = 2.0 * size if isinstance(teacher, (int, float)) else teacher.forward_flops_per_token(context)
        how += f"; plus the forward pass of a teacher of {format_count(size)} parameters"
        return TrainingFlops(per_token=counted + taught, how=how, teacher=taught)

    def inference_flops(self, context: int = 4096, *, sparse_speedup: float = 1.0) -> float:
        """FLOPs of a served token: one forward pass at this context length.

        Dense kernels multiply the zeros of N:M sparsity; where sparse ones are used, `sparse_speedup` is how many times
        faster the pruned matrices run, and their FLOPs count for so much less.
        """
        if self.after is None:
            masked = is_masked(self.method)
            forward = self.training_flops(context).per_token / 3.0
            return forward / sparse_speedup if masked else forward
        forward = self.after.forward_flops_per_token(context)
        if not is_masked(self.method):
            return forward
        return forward - 2.0 * self.after.layers * self.after.block_matrix_params * (1.0 - 1.0 / sparse_speedup)


def teacher_size(teacher: Architecture | float) -> float:
    """Parameters of a teacher. Raises `InputError` for a count that no model has."""
    size = float(teacher if isinstance(teacher, (int, float)) else teacher.params)
    if not (math.isfinite(size) and size >= 1):
        raise InputError(f"a teacher of {size:g} parameters", hint="give a positive count, e.g. 8B, or a model")
    return size


def pruned_model(
    *,
    method: str,
    pruning_rate: float | None,
    params_before: float | None = None,
    architecture: Architecture | None = None,
    sizes: Mapping[str, int] | None = None,
    memory: MemoryTarget | None = None,
    active_params: float | None = None,
) -> PrunedModel:
    """What pruning makes of a model, by its shape where `architecture` gives it.

    Args:
        pruning_rate: the rate asked for.
        sizes: instead of a rate, the sizes that pruning leaves of `architecture`.
        memory: instead of a rate, what the pruned model may take where it is served.
        active_params: instead of a rate, the parameters to leave that a token of a mixture is computed with.

    Raises `InputError` if no shape of the model reaches the rate, or if there is none and the method needs it, and for
    sizes that the method does not change.
    """
    if architecture is not None:
        from regrow.shapes import prune_shape, shape_of_sizes  # a size alone needs no shapes, and starts without them

        if sizes:
            pruned: Pruned | None = shape_of_sizes(architecture, method, sizes)
        elif method == DEPTH_AND_WIDTH:
            from regrow.mixes import MixTarget, middle_mix

            target = MixTarget(rate=pruning_rate, memory=memory, active_params=active_params)
            pruned = middle_mix(architecture, target)
        elif memory is not None:
            from regrow.footprint import shape_for_memory

            pruned = shape_for_memory(architecture, method, memory)
        elif active_params is not None:
            from regrow.active import shape_for_active

            pruned = shape_for_active(architecture, method, active_params)
        else:
            pruned = prune_shape(architecture, method, pruning_rate)
        if pruned is not None:
            return PrunedModel(
                method=method,
                params_before=float(architecture.params),
                params_after=float(pruned.params),
                pruning_rate=pruned.rate,
                before=architecture,
                after=pruned.architecture,
            )
    if pruning_rate is None:
        raise InputError(f"{method} pruning needs a pruning rate", hint="give the fraction of parameters removed")
    before = float(architecture.params if architecture is not None else params_before or math.nan)
    return PrunedModel(
        method=method,
        params_before=before,
        params_after=before * (1.0 - pruning_rate),
        pruning_rate=pruning_rate,
        before=architecture,
    )


def flops_per_token(
    *,
    params_before: float,
    pruning_rate: float,
    method: str,
    architecture: Architecture | None = None,
    context: int = 4096,
    teacher: Architecture | float | None = None,
) -> TrainingFlops:
    """Training FLOPs per token of the pruned model; see `PrunedModel.training_flops`."""
    model = pruned_model(
        method=method, pruning_rate=pruning_rate, params_before=params_before, architecture=architecture
    )
    return model.training_flops(context, teacher)
