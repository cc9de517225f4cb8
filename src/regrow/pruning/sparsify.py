"""N:M sparsity block by block, each block pruned on the inputs that the pruned blocks before it give.

This module walks the blocks; a scorer's kernel decides which weights stay. A kernel may measure the inputs of a block's
layers while the block is whole; the pruned block then makes the inputs of the next (Wanda, as in its paper). Or it may
prune layer by layer within the block (`walk_parts`), which saves nearly one pass (SparseGPT). Wanda lost more that way:
`benchmarks/pruning/sparsity_order.py` compares the orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from regrow.arch import Architecture
from regrow.errors import InputError, RunFailed
from regrow.families import linear_inputs, linears
from regrow.models.layout import block_name
from regrow.pruning.kernel import Kernel, Notes
from regrow.pruning.plan import PrunePlan
from regrow.pruning.scores import Scores
from regrow.pruning.stream import BlockStream, batches


def group_bytes(arch: Architecture) -> int:
    """The weights of the largest group of layers that read the same input, stacked in float32."""
    return 4 * arch.hidden * max(2 * arch.intermediate, (arch.heads + 2 * arch.kv_heads) * arch.head_dim)


class Statistic(Protocol):
    """A statistic of a layer's inputs, summed over the text, that an N:M scorer uses."""

    def __init__(self, width: int, device: torch.device) -> None: ...

    def add(self, inputs: torch.Tensor) -> None:
        """Add inputs [..., in]."""


