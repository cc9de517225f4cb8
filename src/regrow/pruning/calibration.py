"""One pass over calibration text, which gives all scores that are based on activations.

Only norms are kept, a few numbers per channel, so that one pass serves many pruning rates and methods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from regrow.arch import Architecture
from regrow.data.blocks import Blocks
from regrow.errors import RunFailed
from regrow.families import linears
from regrow.models.layout import block_weights, is_block_weight
from regrow.pruning.kernel import WidthKernel
from regrow.pruning.plan import PrunePlan
from regrow.pruning.scores import Scores
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import BlockStream, Source, batches, open_stream


def choose_blocks(blocks: Blocks, *, count: int, length: int, seed: int) -> torch.Tensor:
    """Calibration tokens [min(count, blocks), min(length, sequence_length)], picked at random without replacement."""
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randperm(len(blocks), generator=generator)[:count].sort().values
    return torch.from_numpy(blocks.tokens[picked.numpy(), :length]).long()


def weights_fingerprint(model: nn.Module | Source) -> str:
    """Which weights these are: SHA-256 (16 hex digits) over the first row of every block's linear weights."""
    digest = hashlib.sha256()
    if isinstance(model, nn.Module):
        weights: Iterable[tuple[str, torch.Tensor]] = block_weights(model).items()
    else:
        names = (name for name in model.layout if is_block_weight(name))
        weights = ((name, model.read([name])[name]) for name in names)
    for name, weight in weights:
        digest.update(name.encode() + str(tuple(weight.shape)).encode())
        digest.update(weight.detach()[0].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def calibrate(
    model: PreTrainedModel | BlockStream, tokens: torch.Tensor, *, progress: Callable[[str], None] | None = None
) -> Scores:
    """Walk calibration tokens [blocks, length] through the model once and keep the statistics.

    One decoder block is in memory at a time beside the hidden states; the output layer is not run. Raises `InputError`
    for tokens that are not of this model's vocabulary, `RunFailed` if the activations are not finite.
    """
    stream = model if isinstance(model, BlockStream) else open_stream(model)
    hidden = stream.embed(tokens)
    statistics = _Statistics(stream.arch, stream.device)
    for layer, block in stream.blocks():
        statistics.attach(block, layer)
        hidden = stream.run(block, hidden, out=hidden)
        if progress:
            progress(f"calibration: {layer + 1} of {stream.layers} blocks")
    for rows in batches(hidden):
        statistics.add("final_norm", 0, stream.norm(hidden[rows]))
    return statistics.scores(tokens=tokens.numel(), fingerprint=weights_fingerprint(stream.source))


class Activation(WidthKernel):
    """Keeps the parts with the largest norms of activations (Minitron, arXiv 2407.14679)."""

    def measure(
        self,
        stream: BlockStream,
        spec: PruneSpec,
        plan: PrunePlan,
        tokens: torch.Tensor | None,
        *,
        progress: Callable[[str], None] | None = None,
    ) -> Scores:
        assert tokens is not None
        return calibrate(stream, tokens, progress=progress)


#: The norms of the inputs of each group of a block's linear layers, by name.
_READ_BY = ("attention_input", "attention_output", "mlp_input", "mlp_activation")


class _Statistics:
    """Running sums behind `Scores`: each batch in float32, the totals in float64, on the model's device."""

    def __init__(self, arch: Architecture, device: torch.device) -> None:
        # float64 where the device has it: totals over millions of tokens lose digits otherwise
        total = torch.float32 if device.type == "mps" else torch.float64

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(*shape, dtype=total, device=device)

        self.family = arch.family
        self.similarity = zeros(arch.layers)
        self.squares = {
            "attention_input": zeros(arch.layers, arch.hidden),
            "attention_output": zeros(arch.layers, arch.heads * arch.head_dim),
            "mlp_input": zeros(arch.layers, arch.hidden),
            "mlp_activation": zeros(arch.layers, 0 if arch.experts else arch.intermediate),
            "final_norm": zeros(1, arch.hidden),
        }

    def attach(self, block: Any, layer: int) -> None:
        """Hook a block of a stream. The hooks vanish with the block."""
        block.register_forward_hook(self._block(layer), with_kwargs=True)
        readers = [block.get_submodule(group[0]) for group in linears(self.family)]
        if self.family.experts is not None:
            readers.append(block.mlp)
        for name, reader in zip(_READ_BY, readers, strict=False):
            reader.register_forward_pre_hook(self._input(name, layer))

    def add(self, name: str, layer: int, x: torch.Tensor) -> None:
        """Add the squares of activations [..., width]."""
        self.squares[name][layer] += x.detach().float().square().flatten(0, -2).sum(0)

    def _input(self, name: str, layer: int) -> Callable[[nn.Module, Any], None]:
        return lambda module, args: self.add(name, layer, args[0])

    def _block(self, layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            cosine = nn.functional.cosine_similarity(before.float(), after.float(), dim=-1)
            self.similarity[layer] += cosine.sum()

        return hook

    def scores(self, *, tokens: int, fingerprint: str) -> Scores:
        norms = {name: squares.sqrt().float().cpu() for name, squares in self.squares.items()}
        norms["final_norm"] = norms["final_norm"][0]
        norms["block_influence"] = (1 - self.similarity / tokens).float().cpu()
        for name, values in norms.items():
            if not torch.isfinite(values).all():
                raise RunFailed(f"{name} is not finite", where="calibration", hint="the model's weights may be broken")
        return Scores(**norms, tokens=tokens, fingerprint=fingerprint, scorer=None)
