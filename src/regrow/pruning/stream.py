"""A model one decoder block at a time, so that calibration and pruning need the memory of one block.

`BlockStream` walks the blocks of a checkpoint folder (or of a model in memory) in order. Each block is transformers'
own decoder layer with its weights loaded, and gets from transformers' own model class the rotary embeddings and the
attention mask of its layer type; so a walk through all blocks is the forward pass, with never more than one of them in
memory beside the hidden states.

Shapes: tokens [samples, length], hidden states [samples, length, hidden].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from regrow.arch import Architecture
from regrow.errors import InputError, RunFailed, one_of, reason_of
from regrow.models.config_file import skeleton_of
from regrow.models.experts import as_built, as_stored
from regrow.models.folder import open_checkpoint
from regrow.models.layout import EMBEDDING, FINAL_NORM, OUTPUT, split_block_name
from regrow.models.load import architecture_of, local_checkpoint
from regrow.models.outputs import logits_of_output
from regrow.models.precision import has_fast_bf16

#: Tokens per forward pass: bounds the activations inside a block, whatever the model's context.
BATCH_TOKENS = 4096

#: The same on a CPU, where activations that stay in its caches save a tenth of the time.
CPU_BATCH_TOKENS = 1024

#: Types as people write them.
_SHORT = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}

#: Hidden width from which a CPU takes bf16 products by itself. Narrower models are pruned in seconds, and are rounded
#: alike on every CPU.
BF16_HIDDEN = 512

#: Values of `precision`; see `compute_types`.
PRECISIONS = ("auto", "fp32", "bf16")

#: Entries of the vocabulary whose logits are computed at a time.
VOCABULARY_CHUNK = 16384


class Source(Protocol):
    """Where a stream's parameters come from.

    `config` is transformers' config of the model that they make; `layout` has each parameter's name, shape and type as
    a tensor on the meta device, tied embeddings once; `read` gives some of them as they are stored, not to be changed.
    """

    config: PretrainedConfig
    arch: Architecture
    layout: Mapping[str, torch.Tensor]

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]: ...


class FolderSource:
    """The parameters of a checkpoint folder, read when asked for.

    Raises `InputError` if it is not a whole checkpoint of a supported family.
    """

    def __init__(self, folder: str | Path) -> None:
        self.checkpoint = open_checkpoint(local_checkpoint(folder))
        self.config, self.arch, self.layout = self.checkpoint.config, self.checkpoint.arch, self.checkpoint.layout

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        return self.checkpoint.reader.read(names)


class ModelSource:
    """The parameters of a model in memory."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.config, self.arch = model.config, architecture_of(model)
        self._parameters = as_stored((name, parameter.detach()) for name, parameter in model.named_parameters())
        self.layout: Mapping[str, torch.Tensor] = {name: tensor.to("meta") for name, tensor in self._parameters.items()}

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        return {name: self._parameters[name] for name in names}


