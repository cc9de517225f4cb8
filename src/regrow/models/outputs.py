"""What a family does with the numbers that its output layer gives, before they are logits; and the output layer itself
in another role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from regrow.families import FAMILIES

#: Logits that are held at a time, at most, on a CPU (2 MiB in float32, which its cache holds) and on an accelerator.
#: Of a large vocabulary at least `LEAST_ROWS` tokens: the output layer's weights are read anew for each slice.
CPU_LOGITS, DEVICE_LOGITS, LEAST_ROWS = 2**19, 2**26, 128


def rows_of_logits(device: torch.device, vocabulary: int) -> int:
    """How many tokens' logits, each of so many entries, are held at a time."""
    return max(LEAST_ROWS, (CPU_LOGITS if device.type == "cpu" else DEVICE_LOGITS) // vocabulary)


def logits_of_output(config: PretrainedConfig) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function from the output layer's numbers [..., vocab] to logits, by transformers' config of a model.

    Granite divides them by a number, Gemma-2 caps them: x -> cap * tanh(x / cap).
    """
    family = FAMILIES.get(str(config.model_type))
    divisor = 1.0 if family is None else family.multiplier("logits", config)
    field = None if family is None else family.multipliers.soft_cap
    cap = None if field is None else getattr(config, field)

    def finish(output: torch.Tensor) -> torch.Tensor:
        output = output if divisor == 1 else output / divisor
        return output if cap is None else torch.tanh(output / cap) * cap

    return finish


@contextmanager
def output_left_alone(config: PretrainedConfig) -> Iterator[None]:
    """Inside, a model of this config gives what its output layer gives, without what `logits_of_output` does to it."""
    family = FAMILIES.get(str(config.model_type))
    fields = {} if family is None else {family.multipliers.logits: 1.0, family.multipliers.soft_cap: None}
    neutral = {name: value for name, value in fields.items() if name is not None}
    before = {name: getattr(config, name) for name in neutral}
    try:
        for name, value in neutral.items():
            setattr(config, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


@contextmanager
def output_layer_gives(model: PreTrainedModel, instead: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Inside, the output layer of `model` gives `instead(hidden)` in the place of logits, and nothing is done to it
    afterwards.

    The layer is called by the model as ever, so that whatever gathers a sharded model's weights does so here too.
    """
    head: nn.Module = model.get_output_embeddings()
    own = head.__dict__.get("forward")
    head.forward = instead  # type: ignore[method-assign]
    try:
        with output_left_alone(model.config):
            yield
    finally:
        if own is None:
            del head.forward
        else:
            head.forward = own
