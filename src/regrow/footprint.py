"""The memory that a model takes where it is served, and the shapes that a memory target leaves. Light: no torch.

    weights = b_m * (parameters of the blocks' matrices) + b_o * (all other parameters)
    cache   = sum over blocks: 2 * KV heads * head_dim * batch * min(context, window - 1) * b_c

b_m, b_o and b_c are bytes per number (`DTYPES`, `CACHE_DTYPES`). A block without a sliding window holds `context`
tokens. The 2 is for keys and values. Activations and what the server itself takes are not counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from regrow.arch import Architecture, config_of
from regrow.errors import InputError, one_of
from regrow.families import family_of
from regrow.methods import DEPTH, EXPERTS, WIDTH, is_masked
from regrow.shapes import RATE_TOLERANCE, Counted, Pruned, check_experts, rate_between, shapes_for_rate
from regrow.units import format_si, parse_bytes, parse_count

#: Bytes per weight of the blocks' matrices, and of everything else (embeddings, norms, biases), which the quantised
#: formats keep in 16 bits. int4: 128 weights share a 16-bit scale and a 4-bit zero, as GPTQ and AWQ store them.
DTYPES: dict[str, tuple[float, float]] = {
    "fp32": (4.0, 4.0),
    "bf16": (2.0, 2.0),
    "fp16": (2.0, 2.0),
    "fp8": (1.0, 2.0),
    "int8": (1.0, 2.0),
    "int4": ((4 + (16 + 4) / 128) / 8, 2.0),
}

#: Bytes per number of the KV cache.
CACHE_DTYPES: dict[str, float] = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0}


class Footprint(NamedTuple):
    """Bytes of a served model: its weights (of them its embeddings), and its KV cache."""

    weights: float
    embeddings: float
    cache: float

    @property
    def total(self) -> float:
        return self.weights + self.cache

    def __str__(self) -> str:
        return f"{_gb(self.total)}: weights {_gb(self.weights)}, KV cache {_gb(self.cache)}"


@dataclass(frozen=True, kw_only=True)
class MemoryTarget:
    """The memory that a pruned model may take where it is served.

    Attributes:
        max_memory: bytes for weights and KV cache, a number or text such as "12GB" (10^9 bytes) or "12GiB" (2^30).
        context: tokens of each sequence, prompt and answer together; a number or text such as "32k".
        batch: sequences at a time.
        dtype: how the weights are stored, of `DTYPES`.
        cache_dtype: how the KV cache is stored, of `CACHE_DTYPES`; None: as the weights, 16 bits where they are
            quantised.
        windows: the sliding window of each block in tokens, None for a block with full attention; as a whole None where
            they are not known, which counts as full attention (`windows_of` reads them from a config).

    Raises `InputError` for a value that cannot be.
    """

    max_memory: float | str
    context: int | str = 4096
    batch: int = 1
    dtype: str = "bf16"
    cache_dtype: str | None = None
    windows: tuple[int | None, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_memory", parse_bytes(self.max_memory, what="--max-memory"))
        object.__setattr__(self, "context", parse_count(self.context, what="--context"))
        object.__setattr__(self, "batch", parse_count(self.batch, what="--batch"))
        one_of(self.dtype, DTYPES, what="type of weights", where="--dtype")
        if self.cache_dtype is None:
            object.__setattr__(self, "cache_dtype", self.dtype if self.dtype in ("fp32", "bf16", "fp16") else "bf16")
        one_of(str(self.cache_dtype), CACHE_DTYPES, what="type of KV cache", where="--cache-dtype")
        if self.windows is not None:
            object.__setattr__(self, "windows", tuple(self.windows))

    @property
    def limit(self) -> float:
        """`max_memory` in bytes."""
        return float(self.max_memory)

    def footprint(self, arch: Architecture) -> Footprint:
        """What a model of this shape takes.

        Where it has fewer blocks than `windows` has entries, the blocks with the largest caches are taken to be those
        that stay: the model then fits whichever go.
        """
        matrices, others = DTYPES[self.dtype]
        in_matrices = arch.layers * arch.block_matrix_params
        held = sum(self._tokens_held(arch.layers)) * self.batch
        return Footprint(
            weights=matrices * in_matrices + others * (arch.params - in_matrices),
            embeddings=others * arch.embedding_params,
            cache=2 * arch.kv_heads * arch.head_dim * held * CACHE_DTYPES[str(self.cache_dtype)],
        )

    def _tokens_held(self, layers: int) -> list[int]:
        """Tokens of a sequence in the cache of each block, the largest first."""
        context = int(self.context)
        if self.windows is None:
            return [context] * layers
        held = [context if window is None else min(context, window - 1) for window in self.windows]
        return sorted(held, reverse=True)[:layers]

    def for_config(self, config: Mapping[str, Any]) -> MemoryTarget:
        """The same with the sliding windows that a config has, unless they were given."""
        return self if self.windows is not None else replace(self, windows=windows_of(config))

    def for_model(self, model: str) -> MemoryTarget:
        """The same with the sliding windows of a catalogue entry, a checkpoint folder or a `config.json`."""
        return self if self.windows is not None else self.for_config(config_of(model))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "windows": None if self.windows is None else list(self.windows)}


def memory_from(data: Mapping[str, Any]) -> MemoryTarget:
    """The inverse of `MemoryTarget.to_dict`. Raises `InputError` for an unknown field (with a suggestion)."""
    for name in data:
        one_of(str(name), [field.name for field in fields(MemoryTarget)], what="field", where="memory target")
    if "max_memory" not in data:
        raise InputError("no max_memory given", where="memory target", hint="write it like 12GB")
    return MemoryTarget(**data)


def windows_of(config: Mapping[str, Any]) -> tuple[int | None, ...]:
    """The sliding window of each block that transformers makes of a config, in tokens; None: full attention."""
    return family_of(str(config.get("model_type"))).windows.read(config)


def shape_for_memory(before: Architecture, method: str, target: MemoryTarget) -> Pruned:
    """The largest shape that pruning by `method` leaves within the target.

    Raises `InputError` for a method that keeps every size, for a model that fits as it is, and for a target that
    no shape meets.
    """
    if method == DEPTH:
        after = layers_for_memory(before, target)
    elif method == WIDTH:
        after = shapes_for_memory(before, target)[0]
    elif method == EXPERTS:
        after = experts_for_memory(before, target)
    else:
        what = f"a memory target for {method} pruning"
        if is_masked(method):
            what = f"{method} leaves zeros in dense matrices, which take as much as before: {target.footprint(before)}"
        raise InputError(what, where="--max-memory", hint="depth, width and experts make a model smaller")
    return Pruned(after, after.params, rate_between(before, after))


def layers_for_memory(before: Architecture, target: MemoryTarget) -> Architecture:
    """The architecture with as many blocks as fit. Raises as `shape_for_memory` does."""
    _check_room(before, target)
    for layers in range(before.layers - 1, 0, -1):
        shape = before.with_shape(layers=layers)
        if target.footprint(shape).total <= target.limit:
            return shape
    raise _no_room(before.with_shape(layers=1), target, "one block")


def experts_for_memory(before: Architecture, target: MemoryTarget) -> Architecture:
    """The architecture with as many experts in every block as fit. Raises as `shape_for_memory` does."""
    check_experts(before)
    _check_room(before, target)
    least = max(1, before.active_experts)
    for experts in range(before.experts - 1, least - 1, -1):
        shape = before.with_shape(experts=experts)
        if target.footprint(shape).total <= target.limit:
            return shape
    raise _no_room(before.with_shape(experts=least), target, "the model with the experts that a token is routed to")


def shapes_for_memory(
    before: Architecture,
    target: MemoryTarget,
    count: int = 1,
    *,
    axes: tuple[str, ...] | None = None,
    multiple_of: int | None = None,
) -> list[Architecture]:
    """Up to `count` width-pruned architectures that take no more than the target, and half a percent less at most.

    The percentage is of what the unpruned model takes. The first shape follows the rule of
    `regrow.shapes.shape_for_rate`, with bytes in the place of parameters: KV heads go only where neither the hidden nor
    the feed-forward width reaches the target. Of the others, one half has other proportions of these two; the rest
    gives up KV heads as well, which is what shrinks the cache. Raises as `shape_for_memory` does.
    """
    _check_room(before, target)
    full = target.footprint(before).total
    half = RATE_TOLERANCE / 2
    rate = 1 - target.limit / full + half

    def found(axes: tuple[str, ...] | None, count: int) -> list[Architecture]:
        of = Counted(lambda shape: target.footprint(shape).total, "bytes")
        return shapes_for_rate(before, rate, count, axes=axes, multiple_of=multiple_of, tolerance=half, counted=of)

    try:
        shapes = found(axes, count if axes is not None else (count + 1) // 2)
    except InputError:
        raise _no_room(_narrowest(before), target, "the narrowest shape") from None
    if axes is None and count > 1 and not before.fixed_axes:
        with contextlib.suppress(InputError):  # then only shapes with all KV heads meet it
            shapes += found(("hidden", "intermediate", "kv_heads"), count)
    return list(dict.fromkeys(shapes))[:count]


def _check_room(before: Architecture, target: MemoryTarget) -> None:
    """Raise `InputError` for a model that fits as it is, or of which not even the embeddings fit."""
    now = target.footprint(before)
    if now.total <= target.limit:
        raise InputError(
            f"the unpruned model takes {now}, which is within {_gb(target.limit)}",
            where="--max-memory",
            hint="there is nothing to prune; lower it, or give a longer --context or a larger --batch",
        )
    if now.embeddings >= target.limit:
        raise InputError(
            f"{_gb(target.limit)} can't hold this model: its embeddings alone take {_gb(now.embeddings)} in "
            f"{target.dtype}",
            where="--max-memory",
            hint="give more memory, or prune a smaller model",
        )


def _narrowest(before: Architecture) -> Architecture:
    """About the smallest shape that width pruning could leave: one KV group, a channel for each of its query heads."""
    heads = before.heads // before.kv_heads
    least = {"hidden": heads, "intermediate": 1, "kv_heads": 1, "heads": heads}
    if before.square:
        least["hidden"] = heads * before.head_dim
    return before.with_shape(**{axis: size for axis, size in least.items() if axis not in before.fixed_axes})


def _no_room(smallest: Architecture, target: MemoryTarget, what: str) -> InputError:
    needs = target.footprint(smallest)
    if needs.total <= target.limit:
        return InputError(
            f"no shape lies within half a percent below {_gb(target.limit)}", where="--max-memory",
            hint="allow other axes, or leave out --multiple-of",
        )  # fmt: skip
    return InputError(
        f"{_gb(target.limit)} can't hold this model: {what} takes {_gb(needs.total)} (embeddings "
        f"{_gb(needs.embeddings)}, KV cache {_gb(needs.cache)})",
        where="--max-memory",
        hint="give more memory, a shorter --context, a smaller --batch or a smaller --dtype",
    )


def _gb(count: float) -> str:
    return format_si(count, "B")
