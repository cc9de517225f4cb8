"""regrow's pruning beside specialists: the same model, calibration tokens and evaluation, one table.

    python benchmarks/pruning_peers.py --llmcompressor VENV --optipfair VENV [--model DIR] [--blocks 16]

Each peer lives in a virtual environment of its own (`python -m venv VENV; VENV/bin/pip install llmcompressor`, and
`optipfair` likewise); one that is not given is left out. Every method runs in a process of its own: `seconds` and `CPU`
are wall time and processor time of the pruning call alone (regrow's from disk to disk, the peers' on a model already
loaded, without saving), `peak` the process's largest resident size. Processor time is the one to compare on a machine
that others use too.

The protocol: float32 weights everywhere; `--blocks` blocks of 512 tokens from the first 400 documents of the embedded
corpus's training split; the held-out loss on `--held-out` blocks of 512 tokens of the first 400 of its held-out split,
read by plain transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from smollm2 import smollm2

from regrow.data import Blocks, read_documents, tokenize
from regrow.evaluation import evaluate
from regrow.ladder import find_corpus
from regrow.models import count_nonzero, load_model, load_tokenizer, save_checkpoint
from regrow.pruning import choose_blocks

LENGTH = 512

#: Documents of each split that are read.
DOCUMENTS = 400

COMMON = """
import json, sys, time, torch
folder, tokens, out, given = sys.argv[1], torch.load(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
def measured(work):
    began, cpu = time.perf_counter(), time.process_time()
    result = work()
    used = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    # not getrusage, whose peak starts at that of the process that started this one (Linux)
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    used["peak"] = int(line.split()[1]) * 1024
    json.dump(used, open(out + ".json", "w"))
    return result
"""

OURS = """
from regrow.data import Blocks
from regrow.pruning import PruneSpec
from regrow.pruning.prune import prune
blocks = Blocks(tokens=tokens.int().numpy(), documents=1, fingerprint="benchmark")
spec = PruneSpec(**given, calibration_blocks=len(tokens), calibration_length=tokens.shape[1])
measured(lambda: prune(folder, spec, calibration=blocks, out=out))
"""

LLMCOMPRESSOR = """
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
data = Dataset.from_dict({"input_ids": tokens.tolist(), "attention_mask": torch.ones_like(tokens).tolist()})
modifier = {"sparsegpt": SparseGPTModifier, "wanda": WandaPruningModifier}[given["scorer"]]
recipe = modifier(sparsity=0.5, mask_structure=given["method"], ignore=["re:.*lm_head"])
measured(lambda: oneshot(
    model=model, dataset=data, recipe=recipe, max_seq_length=tokens.shape[1], num_calibration_samples=len(tokens),
    shuffle_calibration_samples=False, batch_size=given["batch"],
))
torch.save(model.state_dict(), out + ".pt")
"""

OPTIPFAIR = """
import optipfair
from optipfair.pruning.depth import analyze_layer_importance
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
data = [{"input_ids": batch} for batch in tokens.split(1)]
def work():
    if "percent" in given:
        return optipfair.prune_model(
            model, pruning_type="MLP_GLU", neuron_selection_method="MAW", pruning_percentage=given["percent"],
            dataloader=data if given["data"] else None, show_progress=False,
        )
    if not given["data"]:
        return optipfair.prune_model(
            model, pruning_type="DEPTH", num_layers_to_remove=given["layers"], show_progress=False
        )
    scores = analyze_layer_importance(model, data, show_progress=False)
    least = sorted(sorted(scores, key=scores.get)[: given["layers"]])
    return optipfair.prune_model(model, pruning_type="DEPTH", layer_indices=least, show_progress=False)
measured(work).save_pretrained(out)
"""


def run(python: str, code: str, *arguments: object) -> None:
    """Run code in a process of its own; its own noise goes to stderr."""
    here = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    if python != sys.executable:
        here.pop("PYTHONPATH", None)
    command = [python, "-c", COMMON + code, *map(str, arguments)]
    subprocess.run(command, check=True, env=here, stdout=sys.stderr)


def row(name: str, folder: Path, out: Path, held_out: Blocks, before: int) -> dict[str, object]:
    """Evaluate what a method left in `out` (a checkpoint) or `out.pt` (weights of the original's shape)."""
    weights = out.with_name(out.name + ".pt")
    model = load_model(folder if weights.exists() else out, dtype=torch.float32)
    if weights.exists():
        state = torch.load(weights)
        model.load_state_dict({name: tensor for name, tensor in state.items() if not name.endswith("_mask")})
    loss = evaluate(model, held_out, batch_size=4).loss
    used = json.loads(out.with_name(out.name + ".json").read_text())
    found = {"name": name, "loss": loss, "rate": 1 - count_nonzero(model) / before, **used}
    print(
        f"| {name} | {loss:.4f} | {found['rate']:.4f} | {used['seconds']:.0f} | {used['cpu']:.0f} "
        f"| {used['peak'] / 1e9:.2f} |",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a checkpoint folder; default: SmolLM2-135M-Instruct")
    parser.add_argument("--llmcompressor", metavar="VENV", help="virtual environment with llmcompressor")
    parser.add_argument("--optipfair", metavar="VENV", help="virtual environment with optipfair")
    parser.add_argument("--blocks", type=int, default=16, help="calibration blocks of 512 tokens")
    parser.add_argument("--held-out", type=int, default=16, help="held-out blocks of 512 tokens")
    parser.add_argument("--percent", type=int, default=20, help="neurons that optipfair removes, in percent")
    parser.add_argument("--layers", type=int, default=6, help="decoder blocks that depth removes")
    parser.add_argument("--only", choices=("wanda", "sparsegpt", "width", "depth"), help="one part of the table")
    asked = parser.parse_args()
    source = asked.model or smollm2()
    tokenizer = load_tokenizer(source)
    train, held_out = (
        tokenize(read_documents(find_corpus("ladder", split))[:DOCUMENTS], tokenizer, sequence_length=LENGTH)
        for split in ("post_train", "held_out")
    )
    held_out = held_out.sample(asked.held_out, seed=0)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        model = load_model(source, dtype=torch.float32)
        before, config = model.num_parameters(), model.config
        folder = save_checkpoint(model, tokenizer, work / "float32")
        torch.save(choose_blocks(train, count=asked.blocks, length=LENGTH, seed=0), work / "tokens.pt")
        loss = evaluate(model, held_out, batch_size=4)
        del model
        print(f"{loss.tokens} held-out tokens, {asked.blocks * LENGTH} calibration tokens, context {LENGTH}\n")
        print("| method | held-out loss | rate | seconds | CPU | peak GB |\n|---|---|---|---|---|---|")
        print(f"| unpruned | {loss.loss:.4f} | 0 | | | |", flush=True)

        def measure(name: str, python: str | None, code: str, given: dict[str, object]) -> None:
            if python is not None:
                out = work / name.replace(" ", "-").replace(":", "").replace(",", "")
                run(python, code, folder, work / "tokens.pt", out, json.dumps(given))
                row(name, folder, out, held_out, before)

        compressor = asked.llmcompressor and f"{asked.llmcompressor}/bin/python"
        optipfair = asked.optipfair and f"{asked.optipfair}/bin/python"
        for scorer in ("wanda", "sparsegpt"):
            if asked.only in (None, scorer):
                given = {"method": "2:4", "scorer": scorer}
                measure(f"regrow 2:4 {scorer}", sys.executable, OURS, given)
                measure(f"llmcompressor 2:4 {scorer}", compressor, LLMCOMPRESSOR, {**given, "batch": 1})
        if asked.only in (None, "width"):
            width = config.intermediate_size - int(config.intermediate_size * asked.percent / 100)
            shape = {"method": "width", "shape": {"intermediate": width}}
            for scorer in ("activation", "least-squares"):
                measure(f"regrow FFN {width}, {scorer}", sys.executable, OURS, {**shape, "scorer": scorer})
            for data in (False, True):
                name = f"optipfair FFN {asked.percent}%, {'weights and data' if data else 'weights'}"
                measure(name, optipfair, OPTIPFAIR, {"percent": asked.percent, "data": data})
        if asked.only in (None, "depth"):
            layers = {"method": "depth", "shape": {"layers": config.num_hidden_layers - asked.layers}}
            for scorer in ("block-influence", "perplexity"):
                measure(f"regrow depth, {scorer}", sys.executable, OURS, {**layers, "scorer": scorer})
            for data in (False, True):
                name = f"optipfair depth, {'cosine importance' if data else 'last blocks'}"
                measure(name, optipfair, OPTIPFAIR, {"layers": asked.layers, "data": data})


if __name__ == "__main__":
    main()
