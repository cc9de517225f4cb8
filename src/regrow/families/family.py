"""The description of a family: what its blocks are made of, and what transformers assumes where a config is silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from regrow.errors import InputError
from regrow.families.windows import NO_WINDOWS, Windows


@dataclass(frozen=True)
class Flag:
    """A switch that a config sets.

    Attributes:
        fields: the config's names for it; the first that is there counts.
        default: what transformers assumes where none is there.
    """

    fields: tuple[str, ...]
    default: bool = False

    def read(self, config: Mapping[str, Any]) -> bool:
        """Whether it is on in a config."""
        return bool(next((config[name] for name in self.fields if name in config), self.default))


@dataclass(frozen=True, kw_only=True)
class Norms:
    """The RMS norms of a block over the hidden width, by their names; None where there is none.

    The `before_` norms are read by the attention or the feed-forward, the `after_` norms normalise what these give
    before it is added to the residual stream.
    """

    before_attention: str | None = None
    after_attention: str | None = None
    before_mlp: str | None = None
    after_mlp: str | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Those that there are."""
        every = (self.before_attention, self.after_attention, self.before_mlp, self.after_mlp)
        return tuple(name for name in every if name is not None)


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """Numbers that a model multiplies with, beside its weights; the names of the config's fields, None: there is none.

    Attributes:
        embedding: the input embeddings are multiplied by it.
        root_hidden: they are multiplied by the square root of the hidden width. Pruning channels changes that root, so
            the embeddings and the final norm are rescaled for it (`regrow.pruning.width`).
        residual: what attention and feed-forward give is multiplied by it.
        logits: the logits are divided by it.
        soft_cap: the logits x become cap * tanh(x / cap).
    """

    embedding: str | None = None
    root_hidden: bool = False
    residual: str | None = None
    logits: str | None = None
    soft_cap: str | None = None


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The experts of a mixture, each a gated feed-forward: the config's fields, and what transformers assumes without.

    A router, `mlp.gate`, has a row for each expert. Attributes: the field's name (the first that is there counts) and
    its default.
    """

    count: tuple[tuple[str, ...], int]
    active: tuple[str, int]
    width: tuple[str, int]

    def read(self, config: Mapping[str, Any]) -> tuple[int, int, int]:
        """Experts of a block, those that a token is routed to, and the width of each, by a config."""
        names, default = self.count
        count = next((config[name] for name in names if config.get(name) is not None), default)
        return int(count), int(config.get(*self.active)), int(config.get(*self.width))


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of decoder-only transformers whose blocks have one shape: attention, and a gated feed-forward.

    Attributes:
        model_type: transformers' name of it.
        models: public models of the family, for people.
        kv_heads: KV heads where the config does not name them; None: as many as query heads. A null in the config
            always means as many as query heads.
        head_dim: the width of a head where the config does not name it; None: hidden / heads.
        tied: whether input and output embeddings are one where the config does not say.
        qkv_bias, o_bias, mlp_bias: whether these layers have biases, or the flag that says so.
        qk_norm: what the norms of queries and keys are taken over: `head` (each head by itself), `projection` (all
            heads together), or None (there are no such norms).
        norms: the other norms of a block.
        attention_inputs: the layers that read the attention's input. One that is fused holds the queries, the keys and
            the values in this order.
        mlp_inputs: the layers that read the feed-forward's input. One that is fused holds gate and up in this order.
        block_lists: lists in the config with an entry for each block.
        block_indices: numbers in the config that are indices of a block.
        windows: which blocks attend to a sliding window.
        experts: the feed-forward of every block is a mixture of these; None: it is one.
        hidden_divides_by_heads: whether transformers refuses a hidden width that the query heads do not divide.
        multipliers: numbers that the model multiplies with.
        norm_offset: added to the weights of every RMS norm.
        fixed_axes: widths that transformers' class can't build narrower.
        fixed_because: why, for the error.
        square: whether the hidden width is that of all query heads together, so that channels and KV groups can only be
            removed together.
        square_because: why, for the error.
        square_by_rope: so only where the rotary embeddings are of one of these types; empty: always.
        refused: fields of a config that make it a model of another kind: the field, the value at which it is none, and
            what the field says.
    """

    model_type: str
    models: str
    kv_heads: int | None = None
    head_dim: int | None = None
    tied: bool = False
    qkv_bias: bool | Flag = False
    o_bias: bool | Flag = False
    mlp_bias: bool | Flag = False
    qk_norm: Literal["head", "projection"] | None = None
    norms: Norms = Norms(before_attention="input_layernorm", before_mlp="post_attention_layernorm")
    attention_inputs: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    mlp_inputs: tuple[str, ...] = ("gate_proj", "up_proj")
    block_lists: tuple[str, ...] = ("layer_types", "mlp_layer_types")
    block_indices: tuple[str, ...] = ()
    windows: Windows = NO_WINDOWS
    experts: Experts | None = None
    hidden_divides_by_heads: bool = False
    multipliers: Multipliers = Multipliers()
    norm_offset: float = 0.0
    fixed_axes: tuple[str, ...] = ()
    fixed_because: str = ""
    square: bool = False
    square_because: str = ""
    square_by_rope: tuple[str, ...] = ()
    refused: tuple[tuple[str, Any, str], ...] = ()

    def has(self, part: Literal["qkv_bias", "o_bias", "mlp_bias"], config: Mapping[str, Any]) -> bool:
        """Whether the layers of this part have biases in a model of this config."""
        switch = getattr(self, part)
        return switch.read(config) if isinstance(switch, Flag) else switch

    def check(self, config: Mapping[str, Any], *, where: str) -> None:
        """Raise `InputError` if a config asks for a part of the family that is not supported."""
        for field, none, says in self.refused:
            value = config.get(field)
            value = tuple(value) if isinstance(value, list) else value
            if value is not None and value != none:
                raise InputError(
                    f"{field} is {value!r}: {says}",
                    where=where,
                    hint=f"only {self.model_type} models without it are supported",
                )

    def is_square(self, config: Mapping[str, Any]) -> bool:
        """Whether the hidden width of a model of this config must be that of its query heads together."""
        ropes = [config.get(name) or {} for name in ("rope_scaling", "rope_parameters")]
        kinds = {rope.get("rope_type", rope.get("type")) for rope in ropes}
        return self.square and not (self.square_by_rope and kinds.isdisjoint(self.square_by_rope))

    def flag_of(self, parameter: str) -> str | None:
        """The config's field that gives a linear layer of a block its bias, by the parameter's name in the block."""
        kind, _, rest = parameter.partition(".")
        part = "mlp_bias" if kind == "mlp" else "o_bias" if rest.startswith("o_proj") else "qkv_bias"
        switch = getattr(self, part)
        return switch.fields[0] if isinstance(switch, Flag) else None

    def multiplier(self, part: Literal["embedding", "residual", "logits"], config: Any) -> float:
        """A multiplier's value by transformers' config of a model; 1 where the family has none."""
        if part == "embedding" and self.multipliers.root_hidden:
            return float(config.hidden_size) ** 0.5
        field = getattr(self.multipliers, part)
        return 1.0 if field is None else float(getattr(config, field))
