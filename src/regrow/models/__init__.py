"""Hugging Face checkpoints in and out: loading, saving, where things lie in them, and sparsity masks."""

from regrow.models.load import architecture_of, count_nonzero, count_params, has_tokenizer, load_model, load_tokenizer
from regrow.models.masks import apply_masks, check_pattern, violations, zero_masks
from regrow.models.save import check_output, save_checkpoint

__all__ = [
    "apply_masks",
    "architecture_of",
    "check_output",
    "check_pattern",
    "count_nonzero",
    "count_params",
    "has_tokenizer",
    "load_model",
    "load_tokenizer",
    "save_checkpoint",
    "violations",
    "zero_masks",
]
