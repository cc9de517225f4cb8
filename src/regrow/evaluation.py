"""Held-out loss in nats per token. Every point of every curve comes from here."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import functional as F
from transformers import PreTrainedModel

from regrow.data import Blocks
from regrow.errors import InputError
from regrow.models.outputs import logits_of_output, output_layer_gives, rows_of_logits

#: Tokens of a forward pass on a CPU: more at once make activations that do not fit into its cache.
CPU_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A held-out loss and how it was measured.

    Attributes:
        loss: mean over predicted tokens, nats/token.
        tokens: predicted tokens: `sequence_length - 1` of every block.
        sequence_length: tokens of context at most; losses at different lengths do not compare.
        fingerprint: of the held-out blocks.
    """

    loss: float
    tokens: int
    sequence_length: int
    fingerprint: str


def check_vocabulary(blocks: Blocks, model: PreTrainedModel, *, where: str) -> None:
    """Raise `InputError` if a token is outside the model's vocabulary: the tokenizer is another model's."""
    largest, entries = blocks.largest_token, model.config.vocab_size
    if largest >= entries:
        raise InputError(
            f"token {largest} is outside the model's {entries} entries",
            where=where,
            hint="the tokenizer does not match the model",
        )


@torch.no_grad()
def evaluate(
    model: PreTrainedModel,
    blocks: Blocks,
    *,
    batch_size: int | None = None,
    share: tuple[int, int] = (0, 1),
    isolated: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """The mean cross-entropy of every block's tokens after the first, given those before it in the block.

    The forward pass runs in the model's dtype (give fp32 weights where 0.001 nats matter: bf16 rounds about that
    much), the log-softmax in fp32, the sum in fp64. Logits are made in slices of tokens.
    Raises `InputError` if a token is outside the model's vocabulary.

    Args:
        batch_size: blocks in a forward pass; None: 16 on an accelerator, about `CPU_TOKENS` tokens on a CPU.
        share: this process and how many there are: each reads its part of the batches, and all get the number that one
            process would, to the bit. All of them must call.
        isolated: keep attention inside each document of a block. The same tokens are predicted either way, the first
            of a document from the end-of-text token before it, so that both losses are over one set.
        progress: called after each batch with the tokens read since the last call.
    """
    check_vocabulary(blocks, model, where="held-out text")
    if batch_size is None:
        batch_size = 16 if model.device.type != "cpu" else max(1, CPU_TOKENS // blocks.sequence_length)
    was_training = model.training
    model.eval()
    process, processes = share
    starts = range(0, len(blocks), batch_size)
    sums = torch.zeros(len(starts), dtype=torch.float64)
    try:
        for first in range(0, len(starts), processes):
            # a process without a batch of its own reads the last again: a sharded model's forward pass needs everyone
            index = min(first + process, len(starts) - 1)
            rows = range(starts[index], min(starts[index] + batch_size, len(blocks)))
            ids = torch.from_numpy(np.ascontiguousarray(blocks.tokens[rows.start : rows.stop]))
            ids = ids.long().to(model.device)
            # without a mask of its own, transformers takes positions that start again for documents of their own
            positions = torch.from_numpy(blocks.position_ids(rows)).to(model.device) if isolated else None
            with _losses_for_logits(model, ids):
                losses = model(input_ids=ids, position_ids=positions, use_cache=False).logits
            if first + process == index:
                sums[index] = losses.double().sum()
            if progress is not None:
                progress(ids.numel())
    finally:
        if was_training:
            model.train()
    if processes > 1:  # every batch's sum was made in one process: adding zeros to it changes no bit
        on_device = sums.to(model.device)
        dist.all_reduce(on_device)
        sums = on_device.cpu()
    predicted = blocks.n_tokens - len(blocks)
    return Evaluation(
        loss=math.fsum(sums.tolist()) / predicted,
        tokens=predicted,
        sequence_length=blocks.sequence_length,
        fingerprint=blocks.fingerprint,
    )


def _losses_for_logits(model: PreTrainedModel, ids: torch.Tensor) -> AbstractContextManager[None]:
    """Inside, the output layer gives losses in the place of logits: of each token of `ids` [B, T] after the first.

    They have the shape [B, T - 1], float32. All logits at once would be the largest thing in memory by far, and slow to
    write and read again.
    """
    finish = logits_of_output(model.config)
    logits_of = model.get_output_embeddings().forward

    def losses(hidden: torch.Tensor) -> torch.Tensor:
        rows, targets = hidden[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
        size = rows_of_logits(rows.device, model.config.vocab_size)
        pairs = zip(rows.split(size), targets.split(size), strict=True)
        found = [F.cross_entropy(finish(logits_of(part).float()), of, reduction="none") for part, of in pairs]
        return torch.cat(found).view(len(ids), -1)

    return output_layer_gives(model, losses)
