"""What vLLM does with a model's shape, read in the source of vLLM 0.32.0. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from regrow.arch import Architecture
from regrow.footprint import windows_of
from regrow.serving.limit import Limit, listed, matrices

_VLLM = "vLLM 0.32.0"

#: Head sizes that its attention takes: on NVIDIA GPUs multiples of 8 up to 256, on CPUs these.
_CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)

#: What the widths of experts must be a multiple of on CPUs.
_CPU_EXPERTS = 32

#: Types that transformers knows from 5.20 on, and this vLLM takes an older one.
_TOO_NEW = ("internlm3", "iquestcoder")

#: GPUs that a model is split over.
_SPLITS = (2, 4, 8)

#: Weights that share a scale in its 4-bit formats; 128 is the default of GPTQ and AWQ.
_GROUPS = (128, 64, 32)

#: How its kernels for 4-bit weights tile a matrix, inputs and outputs: Machete (on Hopper), and the two ways of Marlin,
#: which pads what fits neither.
_MACHETE, _MARLIN = (64, 128), ((128, 64), (64, 128))


def heads_by_hidden(arch: Architecture) -> bool:
    """Whether a program that takes hidden / heads for the size of a head, as several do for Qwen2, gets it wrong."""
    return arch.model_type == "qwen2" and arch.head_dim * arch.heads != arch.hidden


def vllm_limits(arch: Architecture, config: Mapping[str, Any]) -> Iterator[Limit]:
    """What vLLM can't do, or does less well, with a model of this shape and config."""
    if heads_by_hidden(arch):
        what = (
            f"its own Qwen2 takes hidden / heads = {arch.hidden / arch.heads:g} for the size of a head, which is "
            f"{arch.head_dim} here, and gives other tokens without an error: serve it with --model-impl transformers, "
            "or prune its feed-forward width only (--axes intermediate)"
        )
        yield Limit("differs", what, f"{_VLLM}, model_executor/models/qwen2.py, tried on a CPU")
    if arch.model_type in _TOO_NEW:
        what = f"it takes transformers below 5.20, which does not know {arch.model_type}"
        yield Limit("refuses", what, f"{_VLLM}, its requirements, tried on a CPU")
    if arch.model_type == "qwen2" and len(set(windows_of(config))) > 1:
        what = "windows in some blocks only: its own Qwen2 refuses max_window_layers below the number of blocks"
        yield Limit("refuses", what, f"{_VLLM}, model_executor/models/qwen2.py")
    yield from _heads(arch)
    yield from _parallel(arch)
    yield from _four_bits(arch)


def _heads(arch: Architecture) -> Iterator[Limit]:
    if arch.head_dim % 8 or arch.head_dim > 256:
        what = f"heads of {arch.head_dim} channels: FlashAttention takes multiples of 8 up to 256"
        yield Limit("refuses", what, f"{_VLLM}, v1/attention/backends/flash_attn.py")
    if arch.head_dim not in _CPU_HEADS:
        known = ", ".join(map(str, _CPU_HEADS))
        what = f"heads of {arch.head_dim} channels: not on CPUs, where it takes {known}"
        yield Limit("note", what, f"{_VLLM}, v1/attention/backends/cpu_attn.py")
    if arch.experts and (arch.hidden % _CPU_EXPERTS or arch.intermediate % _CPU_EXPERTS):
        what = (
            f"experts of {arch.hidden:,} by {arch.intermediate:,}: not on CPUs, where both must be multiples of "
            f"{_CPU_EXPERTS}"
        )
        yield Limit("note", what, f"{_VLLM}, model_executor/layers/fused_moe/experts/cpu_moe.py, tried")


def _parallel(arch: Architecture) -> Iterator[Limit]:
    """GPUs over which heads or the feed-forward can't be split; the vocabulary is padded to multiples of 64."""

    def refused(gpus: int) -> list[str]:
        spread = arch.kv_heads % gpus == 0 if arch.kv_heads >= gpus else gpus % arch.kv_heads == 0
        names = [] if arch.heads % gpus == 0 else [f"{arch.heads} query heads"]
        names += [] if spread else [f"{arch.kv_heads} KV heads"]
        width = f"{'experts' if arch.experts else 'a feed-forward'} of {arch.intermediate:,}"
        return names + ([] if arch.intermediate % gpus == 0 else [width])

    reasons = {gpus: refused(gpus) for gpus in _SPLITS}
    bad = [gpus for gpus, names in reasons.items() if names]
    if bad:
        every = dict.fromkeys(name for names in reasons.values() for name in names)
        what = f"tensor parallel over {listed(list(map(str, bad)))} GPUs is not possible: {listed(list(every))}"
        yield Limit("note", what, f"{_VLLM}, model_executor/models/llama.py and distributed/utils.py")


def _four_bits(arch: Architecture) -> Iterator[Limit]:
    every = matrices(arch)
    group = next((size for size in _GROUPS if all(matrix.inputs % size == 0 for matrix in every.values())), None)
    if group != _GROUPS[0]:
        rows = sorted({matrix.inputs for matrix in every.values() if matrix.inputs % _GROUPS[0]})
        how = f"groups of {group} divide them" if group else "no group of 32, 64 or 128 divides them all"
        what = (
            f"rows of {listed([f'{row:,}' for row in rows])} weights are no multiple of {_GROUPS[0]}, the group that "
            f"shares a scale in GPTQ and AWQ: {how}"
        )
        yield Limit("note", what, f"{_VLLM}, model_executor/kernels/linear/mixed_precision/marlin.py")
    slow = [name for name, (rows, outputs) in every.items() if rows % _MACHETE[0] or outputs % _MACHETE[1]]
    padded = [
        name for name in slow if all(every[name].inputs % rows or every[name].outputs % outs for rows, outs in _MARLIN)
    ]
    if slow:
        what = f"4-bit weights of {listed(slow)} don't run on Machete, the kernel for Hopper GPUs, but on Marlin"
        what += f", padded for {listed(padded)}" if padded else ""
        yield Limit(
            "note", what, f"{_VLLM}, model_executor/layers/quantization/utils/machete_utils.py, marlin_utils.py"
        )
