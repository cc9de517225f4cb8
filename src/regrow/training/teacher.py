"""Load the teacher of a distillation: without gradients, in bf16 where the hardware is fast at it."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regrow.errors import InputError
from regrow.models.load import has_tokenizer, load_model, load_tokenizer
from regrow.models.precision import has_fast_bf16
from regrow.training.processes import processes


def load_teacher(folder: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A teacher for a model with this tokenizer, on this process's device.

    Its dtype is the hardware's, not the checkpoint's: on a CPU without bf16 products a bf16 teacher takes 400 times
    as long. Raises `InputError` if it comes with a tokenizer of another vocabulary: its logits would name other tokens.
    """
    if has_tokenizer(folder) and load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise InputError(
            "the teacher's tokenizer has another vocabulary than the model's",
            where="--teacher",
            hint="distillation needs one vocabulary",
        )
    device = processes().device
    dtype = torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return load_model(folder, dtype=dtype, device=device).requires_grad_(False)
