"""Well-known model types that are not supported, and what is missing for each."""

from __future__ import annotations

_EXPERTS = "mixtures of experts of this kind are not pruned"
_MULTIMODAL = "it is multimodal; save its language model alone"
_STATE_SPACE = "its state-space or linear attention layers are not pruned"
_LAYER_NORM = "its layer norms have biases, and its feed-forward has no gate"
_PARALLEL = "its attention and feed-forward run side by side"
_LATENT = "its latent attention is not pruned"

#: What is missing, by `model_type`.
REFUSED: dict[str, str] = {
    "gpt_oss": "its attention sinks and its experts with biases are not pruned",
    **dict.fromkeys(
        (
            "mixtral",
            "qwen2_moe",
            "olmoe",
            "phimoe",
            "granitemoe",
            "granitemoeshared",
            "ernie4_5_moe",
            "glm4_moe",
            "dots1",
            "hunyuan_v1_moe",
            "minimax",
            "minimax_m2",
            "mimo_v2_flash",
            "dbrx",
            "jetmoe",
            "exaone_moe",
            "flex_olmo",
            "afmoe",
            "solar_open",
            "step3p5",
        ),
        _EXPERTS,
    ),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "longcat_flash", "mistral4", "minicpm3"), _LATENT),
    **dict.fromkeys(
        (
            "gemma3",
            "gemma3n",
            "gemma4",
            "mistral3",
            "llama4",
            "mllama",
            "smolvlm",
            "qwen2_vl",
            "qwen2_5_vl",
            "qwen3_vl",
            "qwen3_5",
            "internvl",
            "pixtral",
            "phi4_multimodal",
            "glm4v",
        ),
        _MULTIMODAL,
    ),
    **dict.fromkeys(("gemma3n_text", "gemma4_text"), "its per-layer embeddings and shared KV layers are not pruned"),
    **dict.fromkeys(
        (
            "mamba",
            "mamba2",
            "falcon_mamba",
            "falcon_h1",
            "jamba",
            "bamba",
            "zamba",
            "zamba2",
            "nemotron_h",
            "granitemoehybrid",
            "qwen3_next",
            "qwen3_5_text",
            "recurrent_gemma",
            "rwkv",
            "xlstm",
            "kimi_linear",
            "olmo_hybrid",
            "lfm2",
        ),
        _STATE_SPACE,
    ),
    **dict.fromkeys(
        ("gpt2", "gpt_neo", "gpt_bigcode", "opt", "bloom", "mpt", "biogpt", "xglm", "starcoder2", "nemotron"),
        _LAYER_NORM,
    ),
    **dict.fromkeys(("gpt_neox", "gptj", "codegen", "falcon", "phi", "cohere", "cohere2", "persimmon"), _PARALLEL),
    **dict.fromkeys(("arcee", "apertus"), "its feed-forward has no gate"),
    **dict.fromkeys(("stablelm", "olmo"), "its norms are not RMS norms"),
}
