"""Which types of llama.cpp's quantised files a pruned width keeps. Light: no torch.

A row of a matrix is stored in blocks that share a scale: 256 weights in the K-quants (Q2_K to Q6_K), 32 in the older
types (Q4_0, Q5_0, Q8_0 and their kin). Where 256 does not divide the row, llama.cpp's `llama-quantize` takes an older
type for the matrix, and where 32 does not, 16 bits a weight (`tensor_type_fallback` in its src/llama-quant.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator

from regrow.arch import Architecture
from regrow.serving.limit import Limit, listed, matrices
from regrow.serving.llama_cpp import LLAMA_CPP

_K_BLOCK, _BLOCK = 256, 32

#: The types of a Q4_K_M file, what each becomes where rows do not divide, and bits a weight of both (GGML_QUANT_SIZES
#: of the package gguf). Q6_K are the embeddings where they are the output matrix too, and values and down in some
#: blocks.
_FALLBACK = {"Q4_K": ("Q5_0", 4.5, 5.5), "Q6_K": ("Q8_0", 6.5625, 8.5)}

_SOURCE = f"{LLAMA_CPP}, src/llama-quant.cpp; gguf 0.19.0, GGML_QUANT_SIZES"


def gguf_limits(arch: Architecture) -> Iterator[Limit]:
    """The types that the matrices of a pruned model fall back to in a quantised GGUF file."""
    rows = {name: matrix.inputs for name, matrix in matrices(arch).items()}
    rows["embeddings"] = arch.hidden
    widths = sorted(set(rows.values()))
    for width in (width for width in widths if width % _BLOCK):
        named = listed([name for name, row in rows.items() if row == width])
        what = f"rows of {width:,} weights ({named}) are no multiple of {_BLOCK}: they stay f16 in any quantised file"
        yield Limit("note", what, _SOURCE)
    for width in (width for width in widths if width % _K_BLOCK and not width % _BLOCK):
        named = listed([name for name, row in rows.items() if row == width])
        became = " and ".join(
            f"{new} in the place of {old} ({after:g} bits a weight, not {before:g})"
            for old, (new, before, after) in _FALLBACK.items()
        )
        what = f"rows of {width:,} weights ({named}) are no multiple of {_K_BLOCK}: in a Q4_K_M file they are {became}"
        yield Limit("note", what, _SOURCE)
