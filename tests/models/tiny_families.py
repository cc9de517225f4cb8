"""A tiny random model of every supported family's own class in transformers, and a small table of what is special."""

from __future__ import annotations

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

#: Three blocks: one can go, and two of different kinds stay.
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_WINDOWED = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_BIASED = {"attention_bias": True}

#: What a tiny config of each family has beside `SHAPE`: every switch that its class knows is on.
TINY: dict[str, dict] = {
    "llama": {**_BIASED, "mlp_bias": True},
    "mistral": {"sliding_window": 8},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8, "tie_word_embeddings": True},
    "qwen3": {**_BIASED, "use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8},
    "smollm3": {**_BIASED, "mlp_bias": True, "no_rope_layers": [1, 0, 1]},
    "ministral": _WINDOWED,
    "ministral3": {"sliding_window": 8},
    "seed_oss": {"attention_out_bias": True, "mlp_bias": True},
    "granite": {
        **_BIASED,
        "mlp_bias": True,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.4,
        "logits_scaling": 5.0,
        "attention_multiplier": 0.2,
    },
    "gemma": {},
    "internlm3": {**_BIASED, "mlp_bias": True},
    "iquestcoder": {},
    "helium": {**_BIASED, "mlp_bias": True},
    "ernie4_5": {"use_bias": True},
    "olmo2": _BIASED,
    "olmo3": {**_WINDOWED, "tie_word_embeddings": True},
    "gemma2": {**_WINDOWED, "query_pre_attn_scalar": 8, "final_logit_softcapping": 2.0},
    "gemma3_text": {**_WINDOWED, "query_pre_attn_scalar": 8, "tie_word_embeddings": False},
    "exaone4": _WINDOWED,
    "phi3": {"sliding_window": 8},
    "glm4": {},
    "qwen3_moe": {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": True},
}

#: The same as public models are: without biases that none has, and with patterns over the blocks that llama.cpp has.
#: A family that is not named is as in `TINY`.
PLAIN: dict[str, dict] = {
    **{name: {} for name in ("llama", "internlm3", "iquestcoder", "seed_oss", "helium", "ernie4_5", "olmo2")},
    "mistral": {"sliding_window": None},
    "ministral": {"layer_types": ["full_attention"] * 3},
    "ministral3": {},
    "qwen2": {},
    "qwen3": {},
    "smollm3": {"no_rope_layers": [1, 1, 1]},
    "granite": {name: value for name, value in TINY["granite"].items() if "multiplier" in name or "scaling" in name},
    "gemma2": {**TINY["gemma2"], "final_logit_softcapping": 30.0},
    "gemma3_text": {**TINY["gemma3_text"]},
    "exaone4": {"layer_types": ["full_attention"] * 3, "sliding_window": None},
    "phi3": {"sliding_window": None},
}


def make_tiny(model_type: str, *, switches: dict | None = None, **changes: object) -> PreTrainedModel:
    """A model of the family with every parameter random, norms and biases included, in evaluation mode.

    `switches` stand in the place of the family's entry in `TINY`.
    """
    fields = {**SHAPE, **(TINY[model_type] if switches is None else switches), **changes}
    config = CONFIG_MAPPING[model_type](**fields)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.2)
    return model.eval()


def make_plain(model_type: str, **changes: object) -> PreTrainedModel:
    """A tiny random model of the family as public models are (`PLAIN`)."""
    return make_tiny(model_type, switches=PLAIN.get(model_type, TINY[model_type]), **changes)
