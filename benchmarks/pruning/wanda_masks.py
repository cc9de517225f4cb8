"""Why two Wandas that follow one paper end at slightly different losses: their masks, block by block.

    python -m benchmarks.pruning.wanda_masks --llmcompressor VENV [--model DIR] [--blocks 8]

llmcompressor prunes the model to 2:4. Then regrow's stream walks through *llmcompressor's* pruned blocks, so that each
block meets the very inputs that llmcompressor saw there, and regrow picks that block's masks. Printed per block:
weights, those on which the two differ, and for these the largest share by which the scores of the weight that one keeps
and of the weight that the other keeps are apart. Where that is of the order of float32's rounding (6e-8, times the
thousands of sums behind a norm), the two are ties that rounding settles.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from benchmarks.models.smollm2 import smollm2
from benchmarks.pruning.common import run, save_tokens, texts
from pruning_peers import LLMCOMPRESSOR

from regrow.models import load_model, load_tokenizer, save_checkpoint
from regrow.pruning.semistructured import SquaredNorms, n_m_mask, wanda_score
from regrow.pruning.sparsify import GROUPS, measure_inputs
from regrow.pruning.stream import open_stream


def gap(score: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest relative difference of the scores [out, in] that two masks disagree about, within a group of 4."""
    score, ours, theirs = (tensor.unflatten(1, (-1, 4)).flatten(0, 1) for tensor in (score, ours, theirs))
    rows = (ours != theirs).any(1)
    if not rows.any():
        return 0.0
    # the least that one keeps alone and the largest that the other does: between two masks of a group, by how much the
    # scores would have to move
    mine = score[rows].masked_fill(~(ours & ~theirs)[rows], torch.inf).amin(1)
    other = score[rows].masked_fill(~(theirs & ~ours)[rows], 0).amax(1)
    return ((mine - other).abs() / torch.maximum(mine, other)).max().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llmcompressor", metavar="VENV", required=True)
    parser.add_argument("--model", type=Path, help="a checkpoint folder; default: SmolLM2-135M-Instruct")
    parser.add_argument("--blocks", type=int, default=8, help="calibration blocks of 512 tokens")
    asked = parser.parse_args()
    source = asked.model or smollm2()
    tokenizer = load_tokenizer(source)
    with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
        work = Path(temporary)
        dense = load_model(source, dtype=torch.float32)
        folder = save_checkpoint(dense, tokenizer, work / "float32")
        tokens = save_tokens(texts(tokenizer, held_out=1)[0], asked.blocks, work / "tokens.pt")
        given = {"method": "2:4", "scorer": "wanda"}
        run(f"{asked.llmcompressor}/bin/python", LLMCOMPRESSOR, folder, work / "tokens.pt", work / "peer", given)
        whole, pruned = (open_stream(each, precision="fp32") for each in (folder, work / "peer"))
        hidden = whole.embed(tokens)
        print("| block | weights | differ | largest gap |\n|---|---|---|---|", flush=True)
        for layer, block in whole.blocks():
            measured = measure_inputs(whole, block, hidden, SquaredNorms)
            theirs = pruned.block(layer)
            count = differ = 0
            largest = 0.0
            for linears in GROUPS:
                norms = measured[linears].sums.sqrt().float()
                for name in linears:
                    score = wanda_score(block.get_submodule(name).weight, norms)
                    mine, other = n_m_mask(score, 2, 4), theirs.get_submodule(name).weight != 0
                    count += score.numel()
                    differ += int((mine != other).sum())
                    largest = max(largest, gap(score, mine, other))
            print(f"| {layer} | {count} | {differ} | {largest:.1e} |", flush=True)
            hidden = whole.run(theirs, hidden, out=hidden)


if __name__ == "__main__":
    main()
