"""What pruning costs against the size of the model: seconds and peak memory for random weights of several sizes.

    python -m benchmarks.pruning.cost [--sizes 0.1B,0.3B,1B,3B] [--scorer wanda] [--samples 8] [--length 256]
    python -m benchmarks.pruning.cost --device cuda --sizes 1B,3B,8B --samples 32 --length 512

The weights are random bfloat16 numbers written tensor by tensor into a temporary folder (6 GB for 3B, 16 for 8B), so
that this script never holds a model either. Each size is pruned to 2:4 from disk to disk in a process of its own:
`seconds` and `CPU` are wall time and processor time of the call, `peak` the process's largest resident size, `above
start` that less what it held before the call (Python, torch, transformers), `device` the most that was allocated on
the GPU, `estimate` what was said before (of the device where there is one), `block` the size of one decoder block as
it is computed, in float32 on a CPU and as stored on a GPU. Below the table: the slope in parameters, and what it says
of 8B and 70B. A last line says on what it ran.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from benchmarks.training.common import machine
from transformers import LlamaConfig

from regrow.arch import Architecture, catalog
from regrow.models.config_file import skeleton_of
from regrow.models.shards import ShardWriter
from regrow.pruning.estimate import estimate_for
from regrow.pruning.scorers import scorers_of
from regrow.pruning.spec import PruneSpec

#: Shapes in the proportions of public models of about these sizes (SmolLM2-135M and -360M, Llama-3.2-1B and -3B),
#: with a vocabulary of 32768; Llama-3.1-8B's as it is.
SHAPES = {
    "0.1B": {"hidden": 576, "intermediate": 1536, "layers": 30, "heads": 9, "kv": 3, "head_dim": 64},
    "0.3B": {"hidden": 960, "intermediate": 2560, "layers": 32, "heads": 15, "kv": 5, "head_dim": 64},
    "1B": {"hidden": 2048, "intermediate": 8192, "layers": 16, "heads": 32, "kv": 8, "head_dim": 64},
    "3B": {"hidden": 3072, "intermediate": 8192, "layers": 28, "heads": 24, "kv": 8, "head_dim": 128},
    "8B": {"hidden": 4096, "intermediate": 14336, "layers": 32, "heads": 32, "kv": 8, "head_dim": 128, "vocab": 128256},
}

CHILD = """
import json, sys, time, numpy, torch
from regrow.data import Blocks
from regrow.pruning import PruneSpec
from regrow.pruning.prune import prune
folder, scorer, samples, length, device = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
tokens = numpy.random.default_rng(0).integers(0, 32768, (samples, length)).astype("int32")
blocks = Blocks(tokens=tokens, documents=1, fingerprint="random")
spec = PruneSpec(method="2:4", scorer=scorer, calibration_blocks=samples, calibration_length=length)
def peak():
    # not getrusage, whose peak starts at that of the process that started this one (Linux)
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
if device != "cpu":
    torch.zeros(1, device=device)
start, began, cpu = peak(), time.perf_counter(), time.process_time()
prune(folder, spec, calibration=blocks, out=folder + "-pruned", device=device)
used = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "peak": peak(), "start": start}
used["device"] = 0 if device == "cpu" else torch.cuda.max_memory_allocated(device)
print(json.dumps(used))
"""


def write_random(folder: Path, shape: dict[str, int], device: str) -> Architecture:
    """A Llama checkpoint of this shape with random weights, made on the device a tensor at a time."""
    config = LlamaConfig(
        vocab_size=shape.get("vocab", 32768),
        hidden_size=shape["hidden"],
        intermediate_size=shape["intermediate"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv"],
        head_dim=shape["head_dim"],
        tie_word_embeddings="vocab" not in shape,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    folder.mkdir()
    config.save_pretrained(folder)
    layout = {
        name: torch.empty(p.shape, dtype=torch.bfloat16, device="meta")
        for name, p in skeleton_of(config).named_parameters()
    }
    with ShardWriter(folder, layout, max_shard_bytes=2 * 10**9) as writer:
        for name, tensor in layout.items():
            spread = 1 / math.sqrt(tensor.shape[-1]) if tensor.ndim > 1 else 0.0
            random = torch.randn(tensor.shape, device=device)
            writer.write(name, random.mul_(spread).add_(float(tensor.ndim == 1)).bfloat16())
    return Architecture.from_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="0.1B,0.3B,1B,3B", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--scorer", default="wanda", choices=[scorer.name for scorer in scorers_of("N:M")])
    parser.add_argument("--samples", type=int, default=8, help="calibration samples")
    parser.add_argument("--length", type=int, default=256, help="tokens in a sample")
    parser.add_argument("--device", default="cpu", help="where blocks are run")
    asked = parser.parse_args()
    gpu = asked.device != "cpu"
    print(f"2:4 by {asked.scorer}, {asked.samples} samples of {asked.length} tokens\n")
    print("| parameters | seconds | CPU | peak GB | above start GB | device GB | estimate GB | block GB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    sizes, spent = [], []
    spec = PruneSpec(method="2:4", scorer=asked.scorer)
    options = {"samples": asked.samples if spec.needs_calibration else 0, "length": asked.length}
    # a GPU computes in the stored type
    options["compute_bytes"] = 2 if gpu else 4
    for size in asked.sizes.split(","):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            arch = write_random(folder, SHAPES[size], asked.device)
            given = map(str, (folder, asked.scorer, asked.samples, asked.length, asked.device))
            command = [sys.executable, "-c", CHILD, *given]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ, text=True)
        used = json.loads(done.stdout.splitlines()[-1])
        expected = estimate_for(arch, spec, **options).total
        print(
            f"| {arch.params / 1e9:.3f}B | {used['seconds']:.0f} | {used['cpu']:.0f} | {used['peak'] / 1e9:.2f} "
            f"| {(used['peak'] - used['start']) / 1e9:.2f} | {used['device'] / 1e9:.2f} | {expected / 1e9:.2f} "
            f"| {options['compute_bytes'] * arch.block_params / 1e9:.2f} |",
            flush=True,
        )
        sizes.append(arch.params)
        spent.append(used["seconds" if gpu else "cpu"])
    if len(sizes) > 1:
        slope = statistics.linear_regression([math.log(n) for n in sizes], [math.log(t) for t in spent]).slope
        what = "Seconds" if gpu else "CPU seconds"
        print(f"\n{what} grow with the parameters to the power of {slope:.2f} over these sizes.")
        for name in ("Llama-3.1-8B", "Llama-3.1-70B"):
            arch = catalog()[name]
            seconds = spent[-1] * (arch.params / sizes[-1]) ** slope
            memory = estimate_for(arch, spec, **options).total
            took = f"{seconds / 60:.1f} minutes" if gpu else f"{seconds / 3600:.1f} CPU hours"
            print(f"{name}: about {took} by that, and {memory / 1e9:.1f} GB by the estimate.")
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
