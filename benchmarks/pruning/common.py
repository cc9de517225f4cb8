"""What the benchmarks of pruning share: the text, and one pruning in a process of its own with its time and memory.

The protocol: `LENGTH` tokens in a block; calibration blocks from the first `DOCUMENTS` documents of the embedded
corpus's training split, held-out blocks from as many of its held-out split.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from regrow.data import Blocks, read_documents, tokenize
from regrow.ladder import find_corpus
from regrow.pruning import choose_blocks

LENGTH = 512

#: Documents of each split that are read.
DOCUMENTS = 400

#: Starts every process: `mark(name)` notes wall and processor time, and `used` writes the spans between two marks.
COMMON = """
import json, sys, time, torch
folder, tokens, out, given = sys.argv[1], torch.load(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
marks, found = {}, {}
def mark(name):
    marks[name] = time.perf_counter(), time.process_time()
def span(name, begin, end):
    found[name] = {"seconds": marks[end][0] - marks[begin][0], "cpu": marks[end][1] - marks[begin][1]}
def peak():
    # not getrusage, whose peak starts at that of the process that started this one (Linux)
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    found["peak"] = int(line.split()[1]) * 1024
def used():
    json.dump(found, open(out + ".json", "w"))
"""

#: regrow from disk to disk, and, where `call` is given, once more on a model in memory.
OURS = """
from transformers import AutoModelForCausalLM
from regrow.data import Blocks
from regrow.pruning import PruneSpec, prune_model
from regrow.pruning.prune import prune
call, precision = given.pop("call", False), given.pop("precision", None)
# builds before this option had only fp32
options = {} if precision is None else {"precision": precision}
blocks = Blocks(tokens=tokens.int().numpy(), documents=1, fingerprint="benchmark")
spec = PruneSpec(**given, calibration_blocks=len(tokens), calibration_length=tokens.shape[1])
mark("start")
prune(folder, spec, calibration=blocks, out=out, **options)
mark("end")
span("disk", "start", "end")
peak()
if call:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    mark("loaded")
    prune_model(model, spec, tokens, **options)
    mark("pruned")
    span("call", "loaded", "pruned")
used()
"""


def texts(tokenizer: PreTrainedTokenizerBase, *, held_out: int) -> tuple[Blocks, Blocks]:
    """Calibration blocks to draw from, and `held_out` blocks to evaluate on."""
    train, held = (
        tokenize(read_documents(find_corpus("ladder", split))[:DOCUMENTS], tokenizer, sequence_length=LENGTH)
        for split in ("post_train", "held_out")
    )
    return train, held.sample(held_out, seed=0)


def save_tokens(train: Blocks, count: int, path: Path, *, seed: int = 0) -> torch.Tensor:
    """Draw `count` calibration blocks, write them where the processes read them, and return them."""
    tokens = choose_blocks(train, count=count, length=LENGTH, seed=seed)
    torch.save(tokens, path)
    return tokens


def run(
    python: str, code: str, folder: Path, tokens: Path, out: Path, given: dict[str, Any], *, source: Path | None = None
) -> dict[str, Any]:
    """Run code in a process of its own and return what it used; its own noise goes to stderr.

    `source` is the top folder of another build of regrow to run it with.
    """
    here = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    if source is not None:
        here["PYTHONPATH"] = str(source.resolve() / "src")
    elif python != sys.executable:
        here.pop("PYTHONPATH", None)
    command = [python, "-c", COMMON + code, *map(str, (folder, tokens, out)), json.dumps(given)]
    subprocess.run(command, check=True, env=here, stdout=sys.stderr)
    used: dict[str, Any] = json.loads(out.with_name(out.name + ".json").read_text())
    return used
