"""What the programs that serve models are known to refuse, or to do less well, by a model's shape. Light: no torch.

Each limit was read in the program's own source, or in the library's that it calls; `source` says which and where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from regrow.arch import Architecture
from regrow.serving.limit import Limit, listed
from regrow.serving.llama_cpp import llama_cpp_limits
from regrow.serving.quantised import gguf_limits
from regrow.serving.vllm import vllm_limits

#: The names that `--loads` takes, in the order in which they are checked.
RUNTIMES = ("transformers", "gguf", "llama.cpp", "vllm")


def limits_of(runtime: str, arch: Architecture, config: Mapping[str, Any]) -> list[Limit]:
    """The known limits of a runtime (of `RUNTIMES`) that a model of this shape and config meets."""
    return list(_LIMITS[runtime](arch, config))


def _llama_cpp(arch: Architecture, config: Mapping[str, Any]) -> Iterator[Limit]:
    yield from llama_cpp_limits(arch, config)
    yield from gguf_limits(arch)


def _vllm(arch: Architecture, config: Mapping[str, Any]) -> Iterator[Limit]:
    yield from vllm_limits(arch, config)
    yield from _sixteen_bits(arch)


def _sixteen_bits(arch: Architecture) -> Iterator[Limit]:
    """Widths that matrix units can't use whole."""
    widths = {"hidden": arch.hidden, "intermediate": arch.intermediate, "vocabulary": arch.vocab}
    widths["heads x head_dim"] = arch.heads * arch.head_dim
    odd = [f"{name} {width:,}" for name, width in widths.items() if width % 8]
    if odd:
        what = f"{listed(odd)}: no multiple of 8, so 16-bit products on GPUs are padded and slower"
        yield Limit("note", what, "NVIDIA's guide to matrix multiplication, on tensor cores")


_LIMITS: dict[str, Callable[[Architecture, Mapping[str, Any]], Iterator[Limit]]] = {
    "transformers": lambda arch, config: _sixteen_bits(arch),
    "gguf": lambda arch, config: gguf_limits(arch),
    "llama.cpp": _llama_cpp,
    "vllm": _vllm,
}
