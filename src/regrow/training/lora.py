"""LoRA: low-rank adapters on the blocks' linear layers, and a merge that keeps a pruned model's zeros.

While it trains, an adapter fills the zeros of an N:M pruned matrix: W + BA is dense. The result of a masked run is the
sparse model. So each of its losses is read on the merged weights with the mask applied, and the record says by how much
the masking of the last merge raised the loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from regrow.errors import InputError
from regrow.families import family_of, linear_inputs
from regrow.models.masks import MaskKeeper
from regrow.training.spec import TrainSpec

ADAPTERS = "adapters.safetensors"
_NAME = "default"


def add_adapters(model: PreTrainedModel, spec: TrainSpec) -> Any:
    """The model with adapters of rank `spec.lora_rank`, the only parameters that train; random by `spec.seed`.

    Raises `InputError` if peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InputError("LoRA needs peft", where="--lora", hint="pip install 'regrow[lora]'") from None
    family = family_of(model.config.model_type)
    config = LoraConfig(
        r=spec.lora_rank,
        lora_alpha=spec.lora_alpha or 2 * spec.lora_rank,
        target_modules=sorted(name.rpartition(".")[2] for name in linear_inputs(family)),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        return get_peft_model(model, config)


def adapted_layers(model: nn.Module) -> list[Any]:
    """The layers that have an adapter; empty for a model without."""
    return [m for m in model.modules() if hasattr(m, "lora_A") and hasattr(m, "get_delta_weight")]


@torch.no_grad()
def _merge(model: nn.Module, keeper: MaskKeeper) -> None:
    for layer in adapted_layers(model):
        layer.get_base_layer().weight.add_(layer.get_delta_weight(_NAME))
    keeper.apply()


@contextmanager
def merged(model: Any, keeper: MaskKeeper) -> Iterator[None]:
    """Inside the block the adapters are merged and zeros kept; afterwards the model is as it was, to the bit."""
    layers = adapted_layers(model)
    own = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    _merge(model, keeper)
    try:
        with model.disable_adapter():
            yield
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, own, strict=True):
                layer.get_base_layer().weight.copy_(weight)


def merge(model: Any, keeper: MaskKeeper) -> PreTrainedModel:
    """The plain model with the adapters in its weights, zeros kept. `model` is used up."""
    _merge(model, keeper)
    plain: PreTrainedModel = model.unload()
    for parameter in plain.parameters():
        parameter.requires_grad_(True)
    return plain


def save_adapters(model: nn.Module, folder: Path) -> None:
    """Write what trains into a checkpoint; the rest is in the model the run started from."""
    trained = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trained, folder / ADAPTERS)


@torch.no_grad()
def load_adapters(model: nn.Module, folder: Path) -> None:
    """Read what `save_adapters` wrote, in place."""
    stored = load_file(folder / ADAPTERS)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(stored[name])
