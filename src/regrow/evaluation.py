"""Held-out loss in nats per token. Every point of every curve comes from here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import functional as F
from transformers import PreTrainedModel

from regrow.data import Blocks
from regrow.errors import InputError


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
    batch_size: int = 16,
    share: tuple[int, int] = (0, 1),
    isolated: bool = False,
) -> Evaluation:
    """The mean cross-entropy of every block's tokens after the first, given those before it in the block.

    The forward pass runs in the model's dtype (give fp32 weights where 0.001 nats matter: bf16 rounds about that
    much), the log-softmax in fp32, the sum in fp64. Raises `InputError` if a token is outside the model's vocabulary.

    Args:
        share: this process and how many there are: each reads its part of the batches, and all get the number that one
            process would, to the bit. All of them must call.
        isolated: keep attention inside each document of a block. The same tokens are predicted either way, the first
            of a document from the end-of-text token before it, so that both losses are over one set.
    """
    check_vocabulary(blocks, model, where="held-out text")
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
            logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, :-1].float()
            losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            if first + process == index:
                sums[index] = losses.double().sum()
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
