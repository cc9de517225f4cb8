"""Text -> tokens -> packed blocks of one length.

Documents are tokenised, each closed by the end-of-text token, laid end to end and cut into blocks of
`sequence_length` tokens; the incomplete last block is dropped. Attention inside a block may cross a document's end,
as in Llama's and Qwen's own pretraining with packed sequences; the end-of-text token marks it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from regrow.errors import InputError


class Tokenizes(Protocol):
    """What packing needs of a tokenizer: Hugging Face's fast tokenizers fit."""

    eos_token_id: int | None

    def __call__(self, text: list[str], **kwargs: object) -> object: ...


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Packed tokens, ready to train or evaluate on.

    Attributes:
        tokens: integer array [blocks, sequence_length].
        documents: number of documents the blocks were cut from.
        fingerprint: SHA-256 (first 16 hex digits) of the shape and the tokens: same data, same tokenizer, same
            packing.
    """

    tokens: np.ndarray
    documents: int
    fingerprint: str

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def sequence_length(self) -> int:
        return int(self.tokens.shape[1])

    @property
    def n_tokens(self) -> int:
        return int(self.tokens.size)

    def sample(self, count: int, *, seed: int) -> Blocks:
        """The first `count` blocks of a shuffle fixed by `seed`; all of them if there are fewer."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:count]
        return _blocks(self.tokens[np.sort(chosen)], self.documents)


def pack(token_lists: Sequence[Sequence[int]], *, eos: int, sequence_length: int) -> Blocks:
    """Lay the documents end to end, each closed by `eos`, and cut them into whole blocks.

    Raises `InputError` if the documents do not fill one block.
    """
    if sequence_length < 2:
        raise InputError(f"sequence length {sequence_length} is below 2", hint="a block predicts its next tokens")
    flat = np.concatenate([np.asarray([*ids, eos], dtype=np.int32) for ids in token_lists] or [np.empty(0, np.int32)])
    whole = len(flat) // sequence_length
    if whole == 0:
        raise InputError(
            f"the text holds {len(flat)} tokens, less than one block of {sequence_length}",
            hint="give more text or a shorter sequence length",
        )
    return _blocks(flat[: whole * sequence_length].reshape(whole, sequence_length), len(token_lists))


def _blocks(tokens: np.ndarray, documents: int) -> Blocks:
    digest = hashlib.sha256(repr(tokens.shape).encode() + tokens.tobytes()).hexdigest()[:16]
    return Blocks(tokens=tokens, documents=documents, fingerprint=digest)


def tokenize(texts: Sequence[str], tokenizer: Tokenizes, *, sequence_length: int) -> Blocks:
    """Tokenise documents with a Hugging Face tokenizer and pack them (no special tokens but the closing one)."""
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no end-of-text token", hint="set eos_token in its tokenizer_config.json")
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    return pack(encoded["input_ids"], eos=tokenizer.eos_token_id, sequence_length=sequence_length)  # type: ignore[index]
