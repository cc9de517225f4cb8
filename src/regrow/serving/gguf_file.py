"""A checkpoint folder as one GGUF file, tensor by tensor, with the writer of the package `gguf`."""

from __future__ import annotations

import math
import os
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regrow.errors import InputError
from regrow.footprint import windows_of
from regrow.models.folder import Checkpoint, open_checkpoint
from regrow.models.load import local_checkpoint
from regrow.serving.gguf_rope import write_rope
from regrow.serving.gguf_tensors import StoredTensor, stored_tensors
from regrow.serving.gguf_vocab import write_vocabulary
from regrow.serving.llama_cpp import LlamaCppClass, class_of
from regrow.serving.reference import end_of

#: Numbers that a class of llama.cpp multiplies with: the config's field, and what writes it.
_MULTIPLIERS = {
    "embedding_multiplier": "add_embedding_scale",
    "residual_multiplier": "add_residual_scale",
    "attention_multiplier": "add_attention_scale",
    "logits_scaling": "add_logit_scale",
    "attn_logit_softcapping": "add_attn_logit_softcapping",
    "final_logit_softcapping": "add_final_logit_softcapping",
}
_WITH_MULTIPLIERS = ("granite", "gemma2", "gemma3")

_PHI3 = re.compile("phi-?3", re.IGNORECASE)

_NORMS_EPS = 1e-6


#: The type of an array that holds a tensor of each GGUF type.
_ELEMENTS: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


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

    Raises `InputError` for a kind of rotary embedding that is not written here.
    """
    gguf = import_gguf()
    checkpoint = open_checkpoint(local_checkpoint(model))
    arch = checkpoint.arch
    form = class_of(arch, checkpoint.config.to_dict())
    writer = gguf.GGUFWriter(None, form.name)
    _write_sizes(writer, gguf, checkpoint, form)
    writer.add_file_type(_file_type(gguf, dtype))
    lacks = write_vocabulary(writer, gguf, checkpoint.folder, arch.vocab, end_of(checkpoint.config))
    writer.add_name(_name(checkpoint, numbers_only=bool(lacks)))
    tensors = stored_tensors(checkpoint, gguf, dtype)
    _write_file(Path(path), writer, gguf, tensors, progress or (lambda line: None))
    return lacks


def _name(checkpoint: Checkpoint, *, numbers_only: bool) -> str:
    """The name of the model in its file, by that of its folder.

    llama.cpp takes from a name with `phi-3` in it that space after a special token is left out, as Phi-3's tokenizer
    does, and then wants Phi-3's special tokens. So a Phi-3 with its tokenizer has it in its name, and no other model.
    """
    name = checkpoint.folder.name
    own = _PHI3.search(name) is not None
    if checkpoint.arch.model_type == "phi3" and not numbers_only:
        return name if own else f"phi-3 {name}"
    return _PHI3.sub("phi", name)


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


def _write_sizes(writer: Any, gguf: Any, checkpoint: Checkpoint, form: LlamaCppClass) -> None:
    """The metadata that llama.cpp builds the model from."""
    arch, config = checkpoint.arch, checkpoint.config.to_dict()
    writer.add_block_count(arch.layers)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(arch.hidden)
    writer.add_feed_forward_length(arch.intermediate)
    writer.add_head_count(arch.heads)
    writer.add_head_count_kv(arch.kv_heads)
    # always written: after width pruning it does not follow from hidden / heads
    writer.add_key_length(arch.head_dim)
    writer.add_value_length(arch.head_dim)
    writer.add_vocab_size(arch.vocab)
    writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps", _NORMS_EPS)))
    if arch.experts:
        writer.add_expert_count(arch.experts)
        writer.add_expert_used_count(arch.active_experts)
        writer.add_expert_feed_forward_length(arch.intermediate)
    windows = windows_of(config)
    widest = max((window for window in windows if window is not None), default=None)
    if form.windows and widest is not None:
        writer.add_sliding_window(widest)
        writer.add_sliding_window_pattern([window is not None for window in windows])
    write_rope(writer, gguf, arch, checkpoint.config, form)
    for field, adds in _MULTIPLIERS.items():
        if config.get(field) is not None and form.name in _WITH_MULTIPLIERS:
            getattr(writer, adds)(float(config[field]))
