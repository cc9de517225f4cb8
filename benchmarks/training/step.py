"""Where the processor time of a training step goes, and what `torch.compile` and micro-batches make of it.

    python -m benchmarks.training.step [--model tiny-llama-3m] [--batch-tokens 1024] [--steps 20] [--compile]

Medians over the steps, on one thread, fp32, as in a run with the same spec. The products of the table are the
arithmetic of the model, 6 FLOPs for each parameter and token, at the speed of the model's own feed-forward product
alone: no step with these kernels can be faster. `--compile` compiles the model first and says what that took.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from typing import Any

import torch
from benchmarks.training.common import machine, model_folder, table

from regrow.models.load import count_params, load_model
from regrow.models.memory import keep_freed_memory
from regrow.training import TrainSpec
from regrow.training.objective import losses_of
from regrow.training.optimizer import make_optimizer, train_step


def product_speed(model: Any, tokens: int) -> float:
    """FLOP/s of a block's feed-forward product on so many tokens, alone."""
    weight = model.model.layers[0].mlp.gate_proj.weight.detach()
    rows, speeds = torch.randn(tokens, weight.shape[1]), []
    for _ in range(20):
        start = time.process_time()
        for _ in range(10):
            torch.nn.functional.linear(rows, weight)
        speeds.append(20 * tokens * weight.numel() / (time.process_time() - start))
    return statistics.median(speeds)


def phases(model: Any, batch: dict[str, torch.Tensor], spec: TrainSpec, steps: int) -> dict[str, float]:
    """Milliseconds of each part of a step, medians."""
    optimizer, parameters = make_optimizer(model, spec), list(model.parameters())
    took: dict[str, list[float]] = defaultdict(list)
    head: dict[str, float] = {}
    layer = model.get_output_embeddings()
    layer.register_forward_pre_hook(lambda *_: head.update(start=time.process_time()))
    for _ in range(steps + 2):
        marks = [time.process_time()]
        loss, _ = losses_of(model, batch, spec=spec, bf16=False)
        marks += [head["start"], time.process_time()]
        loss.backward()
        marks.append(time.process_time())
        torch.nn.utils.clip_grad_norm_(parameters, spec.max_grad_norm)
        optimizer.step()
        model.zero_grad()
        marks.append(time.process_time())
        names = ("forward pass of the blocks", "output layer and loss", "backward pass", "clip, AdamW, zero")
        for name, start, end in zip(names, marks, marks[1:], strict=False):
            took[name].append(1000 * (end - start))
    return {name: statistics.median(times[2:]) for name, times in took.items()}


def step_time(model: Any, batches: list[dict[str, torch.Tensor]], spec: TrainSpec, steps: int) -> float:
    """Milliseconds of a whole step, median."""
    optimizer, took = make_optimizer(model, spec), []
    for _ in range(steps + 2):
        start = time.process_time()
        train_step(model, optimizer, batches, spec=spec, bf16=False)
        took.append(1000 * (time.process_time() - start))
    return statistics.median(took[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llama-3m", help="a ladder model, a checkpoint folder, or smollm2")
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    ask = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    spec = TrainSpec(tokens=ask.batch_tokens, batch_tokens=ask.batch_tokens, precision="fp32")
    model = load_model(model_folder(ask.model), dtype=torch.float32).train()
    blocks = torch.randint(0, model.config.vocab_size, (spec.batch_blocks, spec.sequence_length))
    found = phases(model, {"input_ids": blocks}, spec, ask.steps)
    total, speed = sum(found.values()), product_speed(model, ask.batch_tokens)
    least = 6000 * count_params(model) * ask.batch_tokens / speed
    print(f"{ask.model}, steps of {ask.batch_tokens:,} tokens, {machine()}, one thread\n")
    rows = [[name, f"{ms:.1f}", f"{ms / total:.2f}"] for name, ms in found.items()]
    rows += [
        ["all", f"{total:.1f}", "1"],
        [f"products alone, {speed / 1e9:.0f} GFLOP/s", f"{least:.1f}", f"{least / total:.2f}"],
    ]
    for parts in (2, spec.batch_blocks):
        batches = [{"input_ids": part} for part in blocks.chunk(parts)]
        ms = step_time(model, batches, spec, ask.steps)
        rows.append([f"{len(batches)} micro-batches", f"{ms:.1f}", f"{ms / total:.2f}"])
    if ask.compile:
        start = time.process_time()
        compiled: Any = torch.compile(model)
        asked = TrainSpec(tokens=ask.batch_tokens, batch_tokens=ask.batch_tokens, precision="fp32", compile=True)
        step_time(compiled, [{"input_ids": blocks}], asked, 1)
        seconds = time.process_time() - start
        ms = step_time(compiled, [{"input_ids": blocks}], asked, ask.steps)
        rows.append([f"compiled, in {seconds:.0f} s", f"{ms:.1f}", f"{ms / total:.2f}"])
    table(["", "ms", "share"], rows)


if __name__ == "__main__":
    main()
