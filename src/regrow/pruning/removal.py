"""Importance of blocks for depth pruning: by loss, angle or influence, all at once or one block after another.

Each measure walks the blocks of a `BlockStream`, so that one block is in memory at a time:

- `removal_losses`: the loss on calibration text with each block left out (Shortened LLaMA, Kim et al. 2024,
  arXiv 2402.02834, its perplexity criterion);
- `angular_distances`: the angle between the states before a block and n blocks later; the n blocks in a row with the
  smallest go together (Gromov et al. 2024, arXiv 2403.17887, eq. 7, at the last token of each sample);
- `block_influences`: 1 - mean cosine of a block's input and output (ShortGPT, Men et al. 2024, arXiv 2403.03853).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
from torch.nn import functional as F

from regrow.arch import Architecture
from regrow.errors import RunFailed
from regrow.pruning.calibration import calibrate, weights_fingerprint
from regrow.pruning.depth import least_important
from regrow.pruning.kernel import DepthKernel, Needs, Progress
from regrow.pruning.plan import PrunePlan
from regrow.pruning.scores import AnyScores, DepthScores
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import BlockStream, batches

#: Tokens, at most, on which a loss per block is measured: one model per block is run at the same time.
REMOVAL_TOKENS = 4096

#: Bytes, at most, for the hidden states of all those models; fewer tokens are used if they would need more.
REMOVAL_BYTES = 4 * 2**30


class _OwnScores(DepthKernel):
    def _scores(
        self, spec: PruneSpec, values: torch.Tensor, loss: float | None, tokens: torch.Tensor, stream: BlockStream
    ) -> DepthScores:
        return DepthScores(
            scorer=self.entry.name,
            iterative=spec.iterative,
            values=values,
            loss=loss,
            tokens=tokens.numel(),
            fingerprint=weights_fingerprint(stream.source),
        )


class BlockInfluence(_OwnScores):
    """Removes the blocks that change the hidden states least."""

    def measure(
        self,
        stream: BlockStream,
        spec: PruneSpec,
        plan: PrunePlan,
        tokens: torch.Tensor | None,
        *,
        progress: Progress | None = None,
    ) -> AnyScores:
        assert tokens is not None
        if not spec.iterative:
            return calibrate(stream, tokens, progress=progress)

        def find(gone: Collection[int]) -> torch.Tensor:
            return block_influences(stream, tokens, without=gone)

        values = one_by_one(find, stream.layers, plan.before.layers - plan.after.layers, progress=progress)
        return self._scores(spec, values, None, tokens, stream)


class Perplexity(_OwnScores):
    """Removes the blocks without which the loss is lowest, on no more samples than `removal_samples` allows."""

    def measure(
        self,
        stream: BlockStream,
        spec: PruneSpec,
        plan: PrunePlan,
        tokens: torch.Tensor | None,
        *,
        progress: Progress | None = None,
    ) -> DepthScores:
        assert tokens is not None
        # spread over all of them: samples lie in the order of the text, whose beginning may be of one kind
        samples = min(len(tokens), removal_samples(stream.arch, tokens.shape[1]))
        used = tokens[torch.linspace(0, len(tokens) - 1, samples).round().long()]
        if not spec.iterative:
            values, loss = removal_losses(stream, used, progress=progress)
            return self._scores(spec, values, loss, used, stream)
        whole: list[float] = []

        def find(gone: Collection[int]) -> torch.Tensor:
            losses, loss = removal_losses(stream, used, without=gone)
            whole.append(loss)
            return losses

        values = one_by_one(find, stream.layers, plan.before.layers - plan.after.layers, progress=progress)
        return self._scores(spec, values, whole[0] if whole else None, used, stream)

    def needs(self, arch: Architecture, *, samples: int, length: int, iterative: bool) -> Needs:
        if not samples:
            return Needs(loss=True)
        return Needs(samples=removal_samples(arch, length), walks=arch.layers + 1, loss=True)


class Angular(_OwnScores):
    """Removes the blocks in a row over which the hidden states turn least."""

    def measure(
        self,
        stream: BlockStream,
        spec: PruneSpec,
        plan: PrunePlan,
        tokens: torch.Tensor | None,
        *,
        progress: Progress | None = None,
    ) -> DepthScores:
        assert tokens is not None
        values = angular_distances(stream, tokens, progress=progress)
        return self._scores(spec, values, None, tokens, stream)


def one_by_one(
    find: Callable[[Collection[int]], torch.Tensor], layers: int, count: int, *, progress: Progress | None = None
) -> torch.Tensor:
    """The round [layers] in which each block goes, from 0; infinity for those that stay after `count` rounds.

    `find` gives the importance [layers] of the blocks when some are already gone; theirs is infinite.
    """
    values = torch.full((layers,), math.inf)
    for step in range(count):
        gone = [layer for layer in range(layers) if values[layer].isfinite()]
        layer = least_important(find(gone), 1)[0]
        values[layer] = step
        if progress:
            progress(f"block {layer} goes ({step + 1} of {count})")
    return values


def removal_samples(arch: Architecture, length: int) -> int:
    """Samples of this length that `perplexity` is measured on: `REMOVAL_TOKENS`, less where memory asks; at least 1."""
    # a state per block and token, in float32 at most
    tokens = min(REMOVAL_TOKENS, REMOVAL_BYTES // (4 * arch.hidden * (arch.layers + 1)))
    return max(1, tokens // length)


def removal_losses(
    stream: BlockStream, tokens: torch.Tensor, *, without: Collection[int] = (), progress: Progress | None = None
) -> tuple[torch.Tensor, float]:
    """Losses [layers], nats/token, with each block left out, and the loss with none of them left out.

    Blocks in `without` are left out throughout; their loss is infinite. One walk over the blocks is enough: before each
    block, the states of the whole model are kept as those of the model without that block, and the states of all models
    so far are then run through it. So each block is loaded once, about layers * layers / 2 block passes are run, and
    the states of all models are held.
    """
    whole = stream.embed(tokens)
    others: dict[int, torch.Tensor] = {}
    for layer, block in stream.blocks([layer for layer in range(stream.layers) if layer not in without]):
        for states in others.values():
            stream.run(block, states, out=states)
        others[layer] = whole
        whole = stream.run(block, whole)
        if progress:
            progress(f"losses without a block: {layer + 1} of {stream.layers} blocks")
    losses = torch.full((stream.layers,), math.inf)
    for layer, states in others.items():
        losses[layer] = stream.loss(states, tokens)
    return losses, stream.loss(whole, tokens)


def angular_distances(stream: BlockStream, tokens: torch.Tensor, *, progress: Progress | None = None) -> torch.Tensor:
    """Distances [layers + 1, layers + 1] in [0, 1] between the states before any two blocks (the last: after all).

    arccos of the cosine over pi, at the last token of each sample, averaged over the samples.
    """
    hidden = stream.embed(tokens)
    # copies: the next block overwrites the states
    states = [hidden[:, -1].float().clone()]
    for layer, block in stream.blocks():
        hidden = stream.run(block, hidden, out=hidden)
        states.append(hidden[:, -1].float().clone())
        if progress:
            progress(f"angles: {layer + 1} of {stream.layers} blocks")
    unit = F.normalize(torch.stack(states).cpu().double(), dim=-1)
    cosines = torch.einsum("ash,bsh->abs", unit, unit).clamp(-1, 1)
    return _finite((cosines.arccos() / math.pi).mean(-1).float())


def block_influences(stream: BlockStream, tokens: torch.Tensor, *, without: Collection[int] = ()) -> torch.Tensor:
    """Block Influence [layers] in the model without the blocks of `without`, whose influence is infinite."""
    influences = torch.full((stream.layers,), math.inf)
    hidden = stream.embed(tokens)
    for layer, block in stream.blocks([layer for layer in range(stream.layers) if layer not in without]):
        after = stream.run(block, hidden)
        similar = sum(
            F.cosine_similarity(hidden[rows].float(), after[rows].float(), dim=-1).cpu().double().sum().item()
            for rows in batches(hidden)
        )
        influences[layer] = 1 - similar / tokens.numel()
        _finite(influences[layer])
        hidden = after
    return influences


def _finite(values: torch.Tensor) -> torch.Tensor:
    if not values.isfinite().all():
        raise RunFailed("a score is not finite", where="calibration", hint="the model's weights may be broken")
    return values