class SparsityKernel(Kernel):
    """Sets weights to zero in place, N kept of every M neighbours along the input dimension.

    A scorer overrides `zero`, and what differs of the rest.

    Attributes:
        statistic: what is summed over the inputs of layers that share them; None if it looks at the weights alone.
        layer_by_layer: whether each layer's inputs come from the pruned layers before it in the same block as well.
            False: a block's inputs are measured while it is whole.
    """

    statistic: ClassVar[type[Statistic] | None] = None
    layer_by_layer: ClassVar[bool] = False

    def zero(
        self,
        weight: torch.Tensor,
        measured: Any,
        pattern: tuple[int, int],
        *,
        where: str,
        notes: Notes,
        say: Callable[[str], None],
    ) -> torch.Tensor:
        """The weights [out, in] with exactly N of every M neighbours in a row kept; `weight` may be overwritten.

        `measured` is the statistic of their inputs; None where there is none.
        """
        raise NotImplementedError

    def from_scores(self, scores: Scores, layer: int, linear: str) -> Any:
        """The statistic of a layer's inputs, taken from stored scores of the unpruned model."""
        raise NotImplementedError

    def prune(
        self,
        stream: BlockStream,
        plan: PrunePlan,
        tokens: torch.Tensor | None,
        *,
        scores: Scores | None = None,
        notes: Notes | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Iterator[dict[str, torch.Tensor]]:
        assert plan.pattern is not None
        n, m = plan.pattern
        return sparsify(stream, tokens, kernel=self, n=n, m=m, scores=scores, notes=notes, progress=progress)


def sparsify(
    stream: BlockStream,
    tokens: torch.Tensor | None,
    *,
    kernel: SparsityKernel,
    n: int,
    m: int,
    scores: Scores | None = None,
    notes: Notes | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[dict[str, torch.Tensor]]:
    """The pruned linear weights of each block in turn, by their names in the checkpoint, in their stored types.

    Args:
        stream: the model; never more than a block of it is held.
        tokens: calibration tokens [samples, length]; may be None where the kernel looks at the weights alone, or where
            `scores` are given.
        kernel: decides which weights stay.
        n, m: weights kept of every `m` neighbours along the input dimension.
        scores: of the unpruned model, in place of tokens: one pass for many patterns.
        notes: filled on the way.
        progress: called with a line of text per block, and with what the kernel reports.

    Raises `InputError` if tokens are needed or not of this vocabulary, `RunFailed` if weights or inputs are not finite.
    """
    say, notes = progress or (lambda line: None), notes if notes is not None else Notes()
    if kernel.statistic is None or (tokens is None and scores is not None):
        notes.inputs = None if kernel.statistic is None else "dense"
        yield from _weight_by_weight(stream, kernel, (n, m), scores, notes, say)
        return
    if tokens is None:
        raise InputError(
            f"the scorer {kernel.entry.name!r} needs calibration text",
            where="calibration",
            hint="give --calibration, or a scorer that needs none",
        )
    notes.inputs = "propagated"
    hidden = stream.embed(tokens)
    for layer, block in stream.blocks():
        pruner = Pruner(stream, layer, block, kernel, (n, m), notes, say)
        if kernel.layer_by_layer:
            for group, inputs in walk_parts(stream, block, hidden, final=layer + 1 == stream.layers):
                pruner.prune(group, summed(kernel.statistic, inputs))
        else:
            measured = measure_inputs(stream, block, hidden, kernel.statistic)
            for group in linears(stream.arch.family):
                pruner.prune(group, measured.pop(group))
            if layer + 1 < stream.layers:
                hidden = stream.run(block, hidden, out=hidden)
        say(f"{kernel.entry.name} {n}:{m}: {layer + 1} of {stream.layers} blocks")
        yield pruner.stored


@torch.no_grad()
def walk_parts(
    stream: BlockStream, block: Any, hidden: torch.Tensor, *, final: bool = False
) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    """Each group of a block's layers with its inputs [samples, length, in]; afterwards `hidden` [samples, length,
    hidden] is what the block gives.

    The layers of a group run after it was yielded, with the weights as they are then. So the next group sees the pruned
    ones, and each part of the block runs once. Nobody reads what a `final` block gives: its last layer is not run.
    """
    family, parts = stream.arch.family, batches(hidden)
    arguments = stream.arguments(block, hidden.shape[1])
    scale = family.multiplier("residual", stream.config)
    groups, norms = iter(linears(family)), family.norms
    # as the layers read them
    normed = torch.empty_like(hidden, dtype=stream.matmul_dtype)
    halves: tuple[tuple[Any, str, dict[str, Any], str | None, str | None], ...] = (
        (block.self_attn, "o_proj", arguments, norms.before_attention, norms.after_attention),
        (block.mlp, "down_proj", {}, norms.before_mlp, norms.after_mlp),
    )
    for half, last, options, before, after in halves:
        for rows in parts:
            normed[rows] = hidden[rows] if before is None else block.get_submodule(before)(hidden[rows])
        yield next(groups), normed
        layer = half.get_submodule(last)
        inner = normed.new_empty(*hidden.shape[:2], layer.in_features)
        with _bare(half, last):
            for rows in parts:
                with stream.computing():
                    given = half(normed[rows], **options)
                inner[rows] = given[0] if isinstance(given, tuple) else given
        yield next(groups), inner
        if final and half is block.mlp:
            return
        for rows in parts:
            with stream.computing():
                given = layer(inner[rows])
            given = given if after is None else block.get_submodule(after)(given)
            hidden[rows] += given if scale == 1 else given * scale
        del inner


@torch.no_grad()
def summed(statistic: type[Statistic], inputs: torch.Tensor) -> Any:
    """A statistic of inputs [samples, length, in], added in batches."""
    total = statistic(inputs.shape[-1], inputs.device)
    for rows in batches(inputs):
        total.add(inputs[rows])
    return total


@contextmanager
def _bare(module: nn.Module, last: str) -> Iterator[None]:
    """The module without its last layer: what comes out is what that layer reads."""
    layer = module.get_submodule(last)
    setattr(module, last, nn.Identity())
    try:
        yield
    finally:
        setattr(module, last, layer)


@torch.no_grad()
def measure_inputs(
    stream: BlockStream, block: Any, hidden: torch.Tensor, statistic: type[Statistic]
) -> dict[tuple[str, ...], Any]:
    """A statistic of the inputs of each group of a block's layers, by group, in one pass over the hidden states."""
    measured: dict[tuple[str, ...], Any] = {}
    handles = []
    for group in linears(stream.arch.family):
        measured[group] = statistic(block.get_submodule(group[0]).in_features, stream.device)
    arguments = stream.arguments(block, hidden.shape[1])
    last = block.mlp.down_proj
    # the block's output is not needed
    block.mlp.down_proj = _NoOutput()
    for group, to in measured.items():
        linear = block.get_submodule(group[0])
        handles.append(linear.register_forward_pre_hook(lambda _, args, to=to: to.add(args[0])))
    with stream.computing():
        for rows in batches(hidden):
            block(hidden[rows], **arguments)
    block.mlp.down_proj = last
    for handle in handles:
        handle.remove()
    return measured


class _NoOutput(nn.Module):
    """Stands in for the last layer of a block: something that can be added to the hidden states."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.new_zeros(())


@torch.no_grad()
def _weight_by_weight(
    stream: BlockStream,
    kernel: SparsityKernel,
    pattern: tuple[int, int],
    scores: Scores | None,
    notes: Notes,
    say: Callable[[str], None],
) -> Iterator[dict[str, torch.Tensor]]:
    """The pruned weights of each block in turn, without text: no block is run."""
    for layer in range(stream.layers):
        pruned = {}
        for linear in linear_inputs(stream.arch.family):
            name = block_name(layer, f"{linear}.weight")
            weight = stream.source.read([name])[name].to(stream.device, copy=True)
            _check_finite(weight, name)
            measured = None
            if kernel.statistic is not None and scores is not None:
                measured = kernel.from_scores(scores, layer, linear)
            pruned[name] = kernel.zero(weight, measured, pattern, where=name, notes=notes, say=say).to(weight.dtype)
        yield pruned


def _check_finite(weight: torch.Tensor, where: str) -> None:
    # a NaN is neither large nor small: it would go or stay by chance. The extremes say so without copies of the weights
    if not torch.stack(torch.aminmax(weight)).isfinite().all():
        raise RunFailed("weights that are not finite", where=where, hint="the checkpoint is broken")


@dataclass(frozen=True)
class Pruner:
    """Prunes the groups of one block, and keeps the results as they will be stored."""

    stream: BlockStream
    layer: int
    block: Any
    kernel: SparsityKernel
    pattern: tuple[int, int]
    notes: Notes
    say: Callable[[str], None]
    stored: dict[str, torch.Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def prune(self, group: tuple[str, ...], measured: Any) -> None:
        """Prune layers that share an input, in the block and in `stored`, by the statistic of that input."""
        weights = {block_name(self.layer, f"{name}.weight"): self.block.get_submodule(name).weight for name in group}
        # as one layer with more outputs; a copy, which may be written into
        stacked = torch.cat([weight.detach() for weight in weights.values()])
        where = block_name(self.layer, " and ".join(group))
        _check_finite(stacked, where)
        pruned = self.kernel.zero(stacked, measured, self.pattern, where=where, notes=self.notes, say=self.say)
        for (name, weight), part in zip(weights.items(), pruned.split([len(w) for w in weights.values()]), strict=True):
            self.stored[name] = part.to(self.stream.source.layout[name].dtype, copy=True)
            # the next block sees the numbers as they are stored
            weight.copy_(self.stored[name])
