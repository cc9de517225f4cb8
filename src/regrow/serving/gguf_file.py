"""A checkpoint folder as one GGUF file, tensor by tensor, with the writer of the package `gguf`.

Names come from the package's own map of transformers' parameters. In Llama's family query and key rows are stored in
another order, because llama.cpp rotates neighbouring channels and transformers the two halves of a head.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.models.config_file import CONFIG
from regrow.models.folder import Checkpoint, open_checkpoint
from regrow.models.layout import split_block_name
from regrow.models.load import local_checkpoint
from regrow.serving.constraints import heads_by_hidden
from regrow.serving.gguf_vocab import write_vocabulary

#: What llama.cpp calls the families that are written; for others its own converter is named.
GGUF_ARCHS = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}

#: How matrices can be stored; vectors are always float32.
GGUF_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_NORMS_EPS, _ROPE_BASE = 1e-6, 10_000.0


#: The type of an array that holds a tensor of each GGUF type.
_ELEMENTS: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class StoredTensor(NamedTuple):
    """A tensor of the file: its name, shape and GGUF type, and what reads it."""

    name: str
    shape: tuple[int, ...]
    kind: str
    read: Callable[[], np.ndarray]


def gguf_family(arch: Architecture) -> str | None:
    """llama.cpp's name for the family of a model; None where no file is written.

    Its Qwen2 takes the hidden width for that of all heads together. Where pruning has made them differ, the model is
    written as one of Llama's family, which computes the same: biases of query, key and value are optional there.
    """
    return "llama" if heads_by_hidden(arch) else GGUF_ARCHS.get(arch.model_type)


def import_gguf() -> Any:
    """The package `gguf`. Raises `InputError` if it is not installed."""
    try:
        import gguf
    except ModuleNotFoundError:
        raise InputError(
            "the package gguf is not installed", where="gguf", hint="pip install 'regrow[gguf]', or gguf itself"
        ) from None
    return gguf


def write_gguf(
    model: str | Path, path: str | Path, *, dtype: str = "fp16", progress: Callable[[str], None] | None = None
) -> list[str]:
    """Write a checkpoint folder as a GGUF file, in the memory of one tensor.

    Args:
        model: the folder.
        path: the file to make; one that is there is replaced when the new one is whole.
        dtype: of matrices, of `GGUF_DTYPES`.
        progress: called with a line of text now and then.

    Returns what the file lacks, in sentences: a tokenizer that llama.cpp does not know is left out.

    Raises `InputError` for a family or a kind of rotary embedding that is not written here.
    """
    gguf = import_gguf()
    checkpoint = open_checkpoint(local_checkpoint(model))
    arch, config = checkpoint.arch, checkpoint.config.to_dict()
    where = str(checkpoint.folder)
    family = gguf_family(arch)
    if family is None:
        raise InputError(
            f"GGUF files of {arch.model_type} models are not written here",
            where=where,
            hint="llama.cpp's convert_hf_to_gguf.py takes the folder",
        )
    writer = gguf.GGUFWriter(None, family)
    _write_sizes(writer, gguf, arch, config, where)
    writer.add_name(checkpoint.folder.name)
    writer.add_file_type(_file_type(gguf, dtype))
    lacks = write_vocabulary(writer, gguf, checkpoint.folder, arch.vocab)
    tensors = stored_tensors(checkpoint, dtype)
    _write_file(Path(path), writer, gguf, tensors, progress or (lambda line: None))
    return lacks


def _write_file(
    path: Path, writer: Any, gguf: Any, tensors: Sequence[StoredTensor], progress: Callable[[str], None]
) -> None:
    """Write the file beside its place, and move it there when it is whole."""
    stage = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        for tensor in tensors:
            element = np.dtype(_ELEMENTS[tensor.kind])
            size = math.prod(tensor.shape) * element.itemsize
            raw = getattr(gguf.GGMLQuantizationType, tensor.kind)
            writer.add_tensor_info(tensor.name, tensor.shape, element, size, raw_dtype=raw)
        writer.write_header_to_file(stage)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for number, tensor in enumerate(tensors, 1):
            writer.write_tensor_data(tensor.read())
            if number % 50 == 0:
                progress(f"{number} of {len(tensors)} tensors written")
        writer.close()
        os.replace(stage, path)
    except OSError as error:
        raise InputError(f"can't write here ({error.strerror})", where=str(path), hint="name another file") from None
    finally:
        stage.unlink(missing_ok=True)


def _file_type(gguf: Any, dtype: str) -> int:
    kinds = gguf.LlamaFileType
    return {"fp32": kinds.ALL_F32, "fp16": kinds.MOSTLY_F16, "bf16": kinds.MOSTLY_BF16}[dtype]


def _write_sizes(writer: Any, gguf: Any, arch: Architecture, config: Mapping[str, Any], where: str) -> None:
    """The metadata that llama.cpp builds the model from."""
    writer.add_block_count(arch.layers)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(arch.hidden)
    writer.add_feed_forward_length(arch.intermediate)
    writer.add_head_count(arch.heads)
    writer.add_head_count_kv(arch.kv_heads)
    # always written: after width pruning it does not follow from hidden / heads
    writer.add_key_length(arch.head_dim)
    writer.add_value_length(arch.head_dim)
    writer.add_rope_dimension_count(arch.head_dim)
    writer.add_vocab_size(arch.vocab)
    writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps", _NORMS_EPS)))
    rope = _rope(config)
    writer.add_rope_freq_base(float(rope.get("rope_theta", _ROPE_BASE)))
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(rope["factor"]))
        writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    elif kind not in ("default", "llama3"):
        raise InputError(
            f"rotary embeddings of the type {kind!r} are not written here",
            where=str(Path(where) / CONFIG),
            hint="llama.cpp's convert_hf_to_gguf.py takes the folder",
        )


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("rope_parameters") or {}


def stored_tensors(checkpoint: Checkpoint, dtype: str) -> list[StoredTensor]:
    """The tensors of a checkpoint's GGUF file. Raises `InputError` for one that GGUF has no name for."""
    gguf, arch, rope = import_gguf(), checkpoint.arch, _rope(checkpoint.config.to_dict())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[str(gguf_family(arch)).upper()], arch.layers)
    tensors = []
    if rope.get("rope_type") == "llama3":
        factors = rope_factors(rope, arch.head_dim)
        tensors.append(StoredTensor("rope_freqs.weight", factors.shape, "F32", lambda: factors))
    for name, tensor in checkpoint.layout.items():
        mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if mapped is None:
            raise InputError(f"the package gguf has no name for the tensor {name!r}", where=str(checkpoint.folder))
        kind = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}[dtype] if tensor.ndim > 1 else "F32"
        tensors.append(StoredTensor(mapped, tuple(tensor.shape), kind, partial(_read, checkpoint, name, kind)))
    return tensors


