#!/usr/bin/env bash
# llama.cpp takes Gemma 3's scale of attention from the number of blocks: without two blocks, 27B answers otherwise.
#
# xllamacpp 2026.10.11549 (llama.cpp of October 2026), gguf 0.19.0, transformers 5.23.0, torch 2.13.0, seen 2026-11-28 on
# Python 3.11. transformers divides queries by the root of `query_pre_attn_scalar`, which for Gemma 3 27B is hidden / heads
# (168), and the size of a head (128) for the others. llama.cpp has no key for it: it takes hidden / heads where a model has
# 62 blocks, as 27B has, and the size of a head at any other number (src/models/gemma3.cpp). Gemma 2 27B has 46.
#
# Output seen:
#   62 blocks: 6 of 6 answers are equal
#   60 blocks: 0 of 6 answers are equal
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0 gguf==0.19.0 \
  xllamacpp==2026.10.11549
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore - 2> log <<'P' || { tail -5 log; exit 1; }
import gguf
import torch
import xllamacpp
from gguf import GGUFWriter
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

torch.manual_seed(0)

def write(model, path, name, more):
    """The model as a GGUF file, its vocabulary numbered entries."""
    config, writer = model.config, GGUFWriter(path, name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    more(writer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"[{number}]" for number in range(config.vocab_size)])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges(["[ 0"])
    writer.add_eos_token_id(0)
    arch = next(arch for arch, text in gguf.MODEL_ARCH_NAMES.items() if text == name)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if "norm" in key:  # transformers adds 1 to these weights
            tensor = tensor + 1
        writer.add_tensor(names.get_name(key, (".weight",)), tensor.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def served(path, prompts, count):
    """llama.cpp's greedy tokens."""
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_gpu_layers, params.n_parallel = path, 64, 0, 1
    params.warmup, params.verbosity = False, -1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)
    asked = {"n_predict": count, "temperature": 0.0, "return_tokens": True, "verbose": True}
    return [server.handle_completions({"prompt": ids, **asked})["__verbose"]["tokens"] for ids in prompts]


@torch.no_grad()
def picked(model, prompts, count):
    """transformers' greedy tokens, up to the one that ends a text."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        while ids.shape[1] < len(prompt) + count and (ids.shape[1] == len(prompt) or int(ids[0, -1]) != 0):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
        found.append(ids[0, len(prompt) :].tolist())
    return found


def same(model, path):
    """How many of six answers are equal."""
    prompts = [torch.randint(1, 96, (16,)).tolist() for _ in range(6)]
    return sum(one == other for one, other in zip(served(path, prompts, 8), picked(model, prompts, 8)))



def keys(writer):
    writer.add_rope_freq_base(config.rope_parameters["full_attention"]["rope_theta"])


found = {}
for blocks in (62, 60):
    config = Gemma3TextConfig(
        vocab_size=96, hidden_size=96, intermediate_size=96, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        query_pre_attn_scalar=48, tie_word_embeddings=False, num_hidden_layers=blocks, bos_token_id=0, eos_token_id=0,
        layer_types=["full_attention"] * blocks, pad_token_id=0, max_position_embeddings=64,
    )
    model = Gemma3ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        parameter.data.normal_(0.0, 0.3)
        if "post_" in name:
            parameter.data.fill_(-0.98 if int(name.split(".")[2]) < blocks - 4 else 0.0)  # little rounding
    write(model, "model.gguf", "gemma3", keys)
    found[blocks] = same(model, "model.gguf")
    print(f"{blocks} blocks: {found[blocks]} of 6 answers are equal")
assert found[62] == 6, "the file is read in another way"
assert found[60] < 6, "llama.cpp takes the scale from elsewhere now"
P
