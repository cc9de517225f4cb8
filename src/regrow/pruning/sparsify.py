"""N:M sparsity block by block, each block pruned on the inputs that the pruned blocks before it give.

Wanda measures the inputs of a block's layers while the block is whole, prunes its seven weights, and the pruned block
makes the inputs of the next, as in its paper. SparseGPT goes on layer by layer within the block (`walk_parts`), which
saves nearly a pass; Wanda lost more that way (`benchmarks/sparsity_order.py` compares the orders).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from regrow.errors import InputError, RunFailed
from regrow.models.layout import BLOCK_LINEARS, block_name
from regrow.pruning.calibration import Scores
from regrow.pruning.semistructured import magnitude_score, n_m_mask, wanda_score
from regrow.pruning.sparsegpt import DAMPING, Hessian, factor, sparsegpt
from regrow.pruning.stream import BlockStream, batches

#: Layers of a block that read the same input, in the order in which they run.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)

#: Rows of fours that are scored at a time, fewer of larger groups: scores and comparisons take several times the memory
#: of their weights.
SCORED_ROWS = 256


@dataclass
class Notes:
    """What happened on the way that belongs in the record.

    Attributes:
        inputs: `propagated` (each block's inputs come from pruned blocks), `dense` (from scores of the unpruned
            model) or None (the scorer looks at the weights alone).
        damping: layers whose Hessian took more than `DAMPING`, and what it took (SparseGPT).
        dead_inputs: layers with inputs that were always zero, and how many (SparseGPT).
    """

    inputs: str | None = None
    damping: dict[str, float] = field(default_factory=dict)
    dead_inputs: dict[str, int] = field(default_factory=dict)


def sparsify(
    stream: BlockStream,
    tokens: torch.Tensor | None,
    *,
    scorer: str,
    n: int,
    m: int,
    scores: Scores | None = None,
    notes: Notes | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[dict[str, torch.Tensor]]:
    """The pruned linear weights of each block in turn, by their names in the checkpoint, in their stored types.

    Args:
        stream: the model; never more than a block of it is held.
        tokens: calibration tokens [samples, length]; `magnitude` needs none, nor does `wanda` where `scores` are given.
        scorer: `magnitude`, `wanda` or `sparsegpt`.
        n, m: weights kept of every `m` neighbours along the input dimension.
        scores: for `wanda` without tokens: input norms of the unpruned model, one pass for many patterns.
        notes: filled on the way.
        progress: called with a line of text per block, and where damping was raised.

    Raises `InputError` if tokens are needed or not of this vocabulary, `RunFailed` if inputs are not finite.
    """
    say, notes = progress or (lambda line: None), notes if notes is not None else Notes()
    if scorer == "magnitude" or (scorer == "wanda" and tokens is None and scores is not None):
        notes.inputs = None if scorer == "magnitude" else "dense"
        yield from _by_stored_scores(stream, None if scorer == "magnitude" else scores, n, m)
        return
    if tokens is None:
        raise InputError(
            f"the scorer {scorer!r} needs calibration text",
            where="calibration",
            hint="give --calibration, or a scorer that needs none",
        )
    notes.inputs = "propagated"
    hidden = stream.embed(tokens)
    for layer, block in stream.blocks():
        pruner = Pruner(stream, layer, block, scorer, (n, m), notes, say)
        if scorer == "sparsegpt":
            for linears, inputs in walk_parts(stream, block, hidden):
                pruner.prune(linears, summed(Hessian, inputs))
        else:
            measured = measure_inputs(stream, block, hidden, SquaredNorms)
            for linears in GROUPS:
                pruner.prune(linears, measured.pop(linears))
            if layer + 1 < stream.layers:
                hidden = stream.run(block, hidden, out=hidden)
        say(f"{scorer} {n}:{m}: {layer + 1} of {stream.layers} blocks")
        yield pruner.stored


@torch.no_grad()
def walk_parts(stream: BlockStream, block: Any, hidden: torch.Tensor) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    """Each group of a block's layers with its inputs [samples, length, in]; afterwards `hidden` [samples, length,
    hidden] is what the block gives.

    A group's layers run after it was handed out, so that what is done to their weights in between is what the next
    group sees: all parts of the block run once.
    """
    arguments = stream.arguments(block, hidden.shape[1])
    attention, mlp = block.self_attn, block.mlp
    parts = batches(hidden)
    normed = torch.empty_like(hidden)
    for rows in parts:
        normed[rows] = block.input_layernorm(hidden[rows])
    yield GROUPS[0], normed
    heads = hidden.new_empty(*hidden.shape[:2], attention.o_proj.in_features)
    with _bare(attention, "o_proj"):
        for rows in parts:
            heads[rows] = attention(hidden_states=normed[rows], **arguments)[0]
    yield GROUPS[1], heads
    for rows in parts:
        hidden[rows] += attention.o_proj(heads[rows])
        normed[rows] = block.post_attention_layernorm(hidden[rows])
    del heads
    yield GROUPS[2], normed
    neurons = hidden.new_empty(*hidden.shape[:2], mlp.down_proj.in_features)
    with _bare(mlp, "down_proj"):
        for rows in parts:
            neurons[rows] = mlp(normed[rows])
    del normed
    yield GROUPS[3], neurons
    for rows in parts:
        hidden[rows] += mlp.down_proj(neurons[rows])


@torch.no_grad()
def summed(statistic: type[Hessian] | type[SquaredNorms], inputs: torch.Tensor) -> Any:
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
    stream: BlockStream, block: Any, hidden: torch.Tensor, statistic: type[Hessian] | type[SquaredNorms]
) -> dict[tuple[str, ...], Any]:
    """A statistic of the inputs of each group of a block's layers, by group, in one pass over the hidden states."""
    measured: dict[tuple[str, ...], Any] = {}
    handles = []
    for linears in GROUPS:
        measured[linears] = statistic(block.get_submodule(linears[0]).in_features, stream.device)
    arguments = stream.arguments(block, hidden.shape[1])
    last = block.mlp.down_proj
    # nobody looks at what comes out of the block
    block.mlp.down_proj = _NoOutput()
    for linears, to in measured.items():
        linear = block.get_submodule(linears[0])
        handles.append(linear.register_forward_pre_hook(lambda _, args, to=to: to.add(args[0])))
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


