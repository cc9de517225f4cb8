"""Hugging Face checkpoints in and out: loading, saving, where things lie in them, and sparsity masks."""

from regrow.models.beside import Beside, beside
from regrow.models.folder import Checkpoint, CheckpointWarning, open_checkpoint
from regrow.models.load import architecture_of, count_nonzero, count_params, has_tokenizer, load_model, load_tokenizer
from regrow.models.masks import apply_masks, check_pattern, violations, zero_masks
from regrow.models.save import check_output, save_checkpoint

__all__ = [
    "Beside",
    "Checkpoint",
    "CheckpointWarning",
    "apply_masks",
    "architecture_of",
    "beside",
    "check_output",
    "check_pattern",
    "count_nonzero",
    "count_params",
    "has_tokenizer",
    "load_model",
    "load_tokenizer",
    "open_checkpoint",
    "save_checkpoint",
    "violations",
    "zero_masks",
]
