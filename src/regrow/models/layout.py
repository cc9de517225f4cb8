"""Names of parameters, and which of them are a block's linear weights. Their dimensions come from the family."""

from __future__ import annotations

import re

import torch
from torch import nn

from regrow.errors import InputError
from regrow.families import FAMILIES, Family, block_axes, linear_inputs, model_axes
from regrow.families.axes import ANY_EXPERT, Dimension

#: Parameters outside the blocks.
EMBEDDING, FINAL_NORM, OUTPUT = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"

#: The linear layers of a block, of any family.
BLOCK_LINEARS = frozenset(name for family in FAMILIES.values() for name in linear_inputs(family))

_NUMBER = re.compile(r"mlp\.experts\.\d+\.")
_EXPERT_NAME = re.compile(r"mlp\.experts\.(\d+)\.(.+)")
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
    table, key = (block_axes(family), _NUMBER.sub(ANY_EXPERT, place[1])) if place else (model_axes(), name)
    if key not in table:
        raise InputError(
            f"parameter {name!r} is not one of a {family.model_type}",
            hint="merge adapters into the model, or give a plain checkpoint",
        )
    return table[key]


def split_expert_name(rest: str) -> tuple[int, str] | None:
    """`mlp.experts.3.up_proj.weight` -> `(3, "up_proj.weight")`, by a name in a block; None if it is no expert's."""
    found = _EXPERT_NAME.fullmatch(rest)
    return (int(found[1]), found[2]) if found else None


def expert_name(expert: int, rest: str) -> str:
    """The inverse of `split_expert_name`."""
    return f"mlp.experts.{expert}.{rest}"


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """The transformer blocks of a causal language model, in order."""
    return model.model.layers  # type: ignore[union-attr, return-value]


def block_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights [out, in] of the linear layers of every block, by plain name: what N:M sparsity targets."""
    named = ((plain_name(name), parameter) for name, parameter in model.named_parameters())
    return {name: parameter for name, parameter in named if is_block_weight(name)}


def is_block_weight(name: str) -> bool:
    """Whether this is the weight of one of a block's linear layers, an expert's included, by its plain name."""
    place = split_block_name(name)
    if place is None or not place[1].endswith(".weight"):
        return False
    return place[1].removesuffix(".weight") in BLOCK_LINEARS or split_expert_name(place[1]) is not None


def is_tied(model: nn.Module) -> bool:
    """Whether input and output embeddings are one parameter."""
    inputs: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[operator]
    outputs: torch.Tensor = model.get_output_embeddings().weight  # type: ignore[operator]
    return inputs is outputs
