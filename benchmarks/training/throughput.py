"""Training speed of regrow against a bare PyTorch loop of the same step, in pairs in one run.

    python -m benchmarks.training.throughput [--model tiny-llama-3m] [--pairs 5] [--steps 20]
    python -m benchmarks.training.throughput --model smollm2 --pairs 3 --steps 2 --batch-tokens 1024 --cpu-time
    python -m benchmarks.training.throughput --catalog Llama-3.2-1B --batch-tokens 65536 --sequence-length 2048 \
        --micro-batch 8 --gpu h100 --trainer
    python -m benchmarks.training.throughput --against CHECKOUT

Both start from the same weights, see the same batches, compute in the same precision with fused AdamW and clip the
gradient; the bare loop has nothing else in it. Each measurement is a process of its own, as memory that one has freed
would serve the next. Steps are timed from the first batch to the end of the last step, after one that is not timed;
loading, evaluations and checkpoints are left out. The ratio is taken pair by pair, which holds when the machine's speed
drifts; on a machine that is shared, `--cpu-time` counts processor seconds in place of the clock's (use it with
OMP_NUM_THREADS=1 and without a GPU). `--trainer` adds `transformers.Trainer` with its own defaults, `--against` regrow
of another checkout (`git worktree add ../then COMMIT`). With `--gpu` the model FLOPs utilisation is printed, of that
GPU's dense bf16 peak. `--catalog` takes random weights in the shape of a public model.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.training.common import ladder_blocks, machine, model_folder, table

from regrow.data import BlockOrder, Blocks
from regrow.models.load import load_model, quiet
from regrow.planning.cost import find_gpu
from regrow.runs import CONTROL, RunRecord
from regrow.training import TrainSpec
from regrow.training.counts import training_flops_per_token
from regrow.training.inputs import RunInputs
from regrow.training.precision import resolve_precision
from regrow.training.run import train_model

HERE = Path(__file__).resolve().parents[2]


def bare_loop(model: Any, blocks: Blocks, spec: TrainSpec, device: torch.device) -> float:
    """Tokens per second of a plain training loop."""
    model.to(device).train()
    bf16 = resolve_precision(spec.precision, device) == "bf16"
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=spec.learning_rate, betas=spec.betas, weight_decay=spec.weight_decay, fused=True
    )
    micro = spec.micro_batch_blocks or spec.batch_blocks
    accumulate = spec.batch_blocks // micro
    order, position = BlockOrder(blocks=len(blocks), seed=spec.seed), 0
    _wait(device)
    start = time.perf_counter()
    for _ in range(spec.steps):
        for _ in range(accumulate):
            rows = np.stack([blocks.tokens[order[i]] for i in range(position, position + micro)])
            position += micro
            ids = torch.from_numpy(rows.astype(np.int64)).to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                logits = model(input_ids=ids, use_cache=False).logits
            flat = logits[:, :-1].float().flatten(0, 1)
            (torch.nn.functional.cross_entropy(flat, ids[:, 1:].flatten()) / accumulate).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    _wait(device)
    return spec.steps * spec.batch_tokens / (time.perf_counter() - start)


def regrow_run(model: Any, blocks: Blocks, held_out: Blocks, spec: TrainSpec) -> float:
    """Tokens per second of `train_model`, as its record says."""
    record = RunRecord(
        run="r",
        family="f",
        method=CONTROL,
        params_before=1,
        params_after=1,
        pruning_rate=0,
        loss_before=1,
        spec=spec.to_dict(),
    )
    with tempfile.TemporaryDirectory() as out:
        inputs = RunInputs(model=model, train=blocks, held_out=held_out)
        run = train_model(inputs, spec=spec, record=record, out=Path(out) / "r")
    return float(run.details["tokens_per_second"])


def plain_trainer(model: Any, blocks: Blocks, spec: TrainSpec, device: torch.device) -> float:
    """Tokens per second of transformers.Trainer as it comes, bf16 where that is fast."""
    from transformers import Trainer, TrainingArguments

    micro = spec.micro_batch_blocks or spec.batch_blocks
    rows = blocks.tokens[: spec.steps * spec.batch_blocks]
    data: Any = [{"input_ids": torch.tensor(row).long(), "labels": torch.tensor(row).long()} for row in rows]
    with tempfile.TemporaryDirectory() as out, quiet():
        arguments = TrainingArguments(
            output_dir=out,
            max_steps=spec.steps,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=spec.batch_blocks // micro,
            learning_rate=spec.learning_rate,
            bf16=resolve_precision(spec.precision, device) == "bf16",
            use_cpu=device.type == "cpu",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        done = Trainer(model=model, args=arguments, train_dataset=data).train()
    return spec.steps * spec.batch_tokens / done.metrics["train_runtime"]


#: The loops that are timed, by name; regrow's own also reads a held-out loss.
CONTESTANTS: dict[str, Any] = {"bare": bare_loop, "trainer": plain_trainer, "regrow": regrow_run}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def make_model(options: argparse.Namespace, folder: str) -> Any:
    """A fresh copy of the model, fp32."""
    if options.catalog is None:
        return load_model(folder, dtype=torch.float32)
    from importlib.resources import files

    from transformers import AutoConfig, AutoModelForCausalLM

    entries = json.loads(files("regrow").joinpath("catalog.json").read_text())["models"]
    config = dict(entries[options.catalog]["config"])
    torch.manual_seed(0)
    # made where it will run: a CPU takes longer to draw the numbers than a GPU takes for the steps
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llama-3m", help="a ladder model, a checkpoint folder, or smollm2")
    parser.add_argument("--catalog", help="random weights in the shape of a catalogue entry, such as Qwen2.5-0.5B")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--sequence-length", type=int, default=256)
    parser.add_argument("--micro-batch", type=int)
    parser.add_argument("--trainer", action="store_true", help="also transformers.Trainer with its defaults")
    parser.add_argument("--against", type=Path, help="also regrow of this other checkout")
    parser.add_argument("--gpu", help="print the share of this GPU's peak")
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds, not the clock's")
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def compete(options: argparse.Namespace) -> None:
    """Run one contestant in this process and print its tokens per second, peak memory (GiB) and FLOPs per token."""
    if options.cpu_time:
        time.perf_counter = time.process_time
    folder = model_folder("tiny-llama-0.2m" if options.catalog else options.model)
    blocks = ladder_blocks(folder, "post_train", options.sequence_length)
    held_out = ladder_blocks(folder, "held_out", options.sequence_length).sample(1, seed=0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def speed(steps: int) -> float:
        tokens = steps * options.batch_tokens
        spec = TrainSpec(
            tokens=tokens,
            batch_tokens=options.batch_tokens,
            sequence_length=options.sequence_length,
            micro_batch_blocks=options.micro_batch,
            eval_at=(tokens,),
            save_every_tokens=0,
        )
        model = make_model(options, folder)
        if options.only == "regrow":
            return regrow_run(model, blocks, held_out, spec)
        return CONTESTANTS[options.only](model, blocks, spec, device)

    speed(1)
    gc.collect()
    found = speed(options.steps)
    cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    flops = training_flops_per_token(make_model(options, folder), None, options.sequence_length)
    print(json.dumps([found, peak / 2**30, flops]))


def measure(name: str, checkout: Path | None) -> tuple[float, float, float | None]:
    """What `compete` prints of a contestant, in a process of its own."""
    paths = [str(HERE), *([] if checkout is None else [str(checkout.resolve() / "src")])]
    path = os.pathsep.join([*reversed(paths), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "benchmarks.training.throughput", *sys.argv[1:], "--only", name]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    options = options_of()
    if options.only:
        compete(options)
        return
    sides: dict[str, tuple[str, Path | None]] = {"bare loop": ("bare", None), "regrow": ("regrow", None)}
    if options.against:
        sides["regrow, other build"] = ("regrow", options.against)
    if options.trainer:
        sides["Trainer's defaults"] = ("trainer", None)
    found: dict[str, list[tuple[float, float, float | None]]] = {name: [] for name in sides}
    for pair in range(options.pairs):
        for name in list(sides)[:: 1 if pair % 2 == 0 else -1]:  # neither always comes second
            found[name].append(measure(*sides[name]))
    print(f"{options.catalog or options.model}, {options.pairs} pairs of {options.steps} steps, {machine()}")
    rows = []
    for name, results in found.items():
        ratio = statistics.median(a[0] / b[0] for a, b in zip(results, found["bare loop"], strict=True))
        speed, memory = (statistics.median(result[i] for result in results) for i in (0, 1))
        flops = results[0][2]
        mfu = f"{speed * flops / find_gpu(options.gpu).peak_flops:.3f}" if options.gpu and flops else "-"
        rows.append([name, f"{speed:,.0f}", f"{ratio:.3f}", mfu, f"{memory:.2f}"])
    table(["", "tokens/s (median)", "of the bare loop (median of pairs)", "MFU", "peak GiB"], rows)


if __name__ == "__main__":
    main()
