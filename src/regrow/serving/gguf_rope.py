"""Rotary embeddings in a GGUF file: their base, their scaling, and the factors of single frequencies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.models.config_file import CONFIG
from regrow.serving.llama_cpp import LlamaCppClass, rotated

_BASE = 10_000.0

#: The tensor of the factors that apply at every length, and those of longrope: beyond the trained context, and within.
_FACTORS, _LONG, _SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"


def rope_of(config: Mapping[str, Any], layers: str = "full_attention") -> Mapping[str, Any]:
    """The rotary parameters of a config; where it has several, those of the blocks with full attention or windows."""
    rope = config.get("rope_parameters") or {}
    return rope.get(layers, rope) if "full_attention" in rope or "sliding_attention" in rope else rope


def write_rope(writer: Any, gguf: Any, arch: Architecture, config: PretrainedConfig, form: LlamaCppClass) -> None:
    """Write what llama.cpp rotates by. Raises `InputError` for a kind of scaling that its class does not take."""
    content = config.to_dict()
    rope = rope_of(content)
    writer.add_rope_dimension_count(rotated(arch, content))
    writer.add_rope_freq_base(float(rope.get("rope_theta", _BASE)))
    if form.windows:
        writer.add_rope_freq_base_swa(float(rope_of(content, "sliding_attention").get("rope_theta", _BASE)))
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    elif kind == "yarn":
        _write_yarn(writer, gguf, rope)
    elif kind == "longrope" and form.name == "phi3":
        writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
        writer.add_rope_scaling_attn_factors(_longrope_factor(config))
    elif kind not in ("default", "llama3") or (kind == "llama3" and not form.factors):
        raise InputError(
            f"rotary embeddings of the type {kind!r} are not written for llama.cpp's {form.name}",
            where=CONFIG,
            hint="llama.cpp's convert_hf_to_gguf.py takes the folder",
        )


def _write_yarn(writer: Any, gguf: Any, rope: Mapping[str, Any]) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(float(rope["factor"]))
    writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    for name in ("beta_fast", "beta_slow"):
        if rope.get(name) is not None:
            getattr(writer, f"add_rope_scaling_yarn_{name}")(float(rope[name]))
    if rope.get("mscale_all_dim"):
        writer.add_rope_scaling_yarn_log_mul(float(rope["mscale_all_dim"]))
    if rope.get("llama_4_scaling_beta"):
        writer.add_attn_temperature_scale(float(rope["llama_4_scaling_beta"]))


def _longrope_factor(config: PretrainedConfig) -> float:
    """What transformers multiplies the rotated channels by."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    return float(ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"))[1])


def rope_tensors(arch: Architecture, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The factors that rotary frequencies are divided by, by the name of their tensor; empty where there are none."""
    rope = rope_of(config)
    kind = rope.get("rope_type", "default")
    if kind == "llama3":
        return {_FACTORS: rope_factors(rope, arch.head_dim)}
    if kind == "longrope":
        return {
            name: np.asarray(rope[field], dtype=np.float32)
            for name, field in ((_LONG, "long_factor"), (_SHORT, "short_factor"))
        }
    return {}


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
