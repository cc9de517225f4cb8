#!/usr/bin/env bash
# Beside a config of model_type qwen2, AutoTokenizer of transformers 5 does not read the pre-tokenizer of tokenizer.json.
#
# transformers 5.23.0 with tokenizers 0.23.3, seen 2026-11-28 on Python 3.11. A tokenizer.json that keeps numbers of up to
# three digits together is loaded with Qwen's own pre-tokenizer, which splits every digit, whatever tokenizer_class
# tokenizer_config.json names; and <|endoftext|> is added with an id beyond the vocabulary of the file. There is no
# warning, and save_pretrained writes the replaced pre-tokenizer. Beside model_type llama the file is read as it is, and
# so it is by transformers 4.57.1 beside both.
#
# Output seen:
#   4.57.1 llama ['in', 'Ġ', '202', '4'] added: []
#   4.57.1 qwen2 ['in', 'Ġ', '202', '4'] added: []
#   5.23.0 llama ['in', 'Ġ', '202', '4'] added: []
#   5.23.0 qwen2 ['in', 'Ġ', '2', '0', '2', '4'] added: ['<|endoftext|>']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > look.py <<'P'
import json, pathlib, transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

own = Tokenizer(models.BPE())
own.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
trainer = trainers.BpeTrainer(
    vocab_size=340,
    special_tokens=["<|end|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
own.train_from_iterator(["in 2024 and 2025 the 2024 model had 1000 of 10000 tokens in 100 steps, 128 256 512"] * 20, trainer)
for model_type in ("llama", "qwen2"):
    folder = pathlib.Path(f"{transformers.__version__}-{model_type}")
    folder.mkdir()
    own.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    found = AutoTokenizer.from_pretrained(str(folder))
    added = sorted(set(found.get_vocab()) - set(own.get_vocab()))
    print(transformers.__version__, model_type, found.tokenize("in 2024"), "added:", added)
P
for packages in "transformers==4.57.1 tokenizers==0.22.1 huggingface_hub==0.36.0" "transformers==5.23.0 tokenizers==0.23.3"; do
    rm -rf venv
    python3 -m venv venv
    # shellcheck disable=SC2086
    venv/bin/pip install -q --disable-pip-version-check $packages
    PYTHONIOENCODING=utf-8 venv/bin/python -W ignore look.py 2>/dev/null | tee -a seen
done
cat > expected <<'E'
4.57.1 llama ['in', 'Ġ', '202', '4'] added: []
4.57.1 qwen2 ['in', 'Ġ', '202', '4'] added: []
5.23.0 llama ['in', 'Ġ', '202', '4'] added: []
5.23.0 qwen2 ['in', 'Ġ', '2', '0', '2', '4'] added: ['<|endoftext|>']
E
diff expected seen
