"""One walk over calibration text; every activation-based score comes from what it leaves.

Only norms are kept, a few numbers per channel, so that many pruning rates and methods cost one pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from regrow.arch import Architecture
from regrow.data.blocks import Blocks
from regrow.errors import InputError, RunFailed
from regrow.models.layout import block_weights, is_block_weight
from regrow.pruning.stream import BlockStream, Source, batches, open_stream


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Activation statistics of a model on calibration text, float32 on the CPU.

    Norms are L2 norms over all calibration tokens, one per channel (the aggregation of Wanda, arXiv 2306.11695, for
    its input features, and of Minitron, arXiv 2407.14679, with L2 over both batch and sequence).

    Attributes:
        block_influence [layers]: 1 - mean cosine similarity of a block's input and output hidden states (ShortGPT,
            arXiv 2403.03853); small: the block changes little.
        attention_input [layers, hidden]: norms of what q, k and v read, the first layer norm's output.
        attention_output [layers, heads * head_dim]: norms of what o_proj reads, the heads' outputs.
        mlp_input [layers, hidden]: norms of what gate and up read, the second layer norm's output.
        mlp_activation [layers, intermediate]: norms of what down_proj reads, the neurons.
        final_norm [hidden]: norms of what the output layer reads.
        tokens: calibration tokens.
        fingerprint: of the model they were measured on; see `weights_fingerprint`.
    """

    block_influence: torch.Tensor
    attention_input: torch.Tensor
    attention_output: torch.Tensor
    mlp_input: torch.Tensor
    mlp_activation: torch.Tensor
    final_norm: torch.Tensor
    tokens: int
    fingerprint: str

    def hidden(self) -> torch.Tensor:
        """Importance [hidden] of each channel of the residual stream: its norms summed over all layer norms."""
        return self.attention_input.sum(0) + self.mlp_input.sum(0) + self.final_norm

    def kv_groups(self, arch: Architecture) -> torch.Tensor:
        """Importance [layers, kv_heads] of each KV head: the norm of the outputs of its query heads together."""
        return self.attention_output.unflatten(1, (arch.kv_heads, -1)).norm(dim=-1)

    def input_norms(self, layer: int, linear: str) -> torch.Tensor:
        """Norms [in] of the input features of a block's linear layer, e.g. `self_attn.q_proj`."""
        if linear in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            return self.attention_input[layer]
        table = {
            "self_attn.o_proj": self.attention_output,
            "mlp.gate_proj": self.mlp_input,
            "mlp.up_proj": self.mlp_input,
            "mlp.down_proj": self.mlp_activation,
        }
        return table[linear][layer]

    def save(self, path: str | Path) -> None:
        """Write one safetensors file. Raises `InputError` if it cannot be written."""
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, str(path), metadata={"tokens": str(self.tokens), "fingerprint": self.fingerprint})
        # safetensors reports a failed write as its own error
        except Exception as error:
            raise InputError(f"cannot write the scores: {error}", where=str(path)) from error

    @classmethod
    def load(cls, path: str | Path) -> Scores:
        """Read what `save` wrote. Raises `InputError` if the file is missing, broken or something else."""
        try:
            with safe_open(str(path), framework="pt") as file:
                about = file.metadata()
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
                return cls(**tensors, tokens=int(about["tokens"]), fingerprint=about["fingerprint"])
        # OSError, SafetensorError, KeyError, TypeError: whatever it is, it is no scores file
        except Exception as error:
            raise InputError(
                f"not a scores file ({error})", where=str(path), hint="measure the scores again"
            ) from error


_TENSORS = tuple(field.name for field in fields(Scores) if field.name not in ("tokens", "fingerprint"))


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


def random_scores(arch: Architecture, *, seed: int) -> Scores:
    """Scores that know nothing: uniform noise in the shapes of `Scores`, the baseline of every scorer."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "block_influence": (arch.layers,),
        "attention_input": (arch.layers, arch.hidden),
        "attention_output": (arch.layers, arch.heads * arch.head_dim),
        "mlp_input": (arch.layers, arch.hidden),
        "mlp_activation": (arch.layers, arch.intermediate),
        "final_norm": (arch.hidden,),
    }
    noise = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    return Scores(**noise, tokens=0, fingerprint="random")


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


class _Statistics:
    """Running sums behind `Scores`: each batch in float32, the totals in float64, on the model's device."""

    def __init__(self, arch: Architecture, device: torch.device) -> None:
        # float64 where the device has it: totals over millions of tokens lose digits otherwise
        total = torch.float32 if device.type == "mps" else torch.float64

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(*shape, dtype=total, device=device)

        self.similarity = zeros(arch.layers)
        self.squares = {
            "attention_input": zeros(arch.layers, arch.hidden),
            "attention_output": zeros(arch.layers, arch.heads * arch.head_dim),
            "mlp_input": zeros(arch.layers, arch.hidden),
            "mlp_activation": zeros(arch.layers, arch.intermediate),
            "final_norm": zeros(1, arch.hidden),
        }

    def attach(self, block: Any, layer: int) -> None:
        """Hook a block of a stream, which is let go with its hooks."""
        block.register_forward_hook(self._block(layer), with_kwargs=True)
        block.input_layernorm.register_forward_hook(self._output("attention_input", layer))
        block.self_attn.o_proj.register_forward_pre_hook(self._input("attention_output", layer))
        block.post_attention_layernorm.register_forward_hook(self._output("mlp_input", layer))
        block.mlp.down_proj.register_forward_pre_hook(self._input("mlp_activation", layer))

    def add(self, name: str, layer: int, x: torch.Tensor) -> None:
        """Add the squares of activations [..., width]."""
        self.squares[name][layer] += x.detach().float().square().flatten(0, -2).sum(0)

    def _output(self, name: str, layer: int) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        return lambda module, args, output: self.add(name, layer, output)

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
        return Scores(**norms, tokens=tokens, fingerprint=fingerprint)
