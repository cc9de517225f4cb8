#!/usr/bin/env bash
# llama.cpp gives EXAONE 4.0 sliding windows at 64 blocks only; at any other number it answers otherwise, without an error.
#
# xllamacpp 2026.10.11549 (llama.cpp of October 2026), gguf 0.19.0, transformers 5.23.0, torch 2.13.0, seen 2026-11-28 on
# Python 3.11. EXAONE 4.0 32B has windows in three of four blocks, and rotary embeddings in these alone. A GGUF file can say
# both the window and the blocks that have it. llama.cpp reads them if the model has 64 blocks (src/models/exaone4.cpp); at
# any other number, as after a block was removed, every block attends to all tokens and is rotated.
#
# Output seen:
#   64 blocks: 6 of 6 answers are equal
#   63 blocks: 0 of 6 answers are equal
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
from transformers import Exaone4Config, Exaone4ForCausalLM

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


kinds = [("full_attention" if block % 4 == 3 else "sliding_attention") for block in range(64)]


def keys(writer):
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_sliding_window(config.sliding_window)
    writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])


found = {}
for blocks in (64, 63):
    config = Exaone4Config(
        vocab_size=96, hidden_size=64, intermediate_size=96, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        num_hidden_layers=blocks, layer_types=kinds[:blocks], sliding_window=8, bos_token_id=0, eos_token_id=0,
        pad_token_id=0, max_position_embeddings=64,
    )
    model = Exaone4ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        parameter.data.normal_(1.0 if "norm" in name else 0.0, 0.3)
        if "feedforward_layernorm" in name or "post_attention_layernorm" in name:
            parameter.data.fill_(0.002 if int(name.split(".")[2]) < 60 else 1.0)  # so that rounding does not add up
    write(model, "model.gguf", "exaone4", keys)
    found[blocks] = same(model, "model.gguf")
    print(f"{blocks} blocks: {found[blocks]} of 6 answers are equal")
assert found[64] == 6, "the file is read in another way"
assert found[63] < 6, "llama.cpp reads the windows at other numbers of blocks now"
P
