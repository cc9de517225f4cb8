"""The three losses of a milestone on the ladder: raw, of averaged weights, and after a cool-down.

    python -m benchmarks.training.losses [--model tiny-llama-0.3m] [--rate 0.2] [--tokens 200k] [--lr 1e-3]

Post-trains the unpruned model (the control) and the same one pruned in width at a constant rate, and reads all three at
every milestone.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.training.common import machine, model_folder, prune_width, table

from regrow.ladder import find_corpus
from regrow.training import TrainSpec
from regrow.training.post_train import post_train
from regrow.training.spec import parse_eval_at
from regrow.units import parse_count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llama-0.3m")
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--tokens", default="200k")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--average", default="ema:0.95")
    parser.add_argument("--cooldown", default="20k")
    options = parser.parse_args()
    tokens, model = parse_count(options.tokens), model_folder(options.model)
    spec = TrainSpec(
        tokens=tokens,
        learning_rate=options.lr,
        eval_at=parse_eval_at("linear:5", tokens),
        average=options.average,
        cooldown_tokens=parse_count(options.cooldown),
        save_every_tokens=0,
    )
    data, held_out = (find_corpus("ladder", split) for split in ("post_train", "held_out"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        smaller = prune_width(model, options.rate, folder / "pruned")
        control, pruned = (
            post_train(source, data=data, held_out=held_out, spec=spec, out=folder / name, original=original)
            for source, name, original in ((model, "control", None), (smaller, "run", model))
        )
    print(f"{options.model}, width at {options.rate:g}, rate {options.lr:g}, {options.average}, {machine()}")
    rows = []
    for a, b in zip(control.curve, pruned.curve, strict=True):
        found = [a.loss, a.loss_averaged, a.loss_cooled, b.loss, b.loss_averaged, b.loss_cooled]
        rows.append([f"{a.tokens:,}", *("-" if value is None else f"{value:.4f}" for value in found)])
    kinds = ("raw", "averaged", "cooled")
    table(["tokens", *(f"control, {k}" for k in kinds), *(f"pruned, {k}" for k in kinds)], rows)


if __name__ == "__main__":
    main()
