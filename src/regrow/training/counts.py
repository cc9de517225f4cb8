"""Tokens, epochs and FLOPs of a run."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from regrow.arch import Architecture
from regrow.data import BlockOrder, repetition
from regrow.errors import InputError
from regrow.training.inputs import RunInputs
from regrow.training.spec import TrainSpec


def run_counts(inputs: RunInputs, spec: TrainSpec, *, steps: int | None = None) -> dict[str, Any]:
    """Tokens, epochs and FLOPs of the run at its end, or after so many optimizer steps."""
    steps = spec.steps if steps is None else steps
    train, held_out = inputs.train, inputs.held_out
    positions, tokens = steps * spec.batch_blocks, steps * spec.batch_tokens
    repeats = repetition(train, tokens=tokens)
    flops = training_flops_per_token(inputs.model, inputs.teacher, spec.sequence_length)
    return {
        "batch_tokens": spec.batch_tokens,
        "sequence_length": spec.sequence_length,
        **inputs.fingerprints(),
        "held_out_tokens": held_out.n_tokens - len(held_out),
        "unique_tokens": min(positions, len(train)) * spec.sequence_length,
        "epochs": round(BlockOrder(blocks=len(train), seed=spec.seed).epochs(positions), 4),
        "flops_per_token": flops,
        "flops": None if flops is None else flops * tokens,
        **({} if repeats is None else {"repetition": repeats}),
    }


def training_flops_per_token(
    model: PreTrainedModel, teacher: PreTrainedModel | None, sequence_length: int
) -> float | None:
    """FLOPs of one token in training: three forward passes' worth, and one forward pass of the teacher.

    Activations that are computed again, multiplications by zeros and evaluations are not counted as extra or taken
    off. None for an architecture that is not known.
    """
    try:
        own = Architecture.from_config(model.config.to_dict()).training_flops_per_token(sequence_length)
        if teacher is None:
            return own
        return own + Architecture.from_config(teacher.config.to_dict()).forward_flops_per_token(sequence_length)
    except InputError:
        return None
