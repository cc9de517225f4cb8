"""A tiny model of every family, pruned in depth and in width, loaded by other programs.

    python -m benchmarks.serving.families --loads llama.cpp
    python -m benchmarks.serving.families --loads vllm --vllm-python /opt/vllm/bin/python [FAMILY ...]

The random models of the tests (`tests/models/tiny_families.py`) with heads of 32 channels, which vLLM takes on a CPU.
A block goes, and every width that the family lets go: channels, feed-forward, or experts. Prints what each program made
of it, and the limits that are known by shape and are more than a note.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.serving.loads import cell, print_reasons

from regrow.errors import InputError
from regrow.families import FAMILIES
from regrow.models import architecture_of
from regrow.pruning.prune import prune
from regrow.pruning.spec import PruneSpec
from regrow.serving.loads import check_loads

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "models"))
from tiny_families import make_plain

SIZES = {"vocab_size": 96, "hidden_size": 128, "intermediate_size": 96, "head_dim": 32, "max_position_embeddings": 128}


def pruned(model_type: str, work: Path) -> Path:
    """The folder of a model of the family without a block and with narrower ones."""
    model = make_plain(model_type, **SIZES)
    model.save_pretrained(work / "whole")
    arch = architecture_of(model)
    depth = PruneSpec(method="depth", shape={"layers": 2}, scorer="random")
    prune(work / "whole", depth, calibration=None, out=work / "cut")
    shape = {"hidden": 64, "kv_heads": 1} if arch.square else {"hidden": 96}
    method = "experts" if arch.experts else "width"
    shape = {"experts": 4} if arch.experts else {**shape, "intermediate": 72}
    narrow = PruneSpec(method=method, shape=shape, scorer="random")
    prune(work / "cut", narrow, calibration=None, out=work / "both")
    return work / "both"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(FAMILIES), help="transformers' names; default: all")
    parser.add_argument("--loads", default="llama.cpp", help="programs, separated by commas")
    parser.add_argument("--vllm-python", type=Path, help="the Python of the environment that has vLLM")
    parser.add_argument("--tokens", type=int, default=16, help="picked after each of six prompts")
    options = parser.parse_args()
    runtimes = options.loads.split(",")
    print(f"| family | {' | '.join(runtimes)} |\n|---|{'---|' * len(runtimes)}")
    for model_type in options.families:
        with tempfile.TemporaryDirectory() as work:
            python = options.vllm_python if "vllm" in runtimes else None
            try:
                found = check_loads(pruned(model_type, Path(work)), runtimes, tokens=options.tokens, vllm_python=python)
            except InputError as error:
                print(f"| {model_type} | {error} |", flush=True)
                continue
            print(f"| {model_type} | {' | '.join(map(cell, found))} |", flush=True)
            print_reasons(found)


if __name__ == "__main__":
    main()
