"""How fast this hardware trains a model, in about a second: what a plan's time is estimated from."""

from __future__ import annotations

import time

import torch
from transformers import AutoModelForCausalLM

from regrow.arch import Architecture
from regrow.ladder import find_model
from regrow.models.load import quiet, read_config
from regrow.models.memory import free_memory
from regrow.study.cells import Cell
from regrow.training.optimizer import make_optimizer, train_step
from regrow.training.precision import resolve_precision

#: Seconds that the timed steps take at least, and a model's size in bytes a parameter while it trains: weights,
#: gradients and AdamW's two moments, in fp32.
_SECONDS = 1.0
_BYTES = 16


def training_speed(cell: Cell) -> float | None:
    """Training FLOP/s on a cell's unpruned shape with its batches and precision; None where it does not fit in half of
    the memory.

    The steps are those of `regrow train`. The weights are random, which does not change the speed.
    """
    folder = find_model(cell.model)
    shape = Architecture.from_pretrained(folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    free = free_memory(device)
    if free is not None and shape.params * _BYTES > free / 2:
        return None
    train = cell.train
    blocks = train.micro_batch_blocks or train.batch_blocks
    with quiet():
        model = AutoModelForCausalLM.from_config(read_config(folder)[0], dtype=torch.float32).to(device)
    model.train()
    optimizer = make_optimizer(model, train)
    ids = torch.randint(0, shape.vocab, (blocks, train.sequence_length), device=device)
    bf16 = resolve_precision(train.precision, device) == "bf16"

    def step() -> None:
        train_step(model, optimizer, [{"input_ids": ids}], spec=train, bf16=bf16)
        if device.type == "cuda":
            torch.cuda.synchronize()

    step()
    steps, began = 0, time.perf_counter()
    while steps < 2 or time.perf_counter() - began < _SECONDS:
        step()
        steps += 1
        if time.perf_counter() - began > 5 * _SECONDS:
            break
    seconds = time.perf_counter() - began
    return steps * ids.numel() * shape.training_flops_per_token(train.sequence_length) / seconds
