"""Which blocks a model misses least: what depth pruning by loss, by angle, or one block after another goes by.

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
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from regrow.arch import Architecture
from regrow.errors import InputError, RunFailed
from regrow.pruning.depth import least_important
from regrow.pruning.stream import BlockStream, batches

#: Tokens at most that a loss per block is measured on: a model without block k runs beside every other one.
REMOVAL_TOKENS = 4096

#: Bytes at most for the hidden states of all those models together; fewer tokens are taken where they would need more.
REMOVAL_BYTES = 4 * 2**30

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class DepthScores:
    """What a scorer of this module measured on a model.

    Attributes:
        scorer: `perplexity`, `angular` or `block-influence`.
        iterative: whether blocks went one by one, each measured without those before it.
        values: `perplexity` [layers], the loss (nats/token) without each block; `angular` [layers + 1, layers + 1], the
            distance between the states before block row and before block column, in [0, 1]; iterative [layers], the
            round each block went in, from 0, infinity for those that stayed.
        loss: the loss of the whole model on the same tokens, nats/token; None where none was measured.
        tokens: calibration tokens.
        fingerprint: of the model; see `regrow.pruning.calibration.weights_fingerprint`.
    """

    scorer: str
    iterative: bool
    values: torch.Tensor
    loss: float | None
    tokens: int
    fingerprint: str

    def dropped(self, count: int) -> tuple[int, ...]:
        """The blocks to drop, ascending. Raises `InputError` if an iterative order is shorter than `count`."""
        if self.scorer == "angular":
            return contiguous(self.values, count)
        order = int(self.values.isfinite().sum())
        if order < count:
            raise InputError(
                f"the scores order {order} blocks, {count} are to go", where="scores", hint="measure them again"
            )
        return least_important(self.values, count)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file. Raises `InputError` if it cannot be written."""
        about = {
            "kind": "depth",
            "scorer": self.scorer,
            "iterative": str(int(self.iterative)),
            "loss": "" if self.loss is None else repr(self.loss),
            "tokens": str(self.tokens),
            "fingerprint": self.fingerprint,
        }
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            save_file({"values": self.values.contiguous()}, str(path), metadata=about)
        # safetensors reports a failed write as its own error
        except Exception as error:
            raise InputError(f"cannot write the scores: {error}", where=str(path)) from error

    @classmethod
    def load(cls, path: str | Path) -> DepthScores:
        """Read what `save` wrote. Raises `InputError` if the file is missing, broken or something else."""
        try:
            with safe_open(str(path), framework="pt") as file:
                about = file.metadata()
                return cls(
                    scorer=about["scorer"],
                    iterative=about["iterative"] == "1",
                    values=file.get_tensor("values"),
                    loss=float(about["loss"]) if about["loss"] else None,
                    tokens=int(about["tokens"]),
                    fingerprint=about["fingerprint"],
                )
        # OSError, SafetensorError, KeyError, TypeError: whatever it is, it is no scores file
        except Exception as error:
            raise InputError(
                f"not a scores file ({error})", where=str(path), hint="measure the scores again"
            ) from error


def contiguous(distances: torch.Tensor, count: int) -> tuple[int, ...]:
    """The `count` blocks in a row over which the states turn least, from `angular_distances`; of equals the first."""
    start = int(distances.diagonal(count).argmin())
    return tuple(range(start, start + count))


def measure_depth(
    stream: BlockStream,
    tokens: torch.Tensor,
    *,
    scorer: str,
    iterative: bool,
    count: int,
    fingerprint: str,
    progress: Progress | None = None,
) -> DepthScores:
    """Measure what a depth scorer goes by on calibration tokens [samples, length].

    `count` is how many blocks an iterative order reaches; the other measures serve any number. `perplexity` takes no
    more samples than `removal_samples` allows.
    """
    say = progress or (lambda line: None)
    loss = None
    if scorer == "perplexity":
        # spread over all of them: samples lie in the order of the text, whose beginning may be of one kind
        samples = min(len(tokens), removal_samples(stream.arch, tokens.shape[1]))
        tokens = tokens[torch.linspace(0, len(tokens) - 1, samples).round().long()]
    if scorer == "angular":
        values = angular_distances(stream, tokens, progress=progress)
    elif not iterative:
        assert scorer == "perplexity", scorer
        values, loss = removal_losses(stream, tokens, progress=progress)
    else:
        values = torch.full((stream.layers,), math.inf)
        for step in range(count):
            gone = [layer for layer in range(stream.layers) if values[layer].isfinite()]
            if scorer == "perplexity":
                found, whole = removal_losses(stream, tokens, without=gone)
                loss = whole if step == 0 else loss
            else:
                found = block_influences(stream, tokens, without=gone)
            layer = least_important(found, 1)[0]
            values[layer] = step
            say(f"block {layer} goes ({step + 1} of {count})")
    return DepthScores(
        scorer=scorer,
        iterative=iterative,
        values=values,
        loss=loss,
        tokens=tokens.numel(),
        fingerprint=fingerprint,
    )


def removal_samples(arch: Architecture, length: int) -> int:
    """Samples of this length that `perplexity` is measured on: `REMOVAL_TOKENS`, less where memory asks; at least 1."""
    # a state per block and token, in float32 at most
    tokens = min(REMOVAL_TOKENS, REMOVAL_BYTES // (4 * arch.hidden * (arch.layers + 1)))
    return max(1, tokens // length)


def removal_losses(
    stream: BlockStream, tokens: torch.Tensor, *, without: Collection[int] = (), progress: Progress | None = None
) -> tuple[torch.Tensor, float]:
    """Losses [layers], nats/token, with each block left out, and the loss with none of them left out.

    Blocks in `without` are left out throughout; theirs is infinite. One walk over the blocks: at each, the states of
    the whole model are set aside as those of the model without it, and all models so far go through it together. So
    each block is loaded once and half of layers * layers block passes are run, with the states of all models held.
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
    """Block Influence [layers] in the model without some blocks; theirs is infinite."""
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
