"""How much memory pruning will take, said before the work starts, and refused if it is not there.

Pruning holds one decoder block, the hidden states of the calibration text, and what is computed on the way; the terms
below are what the code allocates, in bytes, beside what the process holds already.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import psutil
import torch

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.models.shards import CHUNK_BYTES
from regrow.pruning.removal import removal_samples
from regrow.pruning.sparsify import SCORED_ROWS
from regrow.pruning.spec import PruneSpec
from regrow.pruning.stream import BATCH_TOKENS, VOCABULARY_CHUNK

#: Tensors of a batch's width that are alive at once inside a block, at most: inputs, outputs, and what PyTorch copies.
_ALIVE = 4

#: Square float32 matrices that SparseGPT holds beside a block's Hessians: a factor and its inverse.
_SQUARES = 2

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes by purpose.

    Attributes:
        block: the weights of one block: as stored, in the compute type, and as they become.
        states: hidden states of the calibration text.
        batch: activations inside a block for one batch of tokens.
        solver: SparseGPT's matrices; weights that are worked on.
        output_layer: logits and entries of the output layer, where a loss is measured; its table, where channels are
            cut from it in memory.
        files: rows of the embeddings on their way from file to file.
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


def estimate(
    arch: Architecture,
    *,
    scorer: str,
    samples: int,
    length: int,
    walks: int = 1,
    loss: bool = False,
    narrowed: bool = False,
    compute_bytes: int = 4,
    stored_bytes: int = 2,
) -> MemoryEstimate:
    """Memory that pruning a model of this architecture takes.

    Args:
        arch: the model before pruning.
        scorer: as in `PruneSpec`.
        samples, length: calibration tokens; 0 samples where no text is read.
        walks: hidden states of the whole text that are held at once (`perplexity` holds one per block).
        loss: whether a loss is measured.
        narrowed: whether narrower models are walked before they are written.
        compute_bytes, stored_bytes: per weight, as computed and as stored.
    """
    query, kv = arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    files = min(2 * CHUNK_BYTES, 2 * arch.vocab * arch.hidden * stored_bytes)
    block = arch.block_params * (2 * stored_bytes + (compute_bytes if samples else 0))
    # a few rows at a time where weights are scored one by one: scores, in their order by place in the group,
    # comparisons and ranks
    rows = 24 * SCORED_ROWS * max(arch.intermediate, arch.hidden, query) if scorer in ("magnitude", "wanda") else 0
    if not samples:
        return MemoryEstimate(block=block, states=0, batch=0, solver=rows, output_layer=0, files=files)
    per_token = walks * arch.hidden
    at_once = min(samples * length, max(length, BATCH_TOKENS))
    inside = _ALIVE * max(arch.intermediate, query + 2 * kv, arch.hidden)
    solver = 0
    # the largest group of layers that share an input, stacked in float32
    group = 4 * arch.hidden * max(2 * arch.intermediate, query + 2 * kv)
    if scorer == "wanda":
        solver = group + rows
    if scorer == "sparsegpt":
        # by columns, and as it becomes; one Hessian at a time, its factor and what that is made from
        solver = 3 * group + 4 * (1 + _SQUARES) * max(arch.intermediate, arch.hidden, query) ** 2
        # what a block's layers read, of all tokens: the last norm's output beside the neurons or the heads
        per_token += arch.hidden + max(arch.intermediate, query)
    if scorer == "least-squares":
        # either half's in float32; one of all in float64, and thrice the kept part
        solver += (2 * 4 + 4 * 8) * arch.intermediate**2
    output_layer = arch.vocab * arch.hidden * stored_bytes if narrowed else 0
    if loss:
        entries, logits = min(arch.vocab, VOCABULARY_CHUNK), min(at_once, max(length, BATCH_TOKENS // 4))
        output_layer += entries * (arch.hidden * compute_bytes + 3 * logits * 4)
    return MemoryEstimate(
        block=block,
        states=samples * length * per_token * compute_bytes,
        batch=at_once * inside * compute_bytes,
        solver=solver,
        output_layer=output_layer,
        files=files,
    )


def estimate_for(
    arch: Architecture, spec: PruneSpec, *, samples: int, length: int, compute_bytes: int = 4, stored_bytes: int = 2
) -> MemoryEstimate:
    """`estimate` for a spec that reads `samples` of `length` tokens."""
    assert spec.scorer is not None
    walks = 1
    if spec.scorer == "perplexity" and samples:
        samples, walks = min(samples, removal_samples(arch, length)), arch.layers + 1
    elif spec.refits or spec.iterative:
        # the states before a block are kept while those after it are made
        walks = 2
    return estimate(
        arch,
        scorer=spec.scorer,
        samples=samples,
        length=length,
        walks=walks,
        loss=spec.shapes_tried > 1 or spec.scorer == "perplexity",
        narrowed=spec.shapes_tried > 1 or spec.refits,
        compute_bytes=compute_bytes,
        stored_bytes=stored_bytes,
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


def free_memory(device: torch.device) -> int | None:
    """Bytes that the process may still take on the device; None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    free = psutil.virtual_memory().available
    # a container's own limit, where it is lower (control groups version 2)
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        # files that were read are counted too, but make room when something asks
        said = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        used -= int(said.get("inactive_file", 0)) + int(said.get("active_file", 0))
        free = min(free, limit - used)
    except (OSError, ValueError):
        pass
    return free
