"""N:M sparsity block by block, each layer pruned on the inputs that the pruned layers before it give.

Within a block the layers that share an input go together and in order: q, k and v; then o, on the heads' outputs with
q, k and v already pruned; then gate and up, after attention with all four; then down. So each layer sees what it will
see in the pruned model, as in SparseGPT's and Wanda's papers, which go block by block; a step finer costs less here, as
attention then runs once per block, not twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
GROUPS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)

#: Called for each group of layers with its names and batches [samples, length, in] of the inputs that they share.
Visit = Callable[[tuple[str, ...], Iterable[torch.Tensor]], None]


@dataclass
class Notes:
    """What happened on the way that belongs in the record.

    Attributes:
        inputs: `propagated` (each layer's inputs come from pruned layers), `dense` (from scores of the unpruned
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
        pruner = _Pruner(stream, layer, block, scorer, (n, m), notes, say)
        hidden = step_through(stream, block, hidden, pruner)
        say(f"{scorer} {n}:{m}: {layer + 1} of {stream.layers} blocks")
        yield pruner.stored


def _by_stored_scores(stream: BlockStream, scores: Scores | None, n: int, m: int) -> Iterator[dict[str, torch.Tensor]]:
    for layer in range(stream.layers):
        names = {block_name(layer, f"{linear}.weight"): linear for linear in BLOCK_LINEARS}
        pruned = {}
        for name, linear in names.items():
            weight = stream.source.read([name])[name].to(stream.device)
            _check_finite(weight, name)
            score = magnitude_score(weight)
            if scores is not None:
                score = wanda_score(weight, scores.input_norms(layer, linear))
            pruned[name] = weight.masked_fill(~n_m_mask(score, n, m), 0)
        yield pruned


def _check_finite(weight: torch.Tensor, where: str) -> None:
    # a NaN is neither large nor small: it would go or stay by chance
    if not weight.isfinite().all():
        raise RunFailed("weights that are not finite", where=where, hint="the checkpoint is broken")


@torch.no_grad()
def step_through(stream: BlockStream, block: Any, hidden: torch.Tensor, visit: Visit) -> torch.Tensor:
    """Run a block part by part; `visit` sees each group's inputs and may change its weights before they are used.

    `hidden` [samples, length, hidden] is overwritten by the states after the block, and returned. Beside it only what
    `o_proj` reads is held whole; the inputs of the others are computed again where they are needed twice.
    """
    rows = batches(hidden)
    arguments = stream.arguments(block, hidden.shape[1])
    attention, mlp = block.self_attn, block.mlp
    before, between = block.input_layernorm, block.post_attention_layernorm

    def neurons(batch: slice) -> torch.Tensor:
        with _without(mlp, "down_proj"):
            return mlp(between(hidden[batch]))

    visit(GROUPS[0], (before(hidden[batch]) for batch in rows))
    heads = hidden.new_empty(*hidden.shape[:2], attention.o_proj.in_features)
    for batch in rows:
        with _without(attention, "o_proj"):
            heads[batch] = attention(hidden_states=before(hidden[batch]), **arguments)[0]
    visit(GROUPS[1], (heads[batch] for batch in rows))
    for batch in rows:
        hidden[batch] += attention.o_proj(heads[batch])
    del heads
    visit(GROUPS[2], (between(hidden[batch]) for batch in rows))
    visit(GROUPS[3], (neurons(batch) for batch in rows))
    for batch in rows:
        hidden[batch] += mlp(between(hidden[batch]))
    return hidden


@contextmanager
def _without(module: nn.Module, name: str) -> Iterator[None]:
    """The module with one of its layers passing its input through: what comes out is what that layer reads."""
    layer = getattr(module, name)
    setattr(module, name, nn.Identity())
    try:
        yield
    finally:
        setattr(module, name, layer)


@dataclass(frozen=True)
class _Pruner:
    """Prunes the groups of one block as `step_through` visits them, and keeps the results as they will be stored."""

    stream: BlockStream
    layer: int
    block: Any
    scorer: str
    pattern: tuple[int, int]
    notes: Notes
    say: Callable[[str], None]
    stored: dict[str, torch.Tensor] = field(default_factory=dict)

    def __call__(self, linears: tuple[str, ...], inputs: Iterable[torch.Tensor]) -> None:
        weights = {block_name(self.layer, f"{name}.weight"): self.block.get_submodule(name).weight for name in linears}
        # layers that share an input are pruned as one with more outputs
        stacked = torch.cat([weight.detach() for weight in weights.values()])
        where = block_name(self.layer, " and ".join(linears))
        _check_finite(stacked, where)
        prune = self._wanda if self.scorer == "wanda" else self._sparsegpt
        pruned = prune(stacked, inputs, where)
        parts = pruned.split([len(weight) for weight in weights.values()])
        for (name, weight), part in zip(weights.items(), parts, strict=True):
            self.stored[name] = part.to(self.stream.source.layout[name].dtype, copy=True)
            # what follows sees the numbers as they are stored
            weight.copy_(self.stored[name])

    def _wanda(self, weight: torch.Tensor, inputs: Iterable[torch.Tensor], where: str) -> torch.Tensor:
        squares = torch.zeros(weight.shape[1], dtype=torch.float64)
        for batch in inputs:
            squares += batch.float().square().flatten(0, -2).sum(0).cpu()
        if not squares.isfinite().all():
            raise RunFailed("the inputs are not finite", where=where, hint="the model's weights may be broken")
        score = wanda_score(weight, squares.sqrt().float())
        return weight.masked_fill(~n_m_mask(score, *self.pattern), 0)

    def _sparsegpt(self, weight: torch.Tensor, inputs: Iterable[torch.Tensor], where: str) -> torch.Tensor:
        hessian = Hessian(weight.shape[1], weight.device)
        for batch in inputs:
            hessian.add(batch)
        factored = factor(hessian.matrix(), where=where)
        if factored.damping > DAMPING:
            self.notes.damping[where] = factored.damping
            self.say(f"{where}: the Hessian took a damping of {factored.damping:g}, not {DAMPING:g}")
        dead = int(factored.dead.sum())
        if dead:
            self.notes.dead_inputs[where] = dead
        return sparsegpt(weight, factored, *self.pattern)
