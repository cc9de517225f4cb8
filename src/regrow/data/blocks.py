"""Text -> tokens -> packed blocks of one length.

Documents are tokenised, each closed by the end-of-text token, laid end to end and cut into blocks of
`sequence_length` tokens; the incomplete last block is dropped. Where documents begin is known (`Blocks.table`), so that
attention may cross a document's end inside a block, as in Llama's and Qwen's own pretraining with packed sequences, or
be kept inside each document (`Blocks.position_ids`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from regrow.data.text import document_name
from regrow.errors import InputError

#: how tokens lie in memory and on disk; fingerprints are over these bytes
TOKEN = np.dtype("<i4")
#: A longer document is tokenised in pieces, cut at a line's start: a tokenizer needs some fifty bytes of memory for
#: every character that it is given at once. Next to a cut, tokens may differ from those of the document in one piece.
MAX_PIECE = 1_000_000


class Tokenizes(Protocol):
    """The part of a tokenizer that packing uses. Hugging Face's tokenizers have it."""

    eos_token_id: int | None

    def __call__(self, text: list[str], **kwargs: object) -> object: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class DocumentTable:
    """Where the documents of a token stream begin and what they are called.

    Attributes:
        starts: position of each document's first token in the stream, rising, the first 0; [documents].
        file: index of each document's file into `files`, [documents].
        row: its row there, from 1 on; 0 where the file is one document. [documents]
        length: tokens in the stream.
    """

    starts: np.ndarray
    file: np.ndarray
    row: np.ndarray
    files: tuple[str, ...]
    length: int

    def __len__(self) -> int:
        return len(self.starts)

    def name(self, document: int) -> str:
        """`corpus.jsonl:17`, or the file alone where it is one document."""
        return document_name(self.files[int(self.file[document])], int(self.row[document]))

    def overlapping(self, begin: int, end: int) -> range:
        """The documents with a token in [begin, end) of the stream."""
        first = int(np.searchsorted(self.starts, begin, side="right")) - 1
        return range(max(first, 0), int(np.searchsorted(self.starts, end, side="left")))


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """Packed tokens, ready to train or evaluate on.

    Attributes:
        tokens: integer array [blocks, sequence_length]; it may lie on disk (a memory map).
        documents: number of documents the blocks were cut from.
        fingerprint: SHA-256 (first 16 hex digits) of the shape and the tokens: same data, same tokenizer, same
            packing.
        table: where the documents begin in the stream that was cut; None if that is not known.
        index: which blocks of the stream these are, [blocks]; None for all in their order.
        largest: the largest token, if it is known already.
    """

    tokens: np.ndarray
    documents: int
    fingerprint: str
    table: DocumentTable | None = None
    index: np.ndarray | None = None
    largest: int | None = None

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def sequence_length(self) -> int:
        return int(self.tokens.shape[1])

    @property
    def n_tokens(self) -> int:
        return int(self.tokens.size)

    @property
    def largest_token(self) -> int:
        """The largest token id; a model's vocabulary must contain it."""
        return int(self.tokens.max()) if self.largest is None else self.largest

    def sample(self, count: int, *, seed: int) -> Blocks:
        """The first `count` blocks of a shuffle fixed by `seed`, in their own order; all of them if there are fewer."""
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        tokens = self.tokens[chosen]
        return Blocks(
            tokens=tokens,
            documents=self.documents,
            fingerprint=fingerprint(tokens),
            table=self.table,
            index=self._stream_index(chosen),
        )

    def position_ids(self, blocks: Any) -> np.ndarray:
        """Positions [len(blocks), sequence_length], counted from 0 in every document (and in every block).

        Given these and no attention mask, transformers keeps attention inside each document. Raises `InputError` where
        it is not known where documents begin.
        """
        table = self._table()
        first = self._stream_index(np.atleast_1d(np.asarray(blocks)))[:, None] * self.sequence_length
        at = first + np.arange(self.sequence_length)
        begins = table.starts[np.searchsorted(table.starts, at, side="right") - 1]
        return (at - np.maximum(begins, first)).astype(np.int64)

    def documents_of(self, blocks: Iterable[int]) -> list[str]:
        """Names of the documents with a token in these blocks, each once, in the order of the blocks."""
        table, length = self._table(), self.sequence_length
        begins = [int(i) * length for i in self._stream_index(np.asarray(list(blocks), dtype=np.int64))]
        return list(dict.fromkeys(table.name(d) for b in begins for d in table.overlapping(b, b + length)))

    def _table(self) -> DocumentTable:
        if self.table is None:
            raise InputError("these blocks do not say where documents begin", hint="make them with regrow.data")
        return self.table

    def _stream_index(self, blocks: np.ndarray) -> np.ndarray:
        return blocks if self.index is None else self.index[blocks]


