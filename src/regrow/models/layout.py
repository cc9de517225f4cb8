"""Where things lie inside a model of the Llama/Qwen kind: the one table every other module reads names from.

The supported families (`regrow.arch.SUPPORTED_MODEL_TYPES`) share their parameter names, so one table serves them;
biases and query/key norms are in it and simply absent where a family has none.
"""

from __future__ import annotations

import re
from typing import Literal

import torch
from torch import nn

from regrow.errors import InputError

#: A width that can be pruned; `query` and `kv` are heads times head_dim. None: a dimension that never changes.
Axis = Literal["hidden", "intermediate", "query", "kv"]

#: The seven linear layers of a block, and what their input dimension is.
BLOCK_LINEARS: dict[str, Axis] = {
    "self_attn.q_proj": "hidden",
    "self_attn.k_proj": "hidden",
    "self_attn.v_proj": "hidden",
    "self_attn.o_proj": "query",
    "mlp.gate_proj": "hidden",
    "mlp.up_proj": "hidden",
    "mlp.down_proj": "intermediate",
}

#: What each dimension of a block's parameters is, by the parameter's name inside its block.
BLOCK_AXES: dict[str, tuple[Axis | None, ...]] = {
    "input_layernorm.weight": ("hidden",),
    "post_attention_layernorm.weight": ("hidden",),
    "self_attn.q_proj.weight": ("query", "hidden"),
    "self_attn.q_proj.bias": ("query",),
    "self_attn.k_proj.weight": ("kv", "hidden"),
    "self_attn.k_proj.bias": ("kv",),
    "self_attn.v_proj.weight": ("kv", "hidden"),
    "self_attn.v_proj.bias": ("kv",),
    "self_attn.o_proj.weight": ("hidden", "query"),
    "self_attn.o_proj.bias": ("hidden",),
    # normalise each head over head_dim, which pruning keeps
    "self_attn.q_norm.weight": (None,),
    "self_attn.k_norm.weight": (None,),
    "mlp.gate_proj.weight": ("intermediate", "hidden"),
    "mlp.gate_proj.bias": ("intermediate",),
    "mlp.up_proj.weight": ("intermediate", "hidden"),
    "mlp.up_proj.bias": ("intermediate",),
    "mlp.down_proj.weight": ("hidden", "intermediate"),
    "mlp.down_proj.bias": ("hidden",),
}

#: The same for the parameters outside the blocks.
MODEL_AXES: dict[str, tuple[Axis | None, ...]] = {
    "model.embed_tokens.weight": (None, "hidden"),
    "model.norm.weight": ("hidden",),
    "lm_head.weight": (None, "hidden"),
}

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


def axes_of(name: str) -> tuple[Axis | None, ...]:
    """What each dimension of this parameter is. Raises `InputError` for a parameter the table does not know."""
    place = split_block_name(name)
    table, key = (BLOCK_AXES, place[1]) if place else (MODEL_AXES, name)
    if key not in table:
        raise InputError(
            f"parameter {name!r} is not one of the Llama/Qwen kind",
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
