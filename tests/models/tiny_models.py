"""Tiny randomly initialised models of every supported family, shared by the tests of models/ and pruning/."""

from __future__ import annotations

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

COMMON = {"vocab_size": 64, "num_hidden_layers": 4, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}

FAMILIES = {
    "llama-tied": lambda: LlamaForCausalLM(
        LlamaConfig(
            **COMMON,
            hidden_size=32,
            intermediate_size=48,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            tie_word_embeddings=True,
        )
    ),
    "llama-untied-biased": lambda: LlamaForCausalLM(
        LlamaConfig(
            **COMMON,
            hidden_size=32,
            intermediate_size=48,
            num_attention_heads=4,
            num_key_value_heads=4,
            tie_word_embeddings=False,
            attention_bias=True,
            mlp_bias=True,
        )
    ),
    # Qwen2.5-0.5B's attention: 14 query heads on 2 KV heads, biases on q, k and v, tied; windows in the later blocks
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(
            **COMMON,
            hidden_size=56,
            intermediate_size=48,
            num_attention_heads=14,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            use_sliding_window=True,
            sliding_window=8,
            max_window_layers=2,
        )
    ),
    "qwen3": lambda: Qwen3ForCausalLM(
        Qwen3Config(
            **COMMON,
            hidden_size=32,
            intermediate_size=48,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            tie_word_embeddings=False,
        )
    ),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(
            **COMMON,
            hidden_size=32,
            intermediate_size=48,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=8,
        )
    ),
}


def make(family: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> PreTrainedModel:
    """A model whose every parameter, biases and norms included, is random: a slip in any one shows in the logits."""
    torch.manual_seed(seed)
    model = FAMILIES[family]()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.2)
            # not model.to(dtype), which rounds the rotary frequencies too and so makes another model than a reload
            parameter.data = parameter.data.to(dtype)
    return model.eval()


def tokens(blocks: int = 4, length: int = 16, *, seed: int = 0) -> torch.Tensor:
    """Random tokens [blocks, length] of the tiny vocabulary, without the end-of-text token 0."""
    return torch.randint(1, 64, (blocks, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Logits [blocks, length, vocab] in float32."""
    return model(input_ids=ids, use_cache=False).logits.float()