def fingerprint(tokens: np.ndarray) -> str:
    """SHA-256 (16 hex digits) of the shape and the tokens of blocks [blocks, sequence_length]."""
    digest = hashlib.sha256(repr(tokens.shape).encode())
    digest.update(np.ascontiguousarray(tokens).data)
    return digest.hexdigest()[:16]


def cut(flat: np.ndarray, *, sequence_length: int, what: str = "the text", where: str | None = None) -> np.ndarray:
    """The whole blocks [blocks, sequence_length] of a stream of tokens [n], as a view.

    Raises `InputError` if the stream does not fill one block.
    """
    if sequence_length < 2:
        raise InputError(f"sequence length {sequence_length} is below 2", hint="a block predicts its next tokens")
    whole = len(flat) // sequence_length
    if whole == 0:
        raise InputError(
            f"{what} holds {len(flat)} tokens, less than one block of {sequence_length}",
            where=where,
            hint="give more text or a shorter sequence length",
        )
    return flat[: whole * sequence_length].reshape(whole, sequence_length)


def pack(token_lists: Sequence[Sequence[int]], *, eos: int, sequence_length: int) -> Blocks:
    """Lay the documents end to end, each closed by `eos`, and cut them into whole blocks.

    Raises `InputError` if the documents do not fill one block.
    """
    parts = [np.asarray([*ids, eos], dtype=TOKEN) for ids in token_lists]
    flat = np.concatenate(parts or [np.empty(0, TOKEN)])
    tokens = cut(flat, sequence_length=sequence_length)
    lengths = np.array([len(part) for part in parts])
    table = DocumentTable(
        starts=np.cumsum(lengths) - lengths,
        file=np.zeros(len(parts), dtype=np.int64),
        row=np.arange(1, len(parts) + 1),
        files=("document",),
        length=len(flat),
    )
    return Blocks(tokens=tokens, documents=len(parts), fingerprint=fingerprint(tokens), table=table)


def tokenize(texts: Sequence[str], tokenizer: Tokenizes, *, sequence_length: int) -> Blocks:
    """Tokenise documents with a Hugging Face tokenizer and pack them (no special tokens but the closing one).

    For text that is in memory; `regrow.data.read_blocks` reads, tokenises and caches what is on disk.
    """
    return pack(encode(list(texts), tokenizer), eos=end_of_text(tokenizer), sequence_length=sequence_length)


def end_of_text(tokenizer: Tokenizes) -> int:
    """The token that closes a document. Raises `InputError` if the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no end-of-text token", hint="set eos_token in its tokenizer_config.json")
    return tokenizer.eos_token_id


def encode(texts: list[str], tokenizer: Tokenizes) -> list[Sequence[int]]:
    """The tokens of each text, without special tokens. A fast tokenizer works on all cores.

    Texts longer than `MAX_PIECE` are tokenised in pieces.
    """
    if not any(len(text) > MAX_PIECE for text in texts):
        return _encode(texts, tokenizer)
    pieces = [list(_pieces(text)) for text in texts]
    encoded = iter(_encode([piece for parts in pieces for piece in parts], tokenizer))
    return [[token for _ in parts for token in next(encoded)] for parts in pieces]


def _encode(texts: list[str], tokenizer: Tokenizes) -> list[Sequence[int]]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]  # type: ignore[index]
    # the same as calling the tokenizer, without the offsets and masks, which take half of the time
    backend.no_truncation()
    backend.no_padding()
    return [found.ids for found in backend.encode_batch_fast(texts, add_special_tokens=False)]


def _pieces(text: str) -> Iterable[str]:
    start = 0
    while len(text) - start > MAX_PIECE:
        end = text.rfind("\n", start + 1, start + MAX_PIECE)
        end = start + MAX_PIECE if end < 0 else end
        yield text[start:end]
        start = end
    yield text[start:]
