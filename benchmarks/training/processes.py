"""Two processes against one at the same global batch: the curves' largest difference.

    python -m benchmarks.training.processes [--model tiny-llama-0.3m] [--tokens 60k]

The same post-training of a 2:4 pruned ladder model runs in one process, in two that each hold the model (DDP), and in
two that share it out (FSDP2), over gloo on a CPU and nccl on GPUs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.training.common import machine, model_folder, prune_2_4, run_processes, table

from regrow.ladder import find_corpus
from regrow.runs import read_run
from regrow.training import TrainSpec
from regrow.training.post_train import post_train
from regrow.training.spec import parse_eval_at
from regrow.units import parse_count


def train(pruned: str, out: Path, tokens: int, *, shard: bool = False) -> None:
    spec = TrainSpec(
        tokens=tokens,
        warmup_tokens=tokens // 10,
        eval_at=parse_eval_at("linear:5", tokens),
        average="ema:0.9",
        held_out_blocks=48,
        precision="fp32",
    )
    data, held_out = (find_corpus("ladder", split) for split in ("post_train", "held_out"))
    post_train(pruned, data=data, held_out=held_out, spec=spec, out=out, shard=shard)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llama-0.3m")
    parser.add_argument("--tokens", default="60k")
    parser.add_argument("--one-of", nargs=3, help=argparse.SUPPRESS)  # what each of two processes runs
    options = parser.parse_args()
    tokens = parse_count(options.tokens)
    if options.one_of:
        pruned, out, kind = options.one_of
        train(pruned, Path(out), tokens, shard=kind == "sharded")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pruned = prune_2_4(model_folder(options.model), folder / "pruned")
        train(pruned, folder / "one", tokens)
        for kind in ("copied", "sharded"):
            run_processes(
                [
                    "-m",
                    "benchmarks.training.processes",
                    "--tokens",
                    options.tokens,
                    "--one-of",
                    pruned,
                    str(folder / kind),
                    kind,
                ],
                2,
            )
        one, copied, sharded = (read_run(folder / name).curve for name in ("one", "copied", "sharded"))
        print(f"2:4 {options.model}, {machine()}")
        rows = [
            [f"{a.tokens:,}", f"{a.loss:.9f}", f"{b.loss - a.loss:+.1e}", f"{c.loss - a.loss:+.1e}"]
            for a, b, c in zip(one, copied, sharded, strict=True)
        ]
        table(["tokens", "held-out loss, one process", "two copies (DDP)", "shared out (FSDP2)"], rows)
        for what, curve in (("DDP", copied), ("FSDP2", sharded)):
            gaps = [abs(b.loss - a.loss) for a, b in zip(one, curve, strict=True)]
            more = [abs((b.loss_averaged or 0) - (a.loss_averaged or 0)) for a, b in zip(one, curve, strict=True)]
            print(f"{what}: largest difference {max(gaps):.1e} nats/token, on averaged weights {max(more):.1e}")


if __name__ == "__main__":
    main()
