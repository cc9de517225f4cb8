"""What pruning changes for the programs that serve a model: limits that the pruned model meets and its parent not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from regrow.arch import Architecture
from regrow.families import family_of
from regrow.serving.constraints import limits_of
from regrow.serving.limit import Limit

#: The programs whose limits are said after pruning: those that have classes of their own for a family.
_SERVERS = ("llama.cpp", "vllm")


class NewLimit(NamedTuple):
    """A limit that pruning brought, and the program that has it."""

    runtime: str
    limit: Limit

    def sentence(self) -> str:
        """In one line."""
        verb = {"refuses": "will refuse this model", "differs": "will answer otherwise"}[self.limit.kind]
        return f"{self.runtime} {verb}: {self.limit.what}"

    def to_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return {"runtime": self.runtime, **self.limit._asdict()}


def limits_from_pruning(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[NewLimit]:
    """The limits, notes left out, that a pruned model meets and its parent does not; both by their configs."""
    found = []
    for runtime in _SERVERS:
        known = {limit.source for limit in _against(runtime, before)}
        found += [NewLimit(runtime, limit) for limit in _against(runtime, after) if limit.source not in known]
    return found


def _against(runtime: str, config: Mapping[str, Any]) -> Iterator[Limit]:
    arch = Architecture.from_config(config)
    return (limit for limit in limits_of(runtime, arch, config) if limit.kind != "note")


def config_after(config: Mapping[str, Any], after: Architecture, dropped: tuple[int, ...] | None) -> dict[str, Any]:
    """A model's config as pruning will leave it, for a model that is not written.

    Lists over the blocks are cut where the blocks that go are known; where they are not, they stay as they are.
    """
    left = {**config, "num_hidden_layers": after.layers, "hidden_size": after.hidden, "head_dim": after.head_dim}
    left |= {"num_attention_heads": after.heads, "num_key_value_heads": after.kv_heads}
    if not after.experts:
        left["intermediate_size"] = after.intermediate
    for name in family_of(after.model_type).block_lists:
        if isinstance(left.get(name), list) and dropped is not None:
            left[name] = [entry for block, entry in enumerate(left[name]) if block not in dropped]
    return left
