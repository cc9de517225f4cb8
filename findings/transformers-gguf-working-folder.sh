#!/usr/bin/env bash
# transformers takes the weights of a GGUF model from the working folder, if that has a file of the same name.
#
# transformers 5.23.0, gguf 0.19.0, accelerate 1.15.0, torch 2.13.0, seen 2026-11-28 on Python 3.11.
# `from_pretrained(FOLDER, gguf_file=NAME)` reads the config from FOLDER/NAME. For the weights it looks for NAME itself
# first, which is a path in the working folder (`modeling_utils.py`: `if os.path.isfile(gguf_file)`). Two models of one
# shape are mixed up without a word; two of different shapes end in an error about sizes. An absolute path as `gguf_file`
# is read right.
#
# Output seen:
#   first/model.gguf asked for, no model.gguf in the working folder: the first model: True
#   first/model.gguf asked for, another model.gguf in the working folder: the first model: False, that other: True
#   first/model.gguf by its absolute path: the first model: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0 gguf==0.19.0 \
  accelerate==1.15.0
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore - 2> log <<'P' || { tail -5 log; exit 1; }
import os

import gguf
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)

def write(model, path, title):
    """The model as a GGUF file, its vocabulary numbered entries."""
    config, writer = model.config, GGUFWriter(path, "llama")
    writer.add_name(title)
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
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"[{number}]" for number in range(config.vocab_size)])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges(["[ 0"])
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if ".q_proj." in key or ".k_proj." in key:  # as llama.cpp stores them
            tensor = tensor.unflatten(0, (-1, 2, config.head_dim // 2)).transpose(1, 2).flatten(0, 2)
        writer.add_tensor(names.get_name(key, (".weight",)), tensor.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()



sizes = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2)
config = LlamaConfig(**sizes, num_key_value_heads=1, head_dim=32, max_position_embeddings=64)
first, other = LlamaForCausalLM(config).eval(), LlamaForCausalLM(config).eval()
os.mkdir("first")
write(first, "first/model.gguf", "first")
ids = torch.arange(1, 20)[None]


def read(name):
    """Whether what is read answers as the first model, and as the other."""
    model = AutoModelForCausalLM.from_pretrained("first", gguf_file=name, dtype=torch.float32)
    return [torch.allclose(model(ids).logits, wanted(ids).logits, atol=1e-4) for wanted in (first, other)]


alone = read("model.gguf")
print(f"first/model.gguf asked for, no model.gguf in the working folder: the first model: {alone[0]}")
write(other, "model.gguf", "other")
mixed, whole = read("model.gguf"), read(os.path.abspath("first/model.gguf"))
found = f"the first model: {mixed[0]}, that other: {mixed[1]}"
print(f"first/model.gguf asked for, another model.gguf in the working folder: {found}")
print(f"first/model.gguf by its absolute path: the first model: {whole[0]}")
assert alone[0] and whole[0], "the file is read in another way"
assert mixed == [False, True], "transformers reads the file of the folder now"
P
