"""How much memory pruning will take: estimated before the work starts, which is refused if less is free.

Pruning holds one decoder block, the hidden states of the calibration text, and the scorer's working memory. The terms
below are what the code allocates, in bytes, in addition to what the process already holds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.models.memory import free_memory
from regrow.models.shards import CHUNK_BYTES
from regrow.pruning.kernel import load_kernel
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import BATCH_TOKENS, VOCABULARY_CHUNK

#: Tensors of a batch's width that exist at once inside a block, at most: inputs, outputs, and PyTorch's copies.
_ALIVE = 4


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes by purpose.

    Attributes:
        block: the weights of one block: as stored, in the compute type, and as they become.
        states: hidden states of the calibration text.
        batch: activations inside a block for one batch of tokens.
        solver: a scorer's matrices, and weights that are worked on.
        output_layer: logits and entries of the output layer, where a loss is measured; its table, where channels are
            cut from it in memory.
        files: rows of the embeddings that are being copied from file to file.
    """

    block: int
    states: int
    batch: int
    solver: int
    output_layer: int
    files: int

    @property
    def total(self) -> int:
        """The sum of all."""
        return sum(getattr(self, field.name) for field in fields(self))

    def line(self) -> str:
        """For people, in GB of 10^9 bytes."""
        parts = {name.replace("_", " "): getattr(self, name) for name in (field.name for field in fields(self))}
        named = ", ".join(f"{size / 1e9:.2f} {name}" for name, size in parts.items() if size)
        return f"memory: about {self.total / 1e9:.2f} GB ({named})"


def estimate_for(
    arch: Architecture,
    spec: PruneSpec,
    *,
    samples: int,
    length: int,
    compute_bytes: int = 4,
    stored_bytes: int = 2,
    at_once: int = BATCH_TOKENS,
) -> MemoryEstimate:
    """Memory that pruning a model of this architecture takes.

    Args:
        arch: the model before pruning.
        spec: what to prune; its scorer's kernel says what it needs.
        samples, length: calibration tokens; 0 samples where no text is read.
        compute_bytes, stored_bytes: per weight, as computed and as stored.
        at_once: tokens of a forward pass, at most.
    """
    needs = load_kernel(spec.entry).needs(arch, samples=samples, length=length, iterative=spec.iterative)
    files = min(2 * CHUNK_BYTES, 2 * arch.vocab * arch.hidden * stored_bytes)
    # experts are stacked into new tensors when a block is made
    computed = compute_bytes * (2 if arch.experts else 1) if samples else 0
    block = arch.block_params * (2 * stored_bytes + computed)
    if not samples:
        return MemoryEstimate(block=block, states=0, batch=0, solver=needs.solver, output_layer=0, files=files)
    samples = samples if needs.samples is None else min(samples, needs.samples)
    searches = spec.shapes_tried > 1
    at_once = min(samples * length, max(length, at_once))
    inside = _ALIVE * max(arch.intermediate, (arch.heads + 2 * arch.kv_heads) * arch.head_dim, arch.hidden)
    output_layer = arch.vocab * arch.hidden * stored_bytes if searches or needs.narrowed else 0
    if searches or needs.loss:
        entries, logits = min(arch.vocab, VOCABULARY_CHUNK), min(samples * length, max(length, BATCH_TOKENS // 4))
        output_layer += entries * (arch.hidden * compute_bytes + 3 * logits * 4)
    return MemoryEstimate(
        block=block,
        states=samples * length * (needs.walks * arch.hidden + needs.per_token) * compute_bytes,
        batch=at_once * inside * compute_bytes,
        solver=needs.solver,
        output_layer=output_layer,
        files=files,
    )


def check_memory(needed: MemoryEstimate, device: torch.device) -> None:
    """Raises `InputError` if the device has less memory free than this."""
    free = free_memory(device)
    if free is not None and needed.total > free:
        hint = "lower --calibration-blocks or --calibration-length"
        if needed.states < needed.total / 4:
            hint = "use a machine with more memory"
        raise InputError(
            f"pruning needs {needed.total / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free",
            where="memory",
            hint=hint,
        )