def _by_stored_scores(stream: BlockStream, scores: Scores | None, n: int, m: int) -> Iterator[dict[str, torch.Tensor]]:
    for layer in range(stream.layers):
        names = {block_name(layer, f"{linear}.weight"): linear for linear in BLOCK_LINEARS}
        pruned = {}
        for name, linear in names.items():
            weight = stream.source.read([name])[name].to(stream.device, copy=True)
            _check_finite(weight, name)
            score = magnitude_score
            if scores is not None:
                score = partial(wanda_score, input_norms=scores.input_norms(layer, linear))
            pruned[name] = _zero(weight, score, n, m)
        yield pruned


def _zero(weight: torch.Tensor, score: Callable[[torch.Tensor], torch.Tensor], n: int, m: int) -> torch.Tensor:
    """The weights [out, in], in place, with all but the `n` of every `m` of the largest score exactly zero."""
    for rows in weight.split(max(1, SCORED_ROWS * 4 // m)):
        rows.masked_fill_(~n_m_mask(score(rows), n, m), 0)
    return weight


def _check_finite(weight: torch.Tensor, where: str) -> None:
    # a NaN is neither large nor small: it would go or stay by chance. The extremes say so without copies of the weights
    if not torch.stack(torch.aminmax(weight)).isfinite().all():
        raise RunFailed("weights that are not finite", where=where, hint="the checkpoint is broken")


class SquaredNorms:
    """Sums of squares [in] of inputs, float64: what Wanda goes by."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.sums = torch.zeros(width, dtype=torch.float64)

    def add(self, inputs: torch.Tensor) -> None:
        """Add inputs [..., in]."""
        self.sums += inputs.float().square().flatten(0, -2).sum(0).cpu()


@dataclass(frozen=True)
class Pruner:
    """Prunes the groups of one block, and keeps the results as they will be stored."""

    stream: BlockStream
    layer: int
    block: Any
    scorer: str
    pattern: tuple[int, int]
    notes: Notes
    say: Callable[[str], None]
    stored: dict[str, torch.Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def prune(self, linears: tuple[str, ...], measured: Any) -> None:
        """Prune layers that share an input, in the block and in `stored`, by the statistic of that input."""
        weights = {block_name(self.layer, f"{name}.weight"): self.block.get_submodule(name).weight for name in linears}
        # as one layer with more outputs; a copy, which may be written into
        stacked = torch.cat([weight.detach() for weight in weights.values()])
        where = block_name(self.layer, " and ".join(linears))
        _check_finite(stacked, where)
        prune = self._wanda if self.scorer == "wanda" else self._sparsegpt
        parts = prune(stacked, measured, where).split([len(weight) for weight in weights.values()])
        for (name, weight), part in zip(weights.items(), parts, strict=True):
            self.stored[name] = part.to(self.stream.source.layout[name].dtype, copy=True)
            # the next block sees the numbers as they are stored
            weight.copy_(self.stored[name])

    def _wanda(self, weight: torch.Tensor, norms: SquaredNorms, where: str) -> torch.Tensor:
        if not norms.sums.isfinite().all():
            raise RunFailed("the inputs are not finite", where=where, hint="the model's weights may be broken")
        return _zero(weight, partial(wanda_score, input_norms=norms.sums.sqrt().float()), *self.pattern)

    def _sparsegpt(self, weight: torch.Tensor, hessian: Hessian, where: str) -> torch.Tensor:
        factored = factor(hessian.matrix(), self.pattern[1], where=where)
        if factored.damping > DAMPING:
            self.notes.damping[where] = factored.damping
            self.say(f"{where}: the Hessian took a damping of {factored.damping:g}, not {DAMPING:g}")
        dead = int(factored.dead.sum())
        if dead:
            self.notes.dead_inputs[where] = dead
        return sparsegpt(weight, factored, *self.pattern)
