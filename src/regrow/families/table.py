"""The supported families, as transformers 5 builds them. A new one is an entry here and a line in the tests' table."""

from __future__ import annotations

from regrow.errors import InputError, one_of
from regrow.families.family import Experts, Family, Flag, Multipliers, Norms
from regrow.families.refused import REFUSED
from regrow.families.windows import Windows

_ATTENTION_BIAS = Flag(("attention_bias",))
_MLP_BIAS = Flag(("mlp_bias",))
_ANY_BIAS = Flag(("use_bias",))

#: Norms of what attention and feed-forward give, and none of what they read.
_NORMS_AFTER = Norms(after_attention="post_attention_layernorm", after_mlp="post_feedforward_layernorm")

#: Gemma-2's and Gemma-3's: one before and one after.
_NORMS_AROUND = Norms(
    before_attention="input_layernorm",
    after_attention="post_attention_layernorm",
    before_mlp="pre_feedforward_layernorm",
    after_mlp="post_feedforward_layernorm",
)

_BIDIRECTIONAL = ("use_bidirectional_attention", False, "it reads the text in both directions, as an encoder does")

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
    Family(
        model_type="smollm3",
        models="SmolLM3",
        kv_heads=4,
        tied=True,
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        mlp_bias=_MLP_BIAS,
        block_lists=("layer_types", "no_rope_layers"),
        windows=Windows(switch="use_sliding_window", where_no_rope=True),
    ),
    Family(model_type="ministral", models="Ministral 8B", kv_heads=8, windows=Windows(default=4096)),
    Family(
        model_type="ministral3",
        models="Ministral 3 (its language model)",
        kv_heads=8,
        head_dim=128,
        windows=Windows(uniform=True),
    ),
    Family(
        model_type="seed_oss",
        models="Seed-OSS",
        kv_heads=8,
        head_dim=128,
        qkv_bias=Flag(("attention_bias",), default=True),
        o_bias=Flag(("attention_out_bias",)),
        mlp_bias=_MLP_BIAS,
    ),
    Family(
        model_type="granite",
        models="Granite 3 (dense)",
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        mlp_bias=_MLP_BIAS,
        multipliers=Multipliers(
            embedding="embedding_multiplier", residual="residual_multiplier", logits="logits_scaling"
        ),
    ),
    Family(
        model_type="gemma",
        models="Gemma 1",
        kv_heads=16,
        head_dim=256,
        tied=True,
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        multipliers=Multipliers(root_hidden=True),
        norm_offset=1.0,
        refused=(_BIDIRECTIONAL,),
    ),
    Family(
        model_type="internlm3",
        models="InternLM3",
        kv_heads=2,
        head_dim=128,
        qkv_bias=Flag(("attention_bias", "qkv_bias")),
        o_bias=Flag(("attention_bias", "qkv_bias")),
        mlp_bias=Flag(("mlp_bias", "bias")),
        hidden_divides_by_heads=True,
    ),
    Family(
        model_type="iquestcoder",
        models="IQuest-Coder",
        kv_heads=8,
        head_dim=128,
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        mlp_bias=_MLP_BIAS,
        hidden_divides_by_heads=True,
        refused=(
            ("clip_qkv", None, "it clips queries, keys and values"),
            ("use_sliding_window", False, "transformers builds it without sliding windows"),
        ),
    ),
    Family(
        model_type="helium",
        models="Helium",
        kv_heads=20,
        head_dim=128,
        qkv_bias=_ATTENTION_BIAS,
        mlp_bias=_MLP_BIAS,
        square=True,
        square_because="transformers builds its o_proj square",
    ),
    Family(
        model_type="ernie4_5",
        models="ERNIE 4.5 (dense)",
        kv_heads=2,
        head_dim=128,
        tied=True,
        qkv_bias=_ANY_BIAS,
        o_bias=_ANY_BIAS,
        mlp_bias=_ANY_BIAS,
    ),
    Family(
        model_type="olmo2",
        models="OLMo 2",
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        qk_norm="projection",
        norms=_NORMS_AFTER,
    ),
    Family(
        model_type="olmo3",
        models="OLMo 3",
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        qk_norm="projection",
        norms=_NORMS_AFTER,
        windows=Windows(default=4096, full_every=4),
    ),
    Family(
        model_type="gemma2",
        models="Gemma 2",
        kv_heads=4,
        head_dim=256,
        tied=True,
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        norms=_NORMS_AROUND,
        windows=Windows(default=4096, full_every=2),
        hidden_divides_by_heads=True,
        multipliers=Multipliers(root_hidden=True, soft_cap="final_logit_softcapping"),
        norm_offset=1.0,
        refused=(_BIDIRECTIONAL,),
    ),
    Family(
        model_type="gemma3_text",
        models="Gemma 3 (270M, 1B, and the language models of the larger)",
        kv_heads=4,
        head_dim=256,
        tied=True,
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        qk_norm="head",
        norms=_NORMS_AROUND,
        windows=Windows(default=4096, full_every=6, full_field="sliding_window_pattern"),
        hidden_divides_by_heads=True,
        multipliers=Multipliers(root_hidden=True, soft_cap="final_logit_softcapping"),
        norm_offset=1.0,
        refused=(_BIDIRECTIONAL,),
    ),
    Family(
        model_type="exaone4",
        models="EXAONE 4.0",
        kv_heads=32,
        qk_norm="head",
        norms=_NORMS_AFTER,
        windows=Windows(default=4096, full_every=4, full_field="sliding_window_pattern"),
    ),
    Family(
        model_type="phi3",
        models="Phi-3, Phi-3.5, Phi-4 and Phi-4-mini",
        attention_inputs=("qkv_proj",),
        mlp_inputs=("gate_up_proj",),
        windows=Windows(uniform=True),
        square=True,
        square_because="transformers takes hidden / heads for the size of a head, which longrope's factors fit",
        square_by_rope=("longrope", "su", "yarn"),
    ),
    Family(
        model_type="glm4",
        models="GLM-4-0414",
        kv_heads=2,
        head_dim=128,
        qkv_bias=Flag(("attention_bias",), default=True),
        norms=Norms(
            before_attention="input_layernorm",
            after_attention="post_self_attn_layernorm",
            before_mlp="post_attention_layernorm",
            after_mlp="post_mlp_layernorm",
        ),
        mlp_inputs=("gate_up_proj",),
    ),
    Family(
        model_type="qwen3_moe",
        models="Qwen3 (mixtures of experts: 30B-A3B, 235B-A22B)",
        kv_heads=4,
        head_dim=None,
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        qk_norm="head",
        windows=Windows(default=4096, uniform=True, switch="use_sliding_window"),
        experts=Experts(
            count=(("num_experts", "num_local_experts"), 128),
            active=("num_experts_per_tok", 8),
            width=("moe_intermediate_size", 768),
        ),
        fixed_axes=("intermediate",),
        fixed_because="experts keep their width and are removed whole (--method experts)",
        refused=(
            ("mlp_only_layers", (), "blocks of it have no experts"),
            ("decoder_sparse_step", 1, "blocks of it have no experts"),
        ),
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
