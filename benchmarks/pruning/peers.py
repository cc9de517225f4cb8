"""regrow's pruning beside specialists: the same model, calibration tokens and evaluation, one table.

    python -m benchmarks.pruning.peers --llmcompressor VENV --optipfair VENV [--model DIR] [--blocks 16]
    python -m benchmarks.pruning.peers --against CHECKOUT --repeats 3      # beside an older build, in turns
    python -m benchmarks.pruning.peers --first 4 --blocks 128 ...          # time alone, of the first decoder blocks

Each peer lives in a virtual environment of its own (`python -m venv VENV; VENV/bin/pip install llmcompressor`, and
`optipfair` likewise); one that is not given is left out. Every method runs in a process of its own and is timed twice,
the same way for all: `call` is the pruning of a model in memory that leaves one in memory, `disk` the way from a
checkpoint folder to a checkpoint folder, loading and saving included; imports are in neither. Seconds are wall time,
`CPU` processor time, the one to compare on a machine that others use too; `peak` is the process's largest resident size
on the way from disk to disk. With `--repeats` all rows of a part are run in turns, and medians are shown. `of peer` and
`of older` are the call's processor time as a share of the peer's with the same weights in float32, and of the older
build's.

The protocol: float32 weights on disk; `--blocks` blocks of 512 tokens from the first 400 documents of the embedded
corpus's training split; the held-out loss on `--held-out` blocks of 512 tokens of the first 400 of its held-out split,
read by plain transformers. regrow runs once with float32 and once with bf16 products (`--precisions`), llmcompressor
with the model in float32, and in bf16 with `--peer-bf16`.

`--quick` times the way from disk to disk alone, and reads no loss; the shares are then those of `disk`. `--first N`
cuts the model to its first N decoder blocks and to the entries of the vocabulary that occur, so that a long text is
timed in minutes. No loss is read then.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from benchmarks.models.smollm2 import smollm2
from benchmarks.pruning.common import LENGTH, OURS, run, save_tokens, texts
from transformers import PreTrainedModel

from regrow.data import Blocks
from regrow.evaluation import evaluate
from regrow.models import count_nonzero, load_model, load_tokenizer, save_checkpoint

PEER = """
from transformers import AutoModelForCausalLM, PreTrainedModel
def peer(work):
    mark("start")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, given.get("dtype", "float32")))
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


@dataclass
class Row:
    """A row of the table: what is run, and what each of its runs used.

    `base` says whether it is the `peer` or the `older` build that others are compared with: all rows of the part with
    the peer, those of the same scorer with the older build.
    """

    name: str
    python: str
    code: str
    given: dict[str, Any]
    source: Path | None = None
    base: str | None = None
    scorer: str | None = None
    used: list[dict[str, Any]] = field(default_factory=list)

    def median(self, span: str, unit: str) -> float:
        return statistics.median(used[span][unit] for used in self.used)


def parts(asked: argparse.Namespace, intermediate: int, layers: int) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each part of the table, by its name."""
    compressor = asked.llmcompressor and f"{asked.llmcompressor}/bin/python"
    optipfair = asked.optipfair and f"{asked.optipfair}/bin/python"

    def ours(name: str, given: dict[str, object]) -> list[Row]:
        call, scorer = {**given, "call": not asked.quick}, str(given["scorer"])
        rows = [
            Row(f"regrow {name}, {precision}", sys.executable, OURS, {**call, "precision": precision}, scorer=scorer)
            for precision in asked.precisions.split(",")
        ]
        if asked.against:
            rows.append(Row(f"older regrow {name}", sys.executable, OURS, call, asked.against, "older", scorer))
        return rows

    for scorer in ("wanda", "sparsegpt"):
        given = {"method": "2:4", "scorer": scorer}
        rows = ours(f"2:4 {scorer}", given)
        if compressor:
            rows.append(Row(f"llmcompressor 2:4 {scorer}", compressor, LLMCOMPRESSOR, given, base="peer"))
            if asked.peer_bf16:
                bf16 = {**given, "dtype": "bfloat16"}
                rows.append(Row(f"llmcompressor 2:4 {scorer}, model in bf16", compressor, LLMCOMPRESSOR, bf16))
        yield scorer, rows
    width = intermediate - int(intermediate * asked.percent / 100)
    shape = {"method": "width", "shape": {"intermediate": width}}
    rows = [
        row
        for scorer in ("activation", "least-squares")
        for row in ours(f"FFN {width}, {scorer}", {**shape, "scorer": scorer})
    ]
    if optipfair:
        for data in (False, True):
            name = f"optipfair FFN {asked.percent}%, {'weights and data' if data else 'weights'}"
            given = {"percent": asked.percent, "data": data}
            rows.append(Row(name, optipfair, OPTIPFAIR, given, base="peer" if data else None))
    yield "width", rows
    rows = ours(
        "depth, block-influence",
        {"method": "depth", "shape": {"layers": layers - asked.layers}, "scorer": "block-influence"},
    )
    if optipfair:
        for data in (False, True):
            name = f"optipfair depth, {'cosine importance' if data else 'last blocks'}"
            given = {"layers": asked.layers, "data": data}
            rows.append(Row(name, optipfair, OPTIPFAIR, given, base="peer" if data else None))
    yield "depth", rows


def shorten(model: PreTrainedModel, tokens: torch.Tensor, blocks: int) -> torch.Tensor:
    """Cut the model to its first decoder blocks and to the text's entries of the vocabulary; returns the new tokens."""
    used, renamed = tokens.unique(return_inverse=True)
    # even, as a number of rows that any kernel takes
    rows = torch.cat([used, used[: -len(used) % 64]])
    embedding = torch.nn.Embedding.from_pretrained(model.get_input_embeddings().weight[rows], freeze=False)
    model.set_input_embeddings(embedding)
    model.config.vocab_size = len(rows)
    model.config.bos_token_id = model.config.eos_token_id = model.config.pad_token_id = None
    model.tie_weights()
    model.model.layers = model.model.layers[:blocks]
    model.config.num_hidden_layers = blocks
    return renamed