def _read(checkpoint: Checkpoint, name: str, kind: str) -> np.ndarray:
    return _as_stored(_ordered(checkpoint.reader.read([name])[name], name, checkpoint.arch), kind)


def _ordered(tensor: torch.Tensor, name: str, arch: Architecture) -> torch.Tensor:
    """Query and key rows in llama.cpp's order, the two halves of a head interleaved; other tensors as they are."""
    place = split_block_name(name)
    if gguf_family(arch) != "llama" or place is None:
        return tensor
    heads = {"self_attn.q_proj": arch.heads, "self_attn.k_proj": arch.kv_heads}.get(place[1].rpartition(".")[0])
    if heads is None:
        return tensor
    return tensor.unflatten(0, (heads, 2, arch.head_dim // 2)).transpose(1, 2).flatten(0, 2)


def _as_stored(tensor: torch.Tensor, kind: str) -> np.ndarray:
    """A tensor as an array of the bytes that the file holds."""
    if kind == "BF16":
        return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint16)
    return tensor.to(torch.float32 if kind == "F32" else torch.float16).contiguous().numpy()


def rope_factors(rope: Mapping[str, Any], head_dim: int) -> np.ndarray:
    """What Llama 3 divides its rotary frequencies by, [head_dim / 2].

    Long wavelengths are stretched by `factor`, short ones not at all, those between smoothly (Llama 3.1's release, and
    transformers' `_compute_llama3_parameters`).
    """
    base = 1.0 / float(rope["rope_theta"]) ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    factor, low, high = (float(rope[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = float(rope["original_max_position_embeddings"]) * base / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1 - smooth) / factor + smooth)).astype(np.float32)
