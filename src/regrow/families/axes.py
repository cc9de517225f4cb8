"""What each dimension of a parameter is, from the description of its family."""

from __future__ import annotations

from functools import cache
from typing import Literal

from regrow.families.family import Family

#: A width that can be pruned; `query` and `kv` are heads times head_dim.
Axis = Literal["hidden", "intermediate", "query", "kv"]

#: What lies along a dimension: axes one after the other (several in a fused matrix); empty: it never changes.
Dimension = tuple[Axis, ...]

_FIXED: Dimension = ()
_HIDDEN: Dimension = ("hidden",)

#: The rows of each linear layer.
_ROWS: dict[str, Dimension] = {
    "q_proj": ("query",),
    "k_proj": ("kv",),
    "v_proj": ("kv",),
    "qkv_proj": ("query", "kv", "kv"),
    "gate_proj": ("intermediate",),
    "up_proj": ("intermediate",),
    "gate_up_proj": ("intermediate", "intermediate"),
}


#: In place of an expert's number.
ANY_EXPERT = "mlp.experts.*."


@cache
def linears(family: Family) -> tuple[tuple[str, ...], ...]:
    """The linear layers of a block by their names inside it, in groups that read the same input, as they run.

    Of a mixture of experts those of the attention alone.
    """
    attention = (tuple(f"self_attn.{name}" for name in family.attention_inputs), ("self_attn.o_proj",))
    if family.experts is not None:
        return attention
    return (*attention, tuple(f"mlp.{name}" for name in family.mlp_inputs), ("mlp.down_proj",))


@cache
def linear_inputs(family: Family) -> dict[str, Axis]:
    """What the input dimension of each linear layer of a block is."""
    axes: tuple[Axis, ...] = ("hidden", "query", "hidden", "intermediate")
    return {name: axis for names, axis in zip(linears(family), axes, strict=False) for name in names}


@cache
def block_axes(family: Family) -> dict[str, tuple[Dimension, ...]]:
    """What each dimension of a block's parameters is, by the parameter's name inside its block.

    Biases and norms that only some configs of the family have are in it; an expert's number is `*`.
    """
    axes: dict[str, tuple[Dimension, ...]] = {f"{name}.weight": (_HIDDEN,) for name in family.norms.names}
    for linear, inputs in linear_inputs(family).items():
        rows = _ROWS.get(linear.rpartition(".")[2], _HIDDEN)
        axes[f"{linear}.weight"] = (rows, (inputs,))
        axes[f"{linear}.bias"] = (rows,)
    if family.experts is not None:
        # experts are removed whole: neither their number nor their width is an axis
        axes["mlp.gate.weight"] = (_FIXED, _HIDDEN)
        axes[f"{ANY_EXPERT}gate_proj.weight"] = axes[f"{ANY_EXPERT}up_proj.weight"] = (_FIXED, _HIDDEN)
        axes[f"{ANY_EXPERT}down_proj.weight"] = (_HIDDEN, _FIXED)
    if family.qk_norm is not None:
        whole = family.qk_norm == "projection"
        axes["self_attn.q_norm.weight"] = (("query",) if whole else _FIXED,)
        axes["self_attn.k_norm.weight"] = (("kv",) if whole else _FIXED,)
    return axes


def model_axes() -> dict[str, tuple[Dimension, ...]]:
    """The same for the parameters outside the blocks, which are those of every family."""
    return {
        "model.embed_tokens.weight": (_FIXED, _HIDDEN),
        "model.norm.weight": (_HIDDEN,),
        "lm_head.weight": (_FIXED, _HIDDEN),
    }