def show(rows: list[Row], losses: dict[str, tuple[float, float]], *, quick: bool) -> None:
    """Print the rows of a part."""
    compared = "disk" if quick else "call"
    bases = {(row.base, row.scorer): row.median(compared, "cpu") for row in rows if row.base}
    for row in rows:
        loss, rate = losses.get(row.name, (None, None))
        cells = ["" if value is None else f"{value:.4f}" for value in (loss, rate)]
        for span in ("call", "disk"):
            units = ("cpu", "seconds")
            cells += [f"{row.median(span, unit):.1f}" if span in row.used[0] else "" for unit in units]
        cells.append(f"{statistics.median(used['peak'] for used in row.used) / 1e9:.2f}")
        for base in (("peer", None), ("older", row.scorer)):
            known = base in bases and row.base != base[0]
            cells.append(f"{row.median(compared, 'cpu') / bases[base]:.2f}" if known else "")
        print(f"| {row.name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a checkpoint folder; default: SmolLM2-135M-Instruct")
    parser.add_argument("--llmcompressor", metavar="VENV", help="virtual environment with llmcompressor")
    parser.add_argument("--peer-bf16", action="store_true", help="run llmcompressor on the model in bf16 as well")
    parser.add_argument("--optipfair", metavar="VENV", help="virtual environment with optipfair")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="the top folder of an older build of regrow")
    parser.add_argument("--precisions", default="fp32,bf16", help="matrix products of regrow's passes over text")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each row, in turns")
    parser.add_argument("--blocks", type=int, default=16, help="calibration blocks of 512 tokens")
    parser.add_argument("--held-out", type=int, default=16, help="held-out blocks of 512 tokens")
    parser.add_argument("--percent", type=int, default=20, help="neurons that optipfair removes, in percent")
    parser.add_argument("--layers", type=int, default=6, help="decoder blocks that depth removes")
    parser.add_argument("--only", help="some parts of the table, of wanda, sparsegpt, width, depth")
    parser.add_argument("--quick", action="store_true", help="time the way from disk to disk alone; no loss is read")
    parser.add_argument("--first", type=int, metavar="N", help="time the first N decoder blocks; no loss is read")
    parser.add_argument("--seed", type=int, default=0, help="draws the calibration blocks")
    asked = parser.parse_args()
    source = asked.model or smollm2()
    tokenizer = load_tokenizer(source)
    train, held_out = texts(tokenizer, held_out=asked.held_out)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        model = load_model(source, dtype=torch.float32)
        tokens = save_tokens(train, asked.blocks, work / "tokens.pt", seed=asked.seed)
        if asked.first:
            torch.save(shorten(model, tokens, asked.first), work / "tokens.pt")
        before, config = model.num_parameters(), model.config
        folder = save_checkpoint(model, tokenizer, work / "float32")
        print(f"{tokens.numel()} calibration tokens, context {LENGTH}; median of {asked.repeats}\n")
        print(
            "| method | held-out loss | rate | call CPU | call s | disk CPU | disk s | peak GB | of peer | of older |"
        )
        print(f"|{'---|' * 10}", flush=True)
        if not (asked.first or asked.quick):
            print(f"| unpruned | {evaluate(model, held_out, batch_size=4).loss:.4f} | 0 {'| ' * 7}|", flush=True)
        del model
        for part, rows in parts(asked, config.intermediate_size, config.num_hidden_layers):
            if asked.only and part not in asked.only.split(","):
                continue
            losses = {}
            for turn in range(asked.repeats):
                for number, row in enumerate(rows):
                    out = work / f"{part}-{turn}-{number}"
                    row.used.append(
                        run(row.python, row.code, folder, work / "tokens.pt", out, dict(row.given), source=row.source)
                    )
                    if turn == 0 and not (asked.first or asked.quick):
                        losses[row.name] = judge(out, held_out, before)
            show(rows, losses, quick=asked.quick)


def judge(out: Path, held_out: Blocks, before: int) -> tuple[float, float]:
    """The held-out loss of the model in a folder, and its rate."""
    model = load_model(out, dtype=torch.float32)
    return evaluate(model, held_out, batch_size=4).loss, 1 - count_nonzero(model) / before


if __name__ == "__main__":
    main()
