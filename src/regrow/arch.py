"""Architectures as numbers: exact parameter counts and FLOPs per token, without torch.

An `Architecture` is read from a Hugging Face `config.json` and counts what `transformers` would build. Counts are
totals with tied embeddings counted once; `non_embedding_params` leaves out the input and output embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from regrow.errors import InputError, one_of
from regrow.families import FAMILIES, SUPPORTED_MODEL_TYPES, Family, family_of

__all__ = ["SUPPORTED_MODEL_TYPES", "Architecture", "catalog", "find_architecture"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a decoder-only transformer of a supported family (`regrow.families`).

    Widths are in channels, counts in units. `qkv_bias`, `o_bias` and `mlp_bias` say which linear layers carry a bias;
    `qk_norm` that queries and keys are normalised. `fixed_axes` are the widths that transformers' class can't build
    narrower; in a `square` model the hidden width is that of all query heads together, so that both shrink at once. In
    a mixture of experts `experts` of width `intermediate` are in each block, and a token is routed to
    `active_experts` of them; both are 0 in a dense model.
    """

    model_type: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    fixed_axes: tuple[str, ...] = ()
    square: bool = False
    experts: int = 0
    active_experts: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "vocab"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}", where="architecture", hint="it must be at least 1")
        if self.heads % self.kv_heads:
            raise InputError(
                f"{self.heads} query heads do not divide over {self.kv_heads} KV heads", where="architecture"
            )
        if bool(self.experts) != (self.family.experts is not None) or not 0 <= self.active_experts <= self.experts:
            raise InputError(
                f"{self.active_experts} of {self.experts} experts are active in a {self.model_type}",
                where="architecture",
                hint="a token is routed to no more experts than there are",
            )
        if self.square and self.heads * self.head_dim != self.hidden:
            raise InputError(
                f"hidden is {self.hidden}, and {self.heads} heads of {self.head_dim} make {self.heads * self.head_dim}",
                where="architecture",
                hint=f"in this {self.model_type} both must be the same: {self.family.square_because}",
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config.json") -> Architecture:
        """Read a Hugging Face config as a mapping. Raises `InputError` for a family or a key that is missing."""
        if not isinstance(config, Mapping):
            raise InputError("not a JSON object", where=where, hint="is this a model's config?")
        family = family_of(str(config.get("model_type")), where=where)
        try:
            family.check(config, where=where)
            heads = int(config["num_attention_heads"])
            hidden = int(config["hidden_size"])
            # a key that is absent takes the family's default, a null one means "as many as the query heads"
            kv_heads = config.get("num_key_value_heads", family.kv_heads)
            experts = family.experts
            count, active, width = (0, 0, config["intermediate_size"]) if experts is None else experts.read(config)
            return cls(
                model_type=family.model_type,
                hidden=hidden,
                intermediate=int(width),
                layers=int(config["num_hidden_layers"]),
                heads=heads,
                kv_heads=int(kv_heads or heads),
                head_dim=int(config.get("head_dim", family.head_dim) or hidden // heads),
                vocab=int(config["vocab_size"]),
                tied=bool(config.get("tie_word_embeddings", family.tied)),
                qkv_bias=family.has("qkv_bias", config),
                o_bias=family.has("o_bias", config),
                mlp_bias=family.has("mlp_bias", config),
                qk_norm=family.qk_norm is not None,
                fixed_axes=family.fixed_axes,
                square=family.is_square(config),
                experts=count,
                active_experts=active,
            )
        except KeyError as missing:
            raise InputError(f"the key {missing} is missing", where=where, hint="is this a model's config?") from None
        except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(f"not a model's shape ({error})", where=where, hint="is this a model's config?") from None

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Architecture:
        """Read `config.json` of a local checkpoint folder (or the file itself)."""
        path = Path(folder)
        return cls.from_config(read_config(path), where=str(path / "config.json" if path.is_dir() else path))

    @property
    def family(self) -> Family:
        """The description of the family."""
        return FAMILIES[self.model_type]

    @property
    def block_params(self) -> int:
        """Parameters of one transformer block, its norms included."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (q + 2 * kv) + q * self.hidden
        attention += (q + 2 * kv) * self.qkv_bias + self.hidden * self.o_bias
        if self.qk_norm:
            attention += q + kv if self.family.qk_norm == "projection" else 2 * self.head_dim
        feed_forward = self.experts * (self.expert_params + self.hidden) or 3 * self.hidden * self.intermediate
        feed_forward += (2 * self.intermediate + self.hidden) * self.mlp_bias
        return attention + feed_forward + len(self.family.norms.names) * self.hidden

    @property
    def expert_params(self) -> int:
        """Parameters of one expert of one block, without its row of the router; 0 in a dense model."""
        return 3 * self.hidden * self.intermediate if self.experts else 0

    @property
    def block_matrix_params(self) -> int:
        """Parameters of the linear weights of one block, the router's left out: what 2:4 sparsity targets."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.hidden * (2 * q + 2 * kv) + 3 * self.hidden * self.intermediate * (self.experts or 1)

    @property
    def embedding_params(self) -> int:
        """Input and output embeddings, counted once where they are tied."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def params(self) -> int:
        """Total parameters, tied embeddings counted once."""
        return self.embedding_params + self.layers * self.block_params + self.hidden

    @property
    def active_params(self) -> int:
        """Parameters that a token is computed with: all but the experts that it is not routed to."""
        return self.params - self.layers * (self.experts - self.active_experts) * self.expert_params

    @property
    def non_embedding_params(self) -> int:
        """Total without the input and output embeddings."""
        return self.params - self.embedding_params

    def forward_flops_per_token(self, context: int) -> float:
        """Floating-point operations of a forward pass per token at this context length.

        Two per weight of every matrix that multiplies activations (the output embedding and the router included, the
        input lookup not, and of the experts those that a token is routed to) and, for causal attention,
        2 * layers * heads * head_dim * context for scores and values together, the causal half counted (Kaplan et al.
        2020, arXiv 2001.08361, table 1, with attention halved).
        """
        idle = (self.experts - self.active_experts) * self.expert_params - self.experts * self.hidden
        matrices = self.layers * (self.block_matrix_params - idle) + self.vocab * self.hidden
        return 2.0 * matrices + 2.0 * self.layers * self.heads * self.head_dim * context

    def training_flops_per_token(self, context: int) -> float:
        """Forward and backward: three times the forward pass."""
        return 3.0 * self.forward_flops_per_token(context)

    def with_shape(self, **changes: int) -> Architecture:
        """The same architecture with other widths or depths, e.g. `with_shape(layers=24)`."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON. Later fields are left out at their defaults, so that records do not change."""
        return {name: value for name, value in asdict(self).items() if name not in _LATER or value != _LATER[name]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Architecture:
        """The inverse of `to_dict`. Raises `TypeError` for an unknown or a missing field."""
        return cls(**{**data, "fixed_axes": tuple(data.get("fixed_axes", ()))})


#: Fields that `Architecture.to_dict` leaves out at these values.
_LATER = {"fixed_axes": (), "square": False, "experts": 0, "active_experts": 0}


def read_config(folder: str | Path) -> Any:
    """What a checkpoint folder's `config.json`, or the file itself, holds. Raises `InputError` if it can't be read."""
    path = Path(folder)
    path = path / "config.json" if path.is_dir() else path
    try:
        return json.loads(path.read_text())
    except OSError as error:
        reason = "no such model config" if isinstance(error, FileNotFoundError) else f"can't read it ({error.strerror})"
        raise InputError(reason, where=str(path), hint="give a checkpoint folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError("not a JSON file", where=str(path), hint="give a checkpoint's config.json") from None


@cache
def _entries() -> dict[str, dict[str, Any]]:
    return json.loads((Path(__file__).parent / "catalog.json").read_text())["models"]


@cache
def catalog() -> dict[str, Architecture]:
    """The public shapes in `catalog.json` by name; their totals are checked in the tests."""
    return {name: Architecture.from_config(entry["config"], where=name) for name, entry in _entries().items()}


def find_architecture(model: str) -> Architecture:
    """An architecture from a local checkpoint folder or config file, or by name.

    A name is that of a catalogue entry in any case, with or without its organisation: `Llama-3.1-8B` or
    `meta-llama/Llama-3.1-8B`. Raises `InputError` naming the nearest catalogue entry if `model` is none of these.
    """
    if model and Path(model).exists():
        return Architecture.from_pretrained(model)
    return catalog()[_catalog_name(model)]


def config_of(model: str) -> dict[str, Any]:
    """The config that `find_architecture` reads of this folder, file or name. Raises `InputError` as it does."""
    return read_config(model) if model and Path(model).exists() else _entries()[_catalog_name(model)]["config"]


def _catalog_name(model: str) -> str:
    name = model.lower()
    for known, entry in _entries().items():
        # a source is https://huggingface.co/ORGANISATION/NAME/blob/main/config.json
        organisation = entry["source"].split("/")[3]
        if name in (known.lower(), f"{organisation}/{known}".lower()):
            return known
    return one_of(model, catalog(), what="model", where="catalog")
