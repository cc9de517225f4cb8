"""Attention, activation checkpointing and kernels of a spec; what is not installed is reported before the run."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import torch
from transformers import PreTrainedModel

from regrow.errors import InputError
from regrow.models.load import quiet
from regrow.training.spec import TrainSpec


def plain_attention(model: PreTrainedModel, spec: TrainSpec) -> str:
    """The attention to compute without flash kernels: `eager` where it is asked for, or the model's class has no sdpa.

    Gemma-2 has none: it caps the scores of its attention, which PyTorch's function does not do.
    """
    return "eager" if spec.attention == "eager" or not model._supports_sdpa else "sdpa"


def set_kernels(model: PreTrainedModel, spec: TrainSpec, *, precision: str) -> None:
    """Prepare `model` in place. Raises `InputError` for what this machine or installation does not have."""
    cuda = torch.cuda.is_available()
    if spec.attention == "flash" and not (cuda and find_spec("flash_attn") and precision == "bf16"):
        raise InputError(
            "flash attention needs an NVIDIA GPU, bf16 and the package flash-attn",
            where="--attention",
            hint="sdpa, the default, picks PyTorch's own flash kernel on such a GPU",
        )
    if spec.liger and not (cuda and find_spec("liger_kernel")):
        raise InputError(
            "Liger's kernels need an NVIDIA GPU and the package liger-kernel", where="--liger", hint="leave it out"
        )
    if spec.compile and not (find_spec("triton") if cuda else shutil.which(os.environ.get("CXX", "g++"))):
        raise InputError(
            f"torch.compile needs {'triton' if cuda else 'a C++ compiler'} here", where="--compile", hint="leave it out"
        )
    with quiet():
        model.set_attn_implementation(
            "flash_attention_2" if spec.attention == "flash" else plain_attention(model, spec)
        )
    if spec.liger:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model)
    if spec.gradient_checkpointing:
        if hasattr(model, "activation_checkpointing_enable"):
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if spec.lora_rank:
            model.enable_input_require_grads()
