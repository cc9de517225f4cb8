"""Are pruned and trained checkpoints the same model under transformers 4 and 5?

Six kinds of checkpoints as people have them are made small, saved again unchanged, pruned by every method and trained.
Each folder is then read by plain transformers of this environment and of version 4.57.1, which is installed into a
folder of its own (`--packages`, three packages, over the same torch). Compared are the logits (float32) and the tokens
of a probe text, between the versions and with the original.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM

from regrow.ladder import find_corpus
from regrow.models import CheckpointWarning, beside, load_model, save_checkpoint
from regrow.models.library import quiet
from regrow.pruning.prune import prune
from regrow.pruning.spec import PruneSpec
from regrow.training import TrainSpec
from regrow.training.post_train import post_train

PACKAGES = ("transformers==4.57.1", "tokenizers==0.22.1", "huggingface_hub==0.36.0")
END = "<|end|>"

SHAPE = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
}
LLAMA3 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}

#: name -> model type, fields of the config, fields that config.json says and the weights do not
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Llama-3 with rope scaling": ("llama", {"rope_scaling": LLAMA3, "tie_word_embeddings": True}, {}),
    "Qwen-2 with its own tokenizer": ("qwen2", {}, {}),
    "tied flag, own output layer": ("llama", {}, {"tie_word_embeddings": True}),
    "quantization_config left over": (
        "llama",
        {},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    ),
    "sharded": ("llama", {"tie_word_embeddings": True}, {}),
    "float32": ("qwen3", {"head_dim": 32}, {}),
}

STEPS: dict[str, PruneSpec | None] = {
    "original": None,
    "saved again": None,
    "2:4": PruneSpec(method="2:4", scorer="magnitude"),
    "depth": PruneSpec(method="depth", scorer="random", shape={"layers": 4}),
    "width": PruneSpec(method="width", scorer="random", shape={"hidden": 48, "intermediate": 96}),
    "depth, trained": None,
}

READER = """
import json, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
import numpy as np
transformers.logging.set_verbosity_error(); transformers.logging.disable_progress_bar()
ids = torch.randint(1, 300, (2, 200), generator=torch.Generator().manual_seed(0))
for folder in sys.argv[1:]:
    out = {"version": transformers.__version__}
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            out["logits"] = model(ids).logits[:, ::20, ::16].flatten().tolist()
    except Exception as error:
        out["model_error"] = str(error).strip().splitlines()[-1]
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        out["tokens"] = tokenizer("In 2024 of 1000, don't", add_special_tokens=False)["input_ids"]
    except Exception as error:
        out["tokenizer_error"] = str(error).strip().splitlines()[-1]
    print(json.dumps(out), flush=True)
"""


def make(kind: str, folder: Path) -> Path:
    """A random model of a kind, with a config.json as a tool of transformers 4 wrote it."""
    model_type, fields, said = KINDS[kind]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **json.loads(json.dumps(SHAPE | fields))))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.2)
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    with quiet():
        model.to(dtype).save_pretrained(folder, max_shard_size="100KB" if kind == "sharded" else "1GB")
    if said.get("tie_word_embeddings"):
        weights = load_file(folder / "model.safetensors")
        assert "lm_head.weight" in weights
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    content = {"architectures": [type(model).__name__], "model_type": model_type, **SHAPE, **fields, **said}
    content |= {"torch_dtype": str(dtype).removeprefix("torch."), "transformers_version": "4.45.0"}
    (folder / "config.json").write_text(json.dumps(content, indent=1))
    _tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "additional_special_tokens": [END]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def _tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    digits = pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["in 2024 of 1000 and 512, 256 or 128 steps don't"] * 20, trainer)
    return made


def work(kind: str, folder: Path) -> list[Path]:
    """The folders of every step, in the order of `STEPS`."""
    original = make(kind, folder / "original")
    save_checkpoint(load_model(original), None, folder / "saved again", beside=beside(original))
    for name, spec in STEPS.items():
        if spec is not None:
            prune(original, spec, calibration=None, out=folder / name)
    recipe = TrainSpec(
        tokens=512, batch_tokens=256, sequence_length=64, learning_rate=1e-3, held_out_blocks=2, eval_at=(256,)
    )
    data = f"{find_corpus('ladder', 'held_out')},tokens=20k"
    post_train(str(folder / "depth"), data=data, held_out=data, spec=recipe, out=folder / "run", cache=False)
    (folder / "run" / "model").rename(folder / "depth, trained")
    return [folder / name for name in STEPS]


def read(folders: list[Path], packages: Path | None, reader: str = READER) -> list[dict[str, Any]]:
    """What plain transformers makes of the folders, in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    if packages is not None:
        environment["PYTHONPATH"] = str(packages)
    command = [sys.executable, "-c", reader, *map(str, folders)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def apart(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The largest difference of two readings' logits, or who can't read the model."""
    if "logits" not in one or "logits" not in other:
        failed = [reading["version"] for reading in (one, other) if "logits" not in reading]
        return f"not read by {' and '.join(failed)}"
    return f"{np.abs(np.subtract(one['logits'], other['logits'])).max():.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, help="folder with transformers 4; made where it is not there")
    options = parser.parse_args()
    warnings.simplefilter("ignore", CheckpointWarning)
    with tempfile.TemporaryDirectory() as scratch:
        packages = options.packages or Path(scratch) / "packages"
        if not (packages / "transformers").is_dir():
            install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(packages), *PACKAGES]
            subprocess.run(install, check=True)
        wrong = 0
        print("| checkpoint | step | logits, 4 against 5 | logits against the original's | tokens as the original's |")
        print("|---|---|---|---|---|")
        for kind in KINDS:
            folders = work(kind, Path(scratch) / kind)
            newer, older = read(folders, None), read(folders, packages)
            for step, five, four in zip(STEPS, newer, older, strict=True):
                same = [now.get("tokens") == then[0].get("tokens") for now, then in ((five, newer), (four, older))]
                same.append("tokens" in five and "tokens" in four)
                versions = apart(four, five)
                unpruned = apart(five, newer[0]) if step == "saved again" else ""
                print(f"| {kind} | {step} | {versions} | {unpruned} | {'yes' if all(same) else 'NO'} |", flush=True)
                wrong += not all(same)
                # of an original that transformers misreads or can't read, the fault is not in what regrow wrote
                wrong += step != "original" and not ("logits" in four and float(versions) < 1e-3)
    print(f"{wrong} of {len(KINDS) * len(STEPS)} rows are wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
