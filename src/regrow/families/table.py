"""The supported families, as transformers 5 builds them. A new one is an entry here and a line in the tests' table."""

from __future__ import annotations

from regrow.errors import InputError, one_of
from regrow.families.family import Family, Flag
from regrow.families.refused import REFUSED
from regrow.families.windows import Windows

_ATTENTION_BIAS = Flag(("attention_bias",))
_MLP_BIAS = Flag(("mlp_bias",))

_QWEN_WINDOWS = Windows(default=4096, switch="use_sliding_window", first=("max_window_layers", 28))

_ENTRIES = (
    Family(
        model_type="llama",
        models="Llama 2 and 3, SmolLM2",
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        mlp_bias=_MLP_BIAS,
        hidden_divides_by_heads=True,
    ),
    Family(
        model_type="mistral",
        models="Mistral 7B, Nemo and Small",
        kv_heads=8,
        windows=Windows(default=4096, uniform=True),
    ),
    Family(
        model_type="qwen2",
        models="Qwen2, Qwen2.5",
        kv_heads=32,
        qkv_bias=True,
        block_indices=("max_window_layers",),
        windows=_QWEN_WINDOWS,
    ),
    Family(
        model_type="qwen3",
        models="Qwen3 (dense)",
        kv_heads=32,
        head_dim=128,
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        qk_norm="head",
        block_indices=("max_window_layers",),
        windows=_QWEN_WINDOWS,
    ),
)

#: Every supported family by transformers' `model_type`.
FAMILIES: dict[str, Family] = {entry.model_type: entry for entry in _ENTRIES}

SUPPORTED_MODEL_TYPES = tuple(FAMILIES)


def family_of(model_type: str, *, where: str | None = None) -> Family:
    """The family of a `model_type`. Raises `InputError` for one that is not supported, and says what is missing."""
    if model_type in REFUSED:
        raise InputError(
            f"models of type {model_type!r} are not supported: {REFUSED[model_type]}",
            where=where,
            hint=f"supported: {', '.join(FAMILIES)}",
        )
    return FAMILIES[one_of(model_type, FAMILIES, what="model type", where=where)]
