"""A model pruned by every method, loaded by other programs: do they give transformers' greedy tokens?

    python -m benchmarks.serving.loads tiny-llama-0.6m --loads transformers,gguf,llama.cpp
    python -m benchmarks.serving.loads $(python -m benchmarks.models.smollm2) --vllm-python /opt/vllm/bin/python

Parts are removed at random, but for depth+width, which chooses its mix on text: what is tested is the shape that comes
out, not what the model still knows. A width is also made that 32 does not divide. Prints a table, and the limits known
by shape that are more than a note.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from regrow.ladder import find_corpus, find_model
from regrow.models.folder import open_checkpoint
from regrow.pruning.joint import prune_jointly
from regrow.pruning.joint_spec import JointSpec
from regrow.pruning.prune import prune
from regrow.pruning.spec import PruneSpec
from regrow.serving.constraints import RUNTIMES
from regrow.serving.loads import Loaded, check_loads


def prunings(folder: str) -> dict[str, PruneSpec | JointSpec]:
    """What is done to the model, by its name in the table."""
    arch = open_checkpoint(Path(folder)).arch
    narrow = {"hidden": arch.hidden - 2 * arch.heads, "intermediate": arch.intermediate - 38}
    heads = {"kv_heads": arch.kv_heads - 1} if arch.kv_heads > 1 else {}
    specs = {
        "depth": PruneSpec(method="depth", rate=0.2, scorer="random"),
        "width": PruneSpec(method="width", rate=0.2, scorer="random"),
        f"width to {narrow['hidden']:,} and {narrow['intermediate']:,}": PruneSpec(
            method="width", shape=narrow, scorer="random"
        ),
        "KV groups": PruneSpec(method="width", shape=heads, scorer="random") if heads else None,
        "experts": PruneSpec(method="experts", rate=0.2, scorer="random") if arch.experts else None,
        "2:4": PruneSpec(method="2:4", scorer="magnitude"),
        "depth+width": JointSpec(rate=0.3, mixes=3, calibration_blocks=4, calibration_length=256),
    }
    return {name: spec for name, spec in specs.items() if spec is not None}


def cell(found: Loaded) -> str:
    """What one program made of a model, for the table."""
    if found.agreement is None:
        return found.status
    agreed = f"{found.agreement.equal} of {found.agreement.compared}"
    return agreed if found.status == "loads" else f"{found.status}, {agreed}"


def print_reasons(found: list[Loaded]) -> None:
    """Below a row: what stands against serving the model, and why a program failed."""
    for loaded in found:
        against = [f"{limit.kind}: {limit.what}" for limit in loaded.limits if limit.kind != "note"]
        for line in [*against, *(loaded.how if loaded.status == "fails" else ())]:
            print(f"  {loaded.runtime}: {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny-llama-0.6m", help="a folder or a ladder model")
    parser.add_argument("--loads", default=",".join(RUNTIMES), help="programs, separated by commas")
    parser.add_argument("--vllm-python", type=Path, help="the Python of the environment that has vLLM")
    parser.add_argument("--dtype", default="fp32", help="of the weights when answers are compared")
    parser.add_argument("--tokens", type=int, default=16, help="picked after each of six prompts")
    options = parser.parse_args()
    folder, runtimes = find_model(options.model), options.loads.split(",")
    print(f"| pruned by | parameters | {' | '.join(runtimes)} |\n|---|---|{'---|' * len(runtimes)}")
    with tempfile.TemporaryDirectory() as work:
        for number, (name, spec) in enumerate(prunings(folder).items()):
            out = Path(work) / str(number)
            if isinstance(spec, JointSpec):
                prune_jointly(folder, spec, calibration=find_corpus("ladder", "train"), out=out)
            else:
                prune(folder, spec, calibration=None, out=out)
            found = check_loads(
                out, runtimes, dtype=options.dtype, tokens=options.tokens,
                vllm_python=options.vllm_python if "vllm" in runtimes else None,
            )  # fmt: skip
            params = open_checkpoint(out).arch.params
            print(f"| {name} | {params / 1e6:.2f}M | {' | '.join(map(cell, found))} |", flush=True)
            print_reasons(found)


if __name__ == "__main__":
    main()