class BlockStream:
    """A walk through a model's decoder blocks, one in memory at a time.

    Args:
        source: where the parameters come from; see `open_stream` for the usual two.
        device: where blocks are run and hidden states lie.
        precision: `fp32`, `bf16` or `auto`; see `compute_types`.

    Attributes:
        dtype: of hidden states, of weights in a block, and of all that is computed from them.
        matmul_dtype: to which the factors of a block's matrix products are rounded.

    Usage::

        stream = open_stream("model-folder")
        hidden = stream.embed(tokens)
        for layer, block in stream.blocks():
            hidden = stream.run(block, hidden)
        loss = stream.loss(hidden, tokens)
    """

    def __init__(self, source: Source, *, device: str | torch.device = "cpu", precision: str = "auto") -> None:
        self.source, self.config, self.arch = source, source.config, source.arch
        self.device, self._asked = torch.device(device), precision
        self.dtype, self.matmul_dtype = compute_types(
            self.device, source.layout[EMBEDDING].dtype, source.arch.hidden, precision
        )
        skeleton = skeleton_of(self.config)
        self._block_class, self._norm_class = type(skeleton.model.layers[0]), type(skeleton.model.norm)
        self._arguments = _LayerArguments(skeleton.model, self.device, self.dtype)

    @property
    def precision(self) -> str:
        """The type of the factors of a block's matrix products, e.g. `fp32`."""
        return _SHORT.get(self.matmul_dtype, str(self.matmul_dtype))

    def over(self, source: Source) -> BlockStream:
        """A walk through other parameters, computed the same way."""
        return BlockStream(source, device=self.device, precision=self._asked)

    @property
    def layers(self) -> int:
        """Decoder blocks of the model."""
        return self.arch.layers

    def names(self, layer: int) -> list[str]:
        """The parameters of a block, by their names in the checkpoint."""
        return [name for name in self.source.layout if (place := split_block_name(name)) and place[0] == layer]

    def block(self, layer: int) -> Any:
        """One decoder block in the compute type: a copy of its own, free to be changed."""
        with torch.device("meta"):
            block = self._block_class(self.config, layer)
        state = {}
        for name, tensor in self.source.read(self.names(layer)).items():
            place = split_block_name(name)
            assert place is not None
            state[place[1]] = tensor.to(self.device, self.dtype, copy=True)
        block.load_state_dict(as_built(state), assign=True)
        return block.requires_grad_(False).eval()

    def blocks(self, layers: Iterable[int] | None = None) -> Iterator[tuple[int, Any]]:
        """`(layer, block)` in order, or those of `layers`. A block's weights are freed when the next is asked for."""
        for layer in range(self.layers) if layers is None else layers:
            block = self.block(layer)
            yield layer, block
            # a loop's variable still holds the last block while the next is made
            block.to("meta")

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Hidden states [samples, length, hidden] before the first block; only the rows that occur are read.

        Raises `InputError` for tokens that are not of this model's vocabulary.
        """
        check_tokens(tokens, self.arch)
        table = self.source.read([EMBEDDING])[EMBEDDING]
        states = table[tokens.long().to(table.device)].to(self.device, self.dtype)
        family = self.arch.family
        scale = family.multiplier("embedding", self.config)
        if family.multipliers.root_hidden:
            # Gemma holds this number in the type of the weights
            return states * torch.tensor(scale, device=self.device, dtype=self.dtype)
        return states if scale == 1 else states * scale

    @torch.no_grad()
    def run(self, block: nn.Module, hidden: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden states after a block, in batches of `BATCH_TOKENS`. `out` may be `hidden`: it is then overwritten."""
        out = torch.empty_like(hidden) if out is None else out
        arguments = self.arguments(block, hidden.shape[1])
        with self.computing():
            for rows in batches(hidden):
                out[rows] = block(hidden[rows], **arguments)
        return out

    def computing(self) -> torch.autocast:
        """The context in which a block's layers run: their matrix products round both factors to `matmul_dtype`."""
        return torch.autocast(self.device.type, self.matmul_dtype, enabled=self.matmul_dtype != self.dtype)

    def arguments(self, block: Any, length: int) -> dict[str, Any]:
        """What transformers hands to this block beside the hidden states: rotary embeddings, mask, positions."""
        return self._arguments(length)[block.self_attn.layer_idx]

    @torch.no_grad()
    def norm(self, hidden: torch.Tensor) -> torch.Tensor:
        """The final norm of hidden states [..., hidden]: what the output layer reads."""
        return self._final_norm()(hidden)

    @torch.no_grad()
    def loss(self, hidden: torch.Tensor, tokens: torch.Tensor) -> float:
        """Mean cross-entropy in nats/token of each sample's tokens after the first, from the last hidden states.

        The output layer runs in chunks of tokens and vocabulary, so that neither all logits nor the whole matrix in
        the compute type is ever held. The sum is taken in float64. Raises `RunFailed` if the loss is not finite.
        """
        name = EMBEDDING if self.arch.tied else OUTPUT
        matrix = self.source.read([name])[name]
        norm, finish = self._final_norm(), logits_of_output(self.config)
        targets = tokens.long()[:, 1:].to(self.device)
        logsum = torch.full(targets.shape, -math.inf, device=self.device)
        picked = torch.zeros(targets.shape, device=self.device)
        for start in range(0, matrix.shape[0], VOCABULARY_CHUNK):
            entries = matrix[start : start + VOCABULARY_CHUNK].to(self.device, self.dtype)
            for rows in batches(hidden, BATCH_TOKENS // 4):
                logits = finish((norm(hidden[rows, :-1]) @ entries.T).float())
                logsum[rows] = torch.logaddexp(logsum[rows], logits.logsumexp(-1))
                place = targets[rows] - start
                inside = (place >= 0) & (place < len(entries))
                found = logits.gather(-1, place.clamp(0, len(entries) - 1)[..., None])[..., 0]
                picked[rows] = torch.where(inside, found, picked[rows])
        # not every device knows float64
        loss = (logsum - picked).cpu().double().mean().item()
        if not math.isfinite(loss):
            raise RunFailed("the loss is not finite", where="calibration", hint="the model's weights may be broken")
        return loss

    def _final_norm(self) -> nn.Module:
        with torch.device("meta"):
            norm = self._norm_class(self.arch.hidden, eps=self.config.rms_norm_eps)
        weight = self.source.read([FINAL_NORM])[FINAL_NORM].to(self.device, self.dtype, copy=True)
        norm.load_state_dict({"weight": weight}, assign=True)
        return norm.requires_grad_(False)


def open_stream(
    model: str | Path | PreTrainedModel | BlockStream,
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
) -> BlockStream:
    """A stream over a checkpoint folder or a model in memory; one that is a stream already comes back as it is.

    The device is the model's own, or the CPU. `precision` is explained at `compute_types`.

    Raises `InputError` if it is not a checkpoint of a supported family.
    """
    if isinstance(model, BlockStream):
        return model
    if isinstance(model, PreTrainedModel):
        return BlockStream(ModelSource(model), device=model.device if device is None else device, precision=precision)
    return BlockStream(FolderSource(model), device=_usable(device or "cpu"), precision=precision)


def _usable(device: str | torch.device) -> torch.device:
    """The device, after a test allocation on it. Raises `InputError` if it is not there."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    # RuntimeError, AssertionError (no such build) and NotImplementedError (meta), by device
    except Exception as error:
        raise InputError(
            f"device {str(device)!r} cannot be used ({reason_of(error)})",
            where="device",
            hint="cpu always works",
        ) from None
    return found


def compute_types(
    device: torch.device, stored: torch.dtype, hidden: int, precision: str = "auto"
) -> tuple[torch.dtype, torch.dtype]:
    """The type to compute in, and the type to which the factors of matrix products are rounded.

    An accelerator computes everything in one type. A CPU computes in float32, because most CPUs emulate 16-bit
    arithmetic, hundreds of times slower; a block at a time costs little memory. Those that multiply bf16 natively do so
    twice as fast as float32, and sum in float32: weights that are stored in bf16 lose nothing by it, activations are
    rounded to 8 bits where a layer reads them.

    Args:
        device: where blocks are run.
        stored: the type of the weights.
        hidden: the hidden width of the model.
        precision: `fp32`, `bf16`, or `auto`: on an accelerator the stored type; on a CPU bf16 products where the
            weights are stored in bf16, the model is at least `BF16_HIDDEN` wide and the CPU multiplies bf16 natively,
            else float32.

    Raises `InputError` for another precision.
    """
    one_of(precision, PRECISIONS, what="precision", where="precision")
    asked = None if precision == "auto" else next(dtype for dtype, name in _SHORT.items() if name == precision)
    if device.type != "cpu":
        return asked or stored, asked or stored
    if asked is None:
        gains = stored == torch.bfloat16 and hidden >= BF16_HIDDEN and has_fast_bf16(device)
        asked = torch.bfloat16 if gains else torch.float32
    return torch.float32, asked


def batch_tokens(device: torch.device) -> int:
    """Tokens of a forward pass on this device."""
    return min(BATCH_TOKENS, CPU_BATCH_TOKENS) if device.type == "cpu" else BATCH_TOKENS


def batches(hidden: torch.Tensor, tokens: int | None = None) -> list[slice]:
    """Slices of the samples of hidden states [samples, length, ...] that hold `tokens` tokens, or one sample."""
    size = max(1, (tokens or batch_tokens(hidden.device)) // hidden.shape[1])
    return [slice(start, start + size) for start in range(0, hidden.shape[0], size)]


def check_tokens(tokens: torch.Tensor, arch: Architecture) -> None:
    """Raise `InputError` unless these are calibration tokens [samples, length] of the model's vocabulary."""
    if tokens.ndim != 2 or not tokens.numel() or tokens.is_floating_point():
        raise InputError(
            f"calibration tokens of shape {tuple(tokens.shape)} and type {tokens.dtype}",
            where="calibration",
            hint="give whole numbers in the shape [blocks, length]",
        )
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= arch.vocab:
        raise InputError(
            f"token {high if high >= arch.vocab else low} is outside the model's vocabulary of {arch.vocab}",
            where="calibration",
            hint="tokenise the text with the model's own tokenizer",
        )


class _LayerArguments:
    """The keyword arguments of every block, recorded from transformers' own forward pass of the family.

    The blocks of a skeleton are replaced by modules that record their arguments and return the hidden states unchanged.
    The arguments depend on the length alone (samples have one length, without padding), so one sample serves all.
    """

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._model, self._device, self._dtype = model, device, dtype
        self._known: tuple[int, list[dict[str, Any]]] = (0, [])
        # the frequencies are computed, not loaded; on the meta device they would be empty
        with torch.device(device):
            model.rotary_emb = type(model.rotary_emb)(config=model.config)
        model.norm = nn.Identity()
        model.layers = nn.ModuleList(_Catcher() for _ in model.layers)
        model.eval()

    def __call__(self, length: int) -> list[dict[str, Any]]:
        if self._known[0] != length:
            states = torch.zeros(1, length, self._model.config.hidden_size, device=self._device, dtype=self._dtype)
            with torch.no_grad():
                self._model(inputs_embeds=states, use_cache=False)
            self._known = length, [layer.arguments for layer in self._model.layers]
        return self._known[1]


class _Catcher(nn.Module):
    """Stands in a block's place and keeps its keyword arguments."""

    def forward(self, hidden_states: torch.Tensor, **arguments: Any) -> torch.Tensor:
        self.arguments = arguments
        return hidden_states
