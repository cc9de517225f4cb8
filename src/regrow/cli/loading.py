"""Text by the name a user types, as packed blocks; heavy, so imported inside handlers only."""

from __future__ import annotations

import json
from pathlib import Path

from regrow.arch import Architecture
from regrow.data import Blocks, read_documents, tokenize
from regrow.models.load import load_tokenizer


def load_blocks(data: str, model: str, *, sequence_length: int, limit: int | None = None, seed: int = 0) -> Blocks:
    """Text as packed blocks of at most `sequence_length` tokens, all of them or a sample of `limit`."""
    Architecture.from_pretrained(model)  # a wrong model is said before the text is tokenised
    longest = json.loads((Path(model) / "config.json").read_text()).get("max_position_embeddings", sequence_length)
    documents = read_documents(data)
    blocks = tokenize(documents, load_tokenizer(model), sequence_length=min(sequence_length, longest))
    return blocks if limit is None else blocks.sample(limit, seed=seed)
