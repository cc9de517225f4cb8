"""What the programs that serve models are known to refuse, or to do less well, by a model's shape. Light: no torch.

Each limit was read in the program's own source; `source` says which version and where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from regrow.arch import Architecture
from regrow.footprint import windows_of

#: `refuses`: the program does not load the model. `differs`: it loads, and gives other tokens. `note`: it works, but
#: less well.
Kind = Literal["refuses", "differs", "note"]

#: The names that `--loads` takes, in the order in which they are checked.
RUNTIMES = ("transformers", "gguf", "llama.cpp", "vllm")

_VLLM = "vLLM 0.32.0"
_LLAMA_CPP = "llama.cpp of August 2026"

#: Head sizes that vLLM's attention takes: on NVIDIA GPUs multiples of 8 up to 256, on CPUs these.
_VLLM_CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)

#: Weights of a row that share a scale: what a row's length must be a multiple of. K-quants are Q2_K to Q6_K; the legacy
#: types are Q4_0, Q5_0, Q8_0 and their kin.
_K_BLOCK, _LEGACY_BLOCK = 256, 32

#: How vLLM's Marlin kernels for 4-bit and 8-bit weights tile a matrix: its inputs and its outputs.
_MARLIN_IN, _MARLIN_OUT = 128, 64


class Limit(NamedTuple):
    """A known limit that a model meets."""

    kind: Kind
    what: str
    source: str


def limits_of(runtime: str, arch: Architecture, config: Mapping[str, Any]) -> list[Limit]:
    """The known limits of a runtime (of `RUNTIMES`) that a model of this shape and config meets."""
    return list(_LIMITS[runtime](arch, config))


def _transformers(arch: Architecture, config: Mapping[str, Any]) -> Iterator[Limit]:
    yield from _sparse_sizes(arch)


def _gguf(arch: Architecture, config: Mapping[str, Any]) -> Iterator[Limit]:
    rows = _row_lengths(arch)
    source = "gguf 0.19.0, GGML_QUANT_SIZES"
    odd = {name: width for name, width in rows.items() if width % _LEGACY_BLOCK}
    if odd:
        yield Limit(
            "note", f"{_list(odd)}: no multiple of {_LEGACY_BLOCK}, so no quantised type fits; f16 stays", source
        )
    some = {name: width for name, width in rows.items() if width % _K_BLOCK and name not in odd}
    if some:
        what = f"{_list(some)}: no multiple of {_K_BLOCK}, so K-quants fall back to types of {_LEGACY_BLOCK} weights"
        yield Limit("note", what, f"{source}; {_LLAMA_CPP}, src/llama-quant.cpp")


def _llama_cpp(arch: Architecture, config: Mapping[str, Any]) -> Iterator[Limit]:
    windows = [window for window in windows_of(config) if window is not None]
    if windows and arch.model_type in ("llama", "mistral", "qwen2", "qwen3"):
        yield Limit(
            "differs",
            f"it attends to all tokens where this model has windows: from {min(windows)} tokens on its answers differ",
            f"{_LLAMA_CPP}, src/models",
        )
    if heads_by_hidden(arch):
        what = (
            "its own Qwen2 takes the hidden width for that of all heads: the file is written as one of Llama's family"
        )
        yield Limit("note", what, f"{_LLAMA_CPP}, src/models/qwen2.cpp")
    yield from _gguf(arch, config)


def _vllm(arch: Architecture, config: Mapping[str, Any]) -> Iterator[Limit]:
    if heads_by_hidden(arch):
        what = (
            f"its own Qwen2 takes hidden / heads = {arch.hidden / arch.heads:g} for the size of a head, which is "
            f"{arch.head_dim} here, and gives other tokens without an error: serve it with --model-impl transformers, "
            "or prune its feed-forward width only (--axes intermediate)"
        )
        yield Limit("differs", what, f"{_VLLM}, model_executor/models/qwen2.py, tried on a CPU")
    if arch.head_dim % 8 or arch.head_dim > 256:
        what = f"heads of {arch.head_dim} channels: FlashAttention takes multiples of 8 up to 256"
        yield Limit("refuses", what, f"{_VLLM}, v1/attention/backends/flash_attn.py")
    if arch.head_dim not in _VLLM_CPU_HEADS:
        known = ", ".join(map(str, _VLLM_CPU_HEADS))
        what = f"heads of {arch.head_dim} channels: not on CPUs, where it takes {known}"
        yield Limit("note", what, f"{_VLLM}, v1/attention/backends/cpu_attn.py")
    if arch.model_type == "qwen2" and len(set(windows_of(config))) > 1:
        what = "windows in some blocks only: its own Qwen2 refuses max_window_layers below the number of blocks"
        yield Limit("refuses", what, f"{_VLLM}, model_executor/models/qwen2.py")
    if arch.heads % 2 or arch.kv_heads % 2:
        many = [size for size in (2, 4, 8) if _splits(arch, size)]
        what = f"{arch.heads} query and {arch.kv_heads} KV heads: tensor parallel over "
        what += f"{', '.join(map(str, many))} GPUs only" if many else "2, 4 or 8 GPUs is not possible"
        yield Limit("note", what, f"{_VLLM}, model_executor/models/llama.py")
    odd = {name: width for name, width in _row_lengths(arch).items() if width % _MARLIN_IN}
    if odd or arch.intermediate % _MARLIN_OUT:
        what = f"{_list(odd or {'intermediate': arch.intermediate})}: no multiple of {_MARLIN_IN}, as the Marlin "
        what += "kernels for quantised weights need; bf16 is not concerned"
        yield Limit("note", what, f"{_VLLM}, model_executor/layers/quantization/utils/marlin_utils.py")
    yield from _sparse_sizes(arch)


def heads_by_hidden(arch: Architecture) -> bool:
    """Whether a program that takes hidden / heads for the size of a head, as several do for Qwen2, gets it wrong."""
    return arch.model_type == "qwen2" and arch.head_dim * arch.heads != arch.hidden


def _sparse_sizes(arch: Architecture) -> Iterator[Limit]:
    """Widths that matrix units can't use whole."""
    odd = {name: width for name, width in {**_row_lengths(arch), "vocabulary": arch.vocab}.items() if width % 8}
    if odd:
        what = f"{_list(odd)}: no multiple of 8, so 16-bit products on GPUs are padded and slower"
        yield Limit("note", what, "NVIDIA's guide to matrix multiplication, on tensor cores")


def _row_lengths(arch: Architecture) -> dict[str, int]:
    """The lengths of the rows of a block's matrices, by what they are."""
    return {"hidden": arch.hidden, "intermediate": arch.intermediate, "heads x head_dim": arch.heads * arch.head_dim}


def _splits(arch: Architecture, gpus: int) -> bool:
    whole = arch.kv_heads % gpus == 0 if arch.kv_heads >= gpus else gpus % arch.kv_heads == 0
    return arch.heads % gpus == 0 and whole


def _list(widths: Mapping[str, int]) -> str:
    return " and ".join(f"{name} {width:,}" for name, width in widths.items())


_LIMITS: dict[str, Callable[[Architecture, Mapping[str, Any]], Iterator[Limit]]] = {
    "transformers": _transformers,
    "gguf": _gguf,
    "llama.cpp": _llama_cpp,
    "vllm": _vllm,
}
