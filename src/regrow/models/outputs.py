"""What a family does with the numbers that its output layer gives, before they are logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from transformers import PretrainedConfig

from regrow.families import FAMILIES


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
