"""Names of parameters, and which of them are a block's linear weights. Their dimensions come from the family."""

from __future__ import annotations

import re

import torch
from torch import nn

from regrow.errors import InputError
from regrow.families import FAMILIES, Family, block_axes, linear_inputs, model_axes
from regrow.families.axes import Dimension

#: Parameters outside the blocks.
EMBEDDING, FINAL_NORM, OUTPUT = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"

#: The linear layers of a block, of any family.
BLOCK_LINEARS = frozenset(name for family in FAMILIES.values() for name in linear_inputs(family))

_BLOCK_NAME = re.compile(r"model\.layers\.(\d+)\.(.+)")
# what torch.compile, DDP and an adapter put in front of, or inside, a parameter's name
_WRAPPERS = re.compile(r"(?<![\w])(_orig_mod|module|base_model\.model|base_layer)\.")


def plain_name(name: str) -> str:
    """A parameter's name without what torch.compile, DistributedDataParallel and LoRA's wrappers add to it."""
    return _WRAPPERS.sub("", name)


def split_block_name(name: str) -> tuple[int, str] | None:
    """`model.layers.3.mlp.up_proj.weight` -> `(3, "mlp.up_proj.weight")`; None for a parameter outside the blocks."""
    found = _BLOCK_NAME.fullmatch(name)
    return (int(found[1]), found[2]) if found else None


def block_name(layer: int, rest: str) -> str:
    """The inverse of `split_block_name`."""
    return f"model.layers.{layer}.{rest}"


def axes_of(name: str, family: Family) -> tuple[Dimension, ...]:
    """What each dimension of this parameter is. Raises `InputError` for one that the family does not have."""
    place = split_block_name(name)
    table, key = (block_axes(family), place[1]) if place else (model_axes(), name)
    if key not in table:
        raise InputError(
            f"parameter {name!r} is not one of a {family.model_type}",
            hint="merge adapters into the model, or give a plain checkpoint",
        )
    return table[key]


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """The transformer blocks of a causal language model, in order."""
    return model.model.layers  # type: ignore[union-attr, return-value]


def block_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights [out, in] of the linear layers of every block, by plain name: what N:M sparsity targets."""
    named = ((plain_name(name), parameter) for name, parameter in model.named_parameters())
    return {name: parameter for name, parameter in named if is_block_weight(name)}


def is_block_weight(name: str) -> bool:
    """Whether this is the weight of one of a block's linear layers, by its plain name."""
    place = split_block_name(name)
    return place is not None and place[1].endswith(".weight") and place[1].removesuffix(".weight") in BLOCK_LINEARS


def is_tied(model: nn.Module) -> bool:
    """Whether input and output embeddings are one parameter."""
    inputs: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[operator]
    outputs: torch.Tensor = model.get_output_embeddings().weight  # type: ignore[operator]
    return inputs is outputs
