"""Held-out loss right after pruning, by method, scorer and rate, on a real model; every result reloaded and used.

    python -m benchmarks.pruning.methods [--model DIR] [--blocks 16] [--held-out 16] [--rates 0.15,0.25,0.35]
    python -m benchmarks.pruning.methods --only 2:4 --scorers wanda,magnitude

The default model is SmolLM2-135M-Instruct (see smollm2.py), a checkpoint of bfloat16 weights. The protocol:
calibration in `--precision`; `--blocks` blocks of 512 tokens of the embedded corpus's training split to calibrate,
`--held-out` blocks of 512 of its held-out split to evaluate, of the first 400 documents of each. Each row is pruned
from disk to disk in a process of its own (`seconds` and `CPU` are wall and processor time of the call, `peak` its
largest resident size) and then reloaded by plain `AutoModelForCausalLM.from_pretrained`: that model's loss is in the
table, its hidden states are compared with a walk through the written files block by block (`differs`: the largest
difference), 2:4 is checked on every matrix, and 20 tokens are generated with the cache (printed below the table).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from benchmarks.models.smollm2 import smollm2
from benchmarks.pruning.common import LENGTH, OURS, run, save_tokens, texts
from transformers import AutoModelForCausalLM, AutoTokenizer

from regrow.data import Blocks
from regrow.evaluation import evaluate
from regrow.models import load_tokenizer
from regrow.models.load import quiet
from regrow.pruning.check import check_checkpoint
from regrow.pruning.scorers import scorers_of
from regrow.pruning.stream import open_stream

PROMPT = "The capital of France is"


@torch.no_grad()
def judge(folder: Path, held_out: Blocks) -> dict[str, object]:
    """Loss, agreement and text of a checkpoint, by plain transformers."""
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.from_numpy(held_out.tokens[:1]).long()
    stream = open_stream(folder, precision="fp32")
    hidden = stream.embed(ids)
    for _, block in stream.blocks():
        hidden = stream.run(block, hidden, out=hidden)
    plain = model.model(input_ids=ids, use_cache=False).last_hidden_state
    prompt = tokenizer(PROMPT, return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=20, do_sample=False, use_cache=True)[0]
    return {
        "loss": evaluate(model, held_out, batch_size=4).loss,
        "params": model.num_parameters(),
        "differs": (stream.norm(hidden) - plain).abs().max().item(),
        "text": tokenizer.decode(written[len(prompt["input_ids"][0]) :]),
    }


def rows(rates: list[float], only: str | None, scorers: str | None = None) -> list[dict[str, object]]:
    """The specs of the table."""
    specs: list[dict[str, object]] = []
    for method in ("depth", "width"):
        for scorer in scorers_of(method):
            specs += [{"method": method, "scorer": scorer.name, "rate": rate} for rate in rates if scorer.reads_text]
    specs += [{"method": "2:4", "scorer": scorer.name} for scorer in scorers_of("N:M")]
    wanted = None if scorers is None else scorers.split(",")
    return [spec for spec in specs if only in (None, spec["method"]) and (wanted is None or spec["scorer"] in wanted)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a checkpoint folder; default: SmolLM2-135M-Instruct")
    parser.add_argument("--blocks", type=int, default=16, help="calibration blocks of 512 tokens")
    parser.add_argument("--held-out", type=int, default=16, help="held-out blocks of 512 tokens")
    parser.add_argument("--rates", default="0.15,0.25,0.35")
    parser.add_argument("--only", choices=("depth", "width", "2:4"), help="one method")
    parser.add_argument("--precision", default="fp32", help="of the passes over text: fp32, bf16 or auto")
    parser.add_argument("--scorers", help="some of them, e.g. block-influence,activation,wanda")
    asked = parser.parse_args()
    folder = asked.model or smollm2()
    tokenizer = load_tokenizer(folder)
    train, held_out = texts(tokenizer, held_out=asked.held_out)
    before = judge(folder, held_out)
    print(f"{held_out.n_tokens - len(held_out)} held-out tokens, {asked.blocks * LENGTH} calibration tokens\n")
    print("| method | scorer | target | rate | held-out loss | seconds | CPU | peak GB | differs |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(f"| unpruned | | | 0 | {before['loss']:.4f} | | | | {before['differs']:.0e} |", flush=True)
    samples = [f"unpruned: {before['text']!r}"]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        save_tokens(train, asked.blocks, work / "tokens.pt")
        for number, spec in enumerate(
            rows([float(rate) for rate in asked.rates.split(",")], asked.only, asked.scorers)
        ):
            out = work / f"pruned-{number}"
            used = run(sys.executable, OURS, folder, work / "tokens.pt", out, {**spec, "precision": asked.precision})
            found = judge(out, held_out)
            plan = json.loads((out / "regrow_prune.json").read_text())["plan"]
            if spec["method"] == "2:4":
                assert not check_checkpoint(out).violations
            rate = spec.get("rate", "")
            print(
                f"| {spec['method']} | {spec['scorer']} | {rate} | {plan['pruning_rate']:.4f} | {found['loss']:.4f} "
                f"| {used['disk']['seconds']:.0f} | {used['disk']['cpu']:.0f} | {used['peak'] / 1e9:.2f} "
                f"| {found['differs']:.0e} |",
                flush=True,
            )
            samples.append(f"{spec['method']} {spec['scorer']} {rate}: {found['text']!r}")
    print(f"\n20 tokens after {PROMPT!r}, greedy:\n")
    print("\n".join(samples))


if __name__ == "__main__":
    main()
