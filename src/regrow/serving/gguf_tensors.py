"""A checkpoint's parameters as the tensors of a GGUF file.

Names come from the map of transformers' parameters in the package `gguf`. Numbers are stored as they are, but for four
things: the rows of queries and keys go in llama.cpp's order; norms that add 1 to their weights are stored with the 1;
queries carry what llama.cpp's scale of attention lacks (`llama_cpp.query_factor`); and matrices are joined or cut where
llama.cpp wants them so: the experts of a block in one tensor, Phi-3's fused ones apart where Llama's class computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.models.folder import Checkpoint
from regrow.models.layout import EMBEDDING, OUTPUT, block_name, split_block_name, split_expert_name
from regrow.serving.gguf_rope import rope_tensors
from regrow.serving.llama_cpp import LlamaCppClass, class_of, query_factor, reorders

#: How matrices can be stored; vectors are always float32.
GGUF_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
GGUF_KINDS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}

#: Fused matrices, and the layers whose rows they hold one after the other.
_FUSED = {
    "self_attn.qkv_proj.weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "mlp.gate_up_proj.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
}


class StoredTensor(NamedTuple):
    """A tensor of the file: its name, shape and GGUF type, and what reads it."""

    name: str
    shape: tuple[int, ...]
    kind: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A tensor to store, before it has llama.cpp's name.

    Attributes:
        name: transformers' name of it, or the one that it would have.
        shape: its shape.
        sources: the parameters that it is made of; several are stacked along a new first dimension.
        rows: the rows that are taken of its one source; None: all.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    rows: slice | None = None


def stored_tensors(checkpoint: Checkpoint, gguf: Any, dtype: str) -> list[StoredTensor]:
    """The tensors of a checkpoint's GGUF file. Raises `InputError` for one that GGUF has no name for.

    Args:
        checkpoint: the checkpoint.
        gguf: the package.
        dtype: of matrices, of `GGUF_DTYPES`.
    """
    arch, config = checkpoint.arch, checkpoint.config.to_dict()
    form = class_of(arch, config)
    families = {name: family for family, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(families[form.name], arch.layers)
    stored = [
        StoredTensor(name, factors.shape, "F32", partial(_same, factors))
        for name, factors in rope_tensors(arch, config).items()
    ]
    for part in _parts(checkpoint, form):
        mapped = names.get_name(part.name, try_suffixes=(".weight", ".bias"))
        if mapped is None:
            raise InputError(f"the package gguf has no name for {part.name!r}", where=str(checkpoint.folder))
        kind = GGUF_KINDS[dtype] if len(part.shape) > 1 else "F32"
        stored.append(StoredTensor(mapped, part.shape, kind, partial(_read, checkpoint, form, part, kind)))
    return stored


def _parts(checkpoint: Checkpoint, form: LlamaCppClass) -> list[_Part]:
    layout = checkpoint.layout
    parts = [part for name, tensor in layout.items() for part in _parts_of(name, tensor, checkpoint.arch, form)]
    if form.output == "needed" and OUTPUT not in layout:
        parts.append(_Part(name=OUTPUT, shape=tuple(layout[EMBEDDING].shape), sources=(EMBEDDING,)))
    return parts


def _parts_of(name: str, tensor: torch.Tensor, arch: Architecture, form: LlamaCppClass) -> Sequence[_Part]:
    """What a parameter becomes: itself, the layers that it holds, or, for a first expert, that of all of them."""
    block, rest = split_block_name(name) or (0, name)
    expert = split_expert_name(rest)
    shape = tuple(tensor.shape)
    if expert is not None:
        if expert[0]:
            return []
        every = tuple(block_name(block, f"mlp.experts.{number}.{expert[1]}") for number in range(arch.experts))
        return [_Part(name=block_name(block, f"mlp.experts.{expert[1]}"), shape=(arch.experts, *shape), sources=every)]
    if rest in _FUSED and form.name == "llama":
        query, key = arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
        ends = [0, query, query + key, shape[0]] if len(_FUSED[rest]) > 2 else [0, arch.intermediate, shape[0]]
        return [
            _Part(name=block_name(block, layer), shape=(end - start, shape[1]), sources=(name,), rows=slice(start, end))
            for layer, start, end in zip(_FUSED[rest], ends, ends[1:], strict=False)
        ]
    return [_Part(name=name, shape=shape, sources=(name,))]


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _read(checkpoint: Checkpoint, form: LlamaCppClass, part: _Part, kind: str) -> np.ndarray:
    """The numbers of a part as the file holds them."""
    read = checkpoint.reader.read(part.sources)
    tensor = read[part.sources[0]] if len(part.sources) == 1 else torch.stack([read[name] for name in part.sources])
    if part.rows is not None:
        tensor = tensor[part.rows]
    return _as_stored(_computed(tensor, part.name, checkpoint.arch, checkpoint.config.to_dict(), form), kind)


def _computed(
    tensor: torch.Tensor, name: str, arch: Architecture, config: Mapping[str, Any], form: LlamaCppClass
) -> torch.Tensor:
    """A parameter's numbers as llama.cpp's class computes with them."""
    place = split_block_name(name)
    layer = "" if place is None else place[1].removeprefix("self_attn.").rpartition(".")[0]
    if tensor.ndim == 1 and arch.family.norm_offset and "norm" in name:
        tensor = tensor.float() + arch.family.norm_offset
    if layer == ("q_norm" if arch.family.qk_norm is not None else "q_proj"):
        factor = query_factor(arch, config)
        tensor = tensor if factor == 1.0 else tensor.float() * factor
    heads = {"q_proj": arch.heads, "k_proj": arch.kv_heads}.get(layer)
    if heads is not None and reorders(arch, form):
        tensor = tensor.unflatten(0, (heads, 2, arch.head_dim // 2)).transpose(1, 2).flatten(0, 2)
    return tensor


def _as_stored(tensor: torch.Tensor, kind: str) -> np.ndarray:
    """A tensor as an array of the bytes that the file holds."""
    if kind == "BF16":
        return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint16)
    return tensor.to(torch.float32 if kind == "F32" else torch.float16).contiguous().numpy()
