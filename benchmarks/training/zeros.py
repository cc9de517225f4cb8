"""2:4 zeros of a real model, before and after everything that could lose them.

    python -m benchmarks.training.zeros [--model smollm2] [--steps 2] [--batch-tokens 512]

Prunes the model to 2:4 by magnitude and then trains it: once through, once stopped and resumed, with LoRA and a merge,
and sharded over two processes (FSDP2, gloo on a CPU). Of each saved model it counts the zeros in the blocks' matrices
and those of the pruned model that are no longer zero, and checks the pattern.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmarks.training.common import ladder_blocks, machine, model_folder, prune_2_4, run_processes, table

from regrow.data import read_blocks
from regrow.ladder import find_corpus
from regrow.models.layout import block_weights
from regrow.models.load import load_model, load_tokenizer
from regrow.models.masks import check_pattern, violations, zero_masks
from regrow.runs import RunRecord
from regrow.training import TrainSpec
from regrow.training.inputs import RunInputs
from regrow.training.run import RunOptions, train_model
from regrow.training.signals import RunStopped, StopRequest


class StopAt(StopRequest):
    """Asks to stop after a step, as a signal would."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step, self.signal = step, "SIGTERM"

    def heard(self, step: int, device: torch.device) -> bool:
        return step == self.step


def train(pruned: str, out: Path, options: argparse.Namespace, **how: Any) -> RunRecord:
    model = load_model(pruned, dtype=torch.float32)
    masks = zero_masks(model, n=2, m=4)
    spec = TrainSpec(
        tokens=options.steps * options.batch_tokens,
        batch_tokens=options.batch_tokens,
        learning_rate=1e-4,
        eval_at=(options.steps * options.batch_tokens,),
        lora_rank=how.pop("lora_rank", 0),
    )
    record = RunRecord(
        run=out.name,
        family="f",
        method="2:4",
        params_before=2,
        params_after=1,
        pruning_rate=0.5,
        loss_before=1,
        spec=spec.to_dict(),
    )
    tokenizer = load_tokenizer(pruned)
    held_out = read_blocks(find_corpus("ladder", "held_out"), tokenizer, sequence_length=spec.sequence_length)
    inputs = RunInputs(
        model=model,
        train=ladder_blocks(pruned, "held_out", spec.sequence_length),  # small, and quick to tokenise
        held_out=held_out.sample(2, seed=0),
        masks=masks,
    )
    return train_model(inputs, spec=spec, record=record, out=out, options=RunOptions(**how))


def count(folder: str | Path, masks: dict[str, torch.Tensor]) -> list[str]:
    model = load_model(folder)
    weights = block_weights(model)
    zeros = sum(int((w == 0).sum()) for w in weights.values())
    total = sum(w.numel() for w in weights.values())
    pattern = all(check_pattern(w, 2, 4) for w in weights.values())
    return [f"{zeros:,} of {total:,}", str(sum(violations(model, masks).values())), "yes" if pattern else "NO"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="a ladder model, a checkpoint folder, or smollm2")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("--sharded", nargs=2, help=argparse.SUPPRESS)  # what the two processes run
    options = parser.parse_args()
    if options.sharded:
        train(options.sharded[0], Path(options.sharded[1]), options, shard=True)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pruned = prune_2_4(model_folder(options.model), folder / "pruned")
        masks = zero_masks(load_model(pruned))
        rows = [["pruned, before training", *count(pruned, masks)]]
        train(pruned, folder / "trained", options)
        try:
            train(pruned, folder / "resumed", options, stop=StopAt(1))
        except RunStopped as stopped:
            print(stopped, file=sys.stderr)
        train(pruned, folder / "resumed", options, resume=True)
        run = train(pruned, folder / "merged", options, lora_rank=8)
        again = ["--steps", str(options.steps), "--batch-tokens", str(options.batch_tokens)]
        run_processes(["-m", "benchmarks.training.zeros", "--sharded", pruned, str(folder / "sharded"), *again], 2)
        for name, what in (
            ("trained", "trained"),
            ("resumed", "stopped, resumed"),
            ("merged", "LoRA, merged"),
            ("sharded", "FSDP2 over two processes, saved"),
        ):
            rows.append([what, *count(folder / name / "model", masks)])
        same = [load_model(folder / name / "model").state_dict() for name in ("trained", "resumed")]
        print(f"2:4 {options.model}, {options.steps} steps of {options.batch_tokens} tokens, {machine()}")
        table(["", "zeros in the blocks' matrices", "pruned weights that are not zero", "2:4 everywhere"], rows)
        equal = all(torch.equal(a, b) for a, b in zip(same[0].values(), same[1].values(), strict=True))
        print(f"resumed weights equal the uninterrupted run's to the bit: {equal}")
        kinds = ("lora_loss_adapted", "lora_loss_merged", "lora_masking_cost")
        adapted, merged, cost = (run.details[kind] for kind in kinds)
        print(f"LoRA: held-out {adapted:.4f} with adapters, {merged:.4f} merged and masked; masking costs {cost:.4f}")


if __name__ == "__main__":
    main()
