"""regrow's pruning beside specialists: the same model, calibration tokens and evaluation, one table.

    python -m benchmarks.pruning.peers --llmcompressor VENV --optipfair VENV [--model DIR] [--blocks 16]

Each peer lives in a virtual environment of its own (`python -m venv VENV; VENV/bin/pip install llmcompressor`, and
`optipfair` likewise); one that is not given is left out. Every method runs in a process of its own and is timed twice,
the same way for all: `call` is the pruning of a model in memory that leaves one in memory, `disk` the way from a
checkpoint folder to a checkpoint folder, loading and saving included; imports are in neither. Seconds are wall time,
`CPU` processor time, the one to compare on a machine that others use too; `peak` is the process's largest resident size
on the way from disk to disk.

The protocol: float32 weights everywhere; `--blocks` blocks of 512 tokens from the first 400 documents of the embedded
corpus's training split; the held-out loss on `--held-out` blocks of 512 tokens of the first 400 of its held-out split,
read by plain transformers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from benchmarks.models.smollm2 import smollm2
from benchmarks.pruning.common import LENGTH, OURS, run, save_tokens, texts

from regrow.data import Blocks
from regrow.evaluation import evaluate
from regrow.models import count_nonzero, load_model, load_tokenizer, save_checkpoint

PEER = """
from transformers import AutoModelForCausalLM, PreTrainedModel
def peer(work):
    mark("start")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    mark("loaded")
    result = work(model)
    mark("pruned")
    # by transformers itself: whatever a peer puts in its place only adds to this
    PreTrainedModel.save_pretrained(result, out, state_dict=result.state_dict())
    mark("end")
    span("call", "loaded", "pruned")
    span("disk", "start", "end")
    peak()
    used()
"""

LLMCOMPRESSOR = (
    PEER
    + """
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
data = Dataset.from_dict({"input_ids": tokens.tolist(), "attention_mask": torch.ones_like(tokens).tolist()})
modifier = {"sparsegpt": SparseGPTModifier, "wanda": WandaPruningModifier}[given["scorer"]]
recipe = modifier(sparsity=0.5, mask_structure=given["method"], ignore=["re:.*lm_head"])
def work(model):
    oneshot(
        model=model, dataset=data, recipe=recipe, max_seq_length=tokens.shape[1], num_calibration_samples=len(tokens),
        shuffle_calibration_samples=False, batch_size=1,
    )
    return model
peer(work)
"""
)

OPTIPFAIR = (
    PEER
    + """
import optipfair
from optipfair.pruning.depth import analyze_layer_importance
data = [{"input_ids": batch} for batch in tokens.split(1)]
def work(model):
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
peer(work)
"""
)


def row(name: str, out: Path, used: dict[str, dict[str, float]], held_out: Blocks, before: int) -> None:
    """Evaluate what a method left in `out`, and print its row."""
    model = load_model(out, dtype=torch.float32)
    loss, rate = evaluate(model, held_out, batch_size=4).loss, 1 - count_nonzero(model) / before
    spans = [f"{used[span][unit]:.1f}" for span in ("call", "disk") for unit in ("cpu", "seconds")]
    print(f"| {name} | {loss:.4f} | {rate:.4f} | {' | '.join(spans)} | {used['peak'] / 1e9:.2f} |", flush=True)


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
    parser.add_argument("--seed", type=int, default=0, help="draws the calibration blocks")
    asked = parser.parse_args()
    source = asked.model or smollm2()
    tokenizer = load_tokenizer(source)
    train, held_out = texts(tokenizer, held_out=asked.held_out)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        model = load_model(source, dtype=torch.float32)
        before, config = model.num_parameters(), model.config
        folder = save_checkpoint(model, tokenizer, work / "float32")
        save_tokens(train, asked.blocks, work / "tokens.pt", seed=asked.seed)
        loss = evaluate(model, held_out, batch_size=4)
        del model
        print(f"{loss.tokens} held-out tokens, {asked.blocks * LENGTH} calibration tokens, context {LENGTH}\n")
        print("| method | held-out loss | rate | call CPU | call s | disk CPU | disk s | peak GB |")
        print(f"|---|---|---|---|---|---|---|---|\n| unpruned | {loss.loss:.4f} | 0 | | | | | |", flush=True)

        def measure(name: str, python: str | None, code: str, given: dict[str, object]) -> None:
            if python is not None:
                out = work / name.replace(" ", "-").replace(":", "").replace(",", "")
                row(name, out, run(python, code, folder, work / "tokens.pt", out, given), held_out, before)

        def ours(name: str, given: dict[str, object]) -> None:
            measure(f"regrow {name}", sys.executable, OURS, {**given, "call": True})

        compressor = asked.llmcompressor and f"{asked.llmcompressor}/bin/python"
        optipfair = asked.optipfair and f"{asked.optipfair}/bin/python"
        for scorer in ("wanda", "sparsegpt"):
            if asked.only in (None, scorer):
                given = {"method": "2:4", "scorer": scorer}
                ours(f"2:4 {scorer}", given)
                measure(f"llmcompressor 2:4 {scorer}", compressor, LLMCOMPRESSOR, given)
        if asked.only in (None, "width"):
            width = config.intermediate_size - int(config.intermediate_size * asked.percent / 100)
            shape = {"method": "width", "shape": {"intermediate": width}}
            for scorer in ("activation", "least-squares"):
                ours(f"FFN {width}, {scorer}", {**shape, "scorer": scorer})
            for data in (False, True):
                name = f"optipfair FFN {asked.percent}%, {'weights and data' if data else 'weights'}"
                measure(name, optipfair, OPTIPFAIR, {"percent": asked.percent, "data": data})
        if asked.only in (None, "depth"):
            layers = {"method": "depth", "shape": {"layers": config.num_hidden_layers - asked.layers}}
            ours("depth, block-influence", {**layers, "scorer": "block-influence"})
            for data in (False, True):
                name = f"optipfair depth, {'cosine importance' if data else 'last blocks'}"
                measure(name, optipfair, OPTIPFAIR, {"layers": asked.layers, "data": data})


if __name__ == "__main__":
    main()
