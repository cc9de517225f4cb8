"""What `--lr-probe` finds on a pruned ladder model, and what the run is worth at that rate and at others.

    python -m benchmarks.training.rates [--model tiny-llama-0.6m] [--rate 0.25] [--tokens 100k] [--probe 20k]

A ladder model is pruned in depth. `regrow train` probes a rate around the default for its size on a few thousand tokens
each; then the whole run is trained at the found rate, at three times and a third of it, and at the default. Prints the
probe's losses and the final ones: what the probe's choice cost against the best of them.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.training.common import machine, model_folder, prune_depth, table

from regrow.arch import Architecture
from regrow.ladder import find_corpus
from regrow.training import TrainSpec
from regrow.training.learning_rate import default_learning_rate
from regrow.training.post_train import post_train
from regrow.units import parse_count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llama-0.6m")
    parser.add_argument("--rate", type=float, default=0.25)
    parser.add_argument("--tokens", default="100k")
    parser.add_argument("--probe", default="20k")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pruned = prune_depth(model_folder(options.model), options.rate, folder / "pruned")
        default = default_learning_rate(Architecture.from_pretrained(pruned).params)
        tokens = parse_count(options.tokens)
        spec = TrainSpec(tokens=tokens, learning_rate=default, eval_at=(tokens,), save_every_tokens=0)
        text = {"data": find_corpus("ladder", "post_train"), "held_out": find_corpus("ladder", "held_out")}
        probed = post_train(pruned, spec=spec, out=folder / "probed", lr_probe=parse_count(options.probe), **text)
        found = probed.details["lr_probe"]
        chosen = found["learning_rate"]
        ends = {chosen: probed.curve[-1].loss}
        for rate in dict.fromkeys((default, chosen * 3, chosen / 3)):
            if rate not in ends:
                ask = replace(spec, learning_rate=rate)
                run = post_train(pruned, spec=ask, out=folder / f"{rate:g}", loss_before=probed.loss_before, **text)
                ends[rate] = run.curve[-1].loss
    print(f"{options.model} pruned in depth at {options.rate:g}, {options.tokens} tokens, {machine()}")
    print(f"unpruned {probed.loss_before:.4f}, pruned {probed.curve[0].loss:.4f} nats/token")
    print(f"the default for its size is {default:g}, the probe of {found['tokens']:,} tokens a rate chose {chosen:g}\n")
    tried = dict(found["losses"])
    rows = []
    for rate in sorted({*tried, *ends}):
        notes = ["default"] * (rate == default) + ["chosen"] * (rate == chosen)
        notes += ["chosen x 3"] * (rate == chosen * 3) + ["chosen / 3"] * (rate == chosen / 3)
        rows.append([f"{rate:.3g}", _loss(tried.get(rate)), _loss(ends.get(rate)), ", ".join(notes)])
    table(["learning rate", "loss after the probe", "loss after the run", ""], rows)
    print(f"\nthe chosen rate ends {ends[chosen] - min(ends.values()):.4f} nats above the best of these runs")


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    main()
