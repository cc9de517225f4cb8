"""Text by the name a user types, as packed blocks: tokenised once, kept as memory maps.

Documents go from the reader through the tokenizer to the disk in batches, so memory is bounded by a batch (and the
largest document), whatever the size of the data. What is stored is the stream of tokens, which blocks of any length
are cut from.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.blocks import TOKEN, Blocks, DocumentTable, Tokenizes, cut, encode, end_of_text, fingerprint
from regrow.data.cache import CACHE_VARIABLE, cache_folder, entry, write_small
from regrow.data.source import TextSource
from regrow.data.text import Document, cannot_split, is_held_out
from regrow.errors import InputError, RunFailed

#: version of the stored format, part of every key: raise it when the format changes
FORMAT = 1
#: a batch of documents ends with the one that reaches so many characters
BATCH_CHARACTERS = 2_000_000
#: system errors of a folder that may not be written, as opposed to a full disk
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
#: parts of an entry
WHOLE, TRAIN, HELD_OUT = "all", "train", "held_out"


class DataWarning(UserWarning):
    """Something about the data that the reader should know and that does not stop the work."""


def read_blocks(data: str, tokenizer: Tokenizes, *, sequence_length: int, cache: bool = True) -> Blocks:
    """All documents of `data` (`regrow.data.TextSource.parse`) as packed blocks.

    The same blocks as `tokenize(read_documents(data), ...)`, from the cache where they are known. Raises `InputError`
    for data that can't be read or do not fill one block, `RunFailed` for a disk that is full.
    """
    with _opened(data, tokenizer, share=None, cache=cache) as store:
        return store.blocks(WHOLE, sequence_length, where=data)


def read_split(
    data: str, tokenizer: Tokenizes, *, sequence_length: int, held_out_share: float, cache: bool = True
) -> tuple[Blocks, Blocks]:
    """Training and held-out blocks of `data`, split by document (`regrow.data.split_documents`).

    Raises as `read_blocks`, and `InputError` where one side has no document or does not fill one block.
    """
    with _opened(data, tokenizer, share=held_out_share, cache=cache) as store:
        sides = [store.blocks(side, sequence_length, where=data) for side in (TRAIN, HELD_OUT)]
        return sides[0], sides[1]


def find_cached(blocks_fingerprint: str, *, sequence_length: int) -> Blocks | None:
    """The blocks of this fingerprint, if the cache holds them; None if not."""
    for known in sorted((cache_folder() / "tokens").glob(f"*/*/fingerprint-{sequence_length}")):
        hidden = known.parents[1].name.startswith(".")  # being written
        if not hidden and known.read_text().strip() == blocks_fingerprint:
            return _Store(folder=known.parents[1]).blocks(known.parent.name, sequence_length)
    return None


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Which tokenizer this is: SHA-256 (16 hex digits) of all that decides its tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        known = backend.to_str()
    elif hasattr(tokenizer, "get_vocab"):
        known = json.dumps([type(tokenizer).__qualname__, sorted(tokenizer.get_vocab().items())])
    else:
        raise InputError(f"{type(tokenizer).__name__} is not a tokenizer", hint="give one of transformers")
    return hashlib.sha256(f"{known}\0{tokenizer.eos_token_id}".encode()).hexdigest()[:16]


@contextmanager
def _opened(data: str, tokenizer: Tokenizes, *, share: float | None, cache: bool) -> Iterator[_Store]:
    """The tokenised text of `data`. Without a cache it is deleted when the caller is done."""
    if share is not None and not 0 < share < 1:
        raise InputError(f"a held-out share of {share:g}", where=data, hint="it is a fraction between 0 and 1")
    eos = end_of_text(tokenizer)
    source = TextSource.parse(data)

    def build(folder: Path) -> None:
        _write(source, tokenizer, eos, share, folder)

    if cache:
        asked = (FORMAT, source.fingerprint(), tokenizer_fingerprint(tokenizer), share)
        store = _cached(hashlib.sha256(repr(asked).encode()).hexdigest()[:24], build)
        if store is not None:
            yield store
            return
    folder = Path(tempfile.mkdtemp(prefix="regrow-tokens-"))
    try:
        try:
            build(folder)
        except OSError as error:
            raise _disk_failed(error, tempfile.gettempdir()) from error
        yield _Store(folder=folder, kept=False)
    finally:
        # POSIX keeps what is mapped until the last map is gone
        shutil.rmtree(folder, ignore_errors=True)


def _cached(key: str, build: Callable[[Path], None]) -> _Store | None:
    """The cache's entry, built if needed; None, with a warning, if the cache can't be written."""
    try:
        folder = entry(key, build)
        if not all(_is_whole(part) for part in folder.iterdir() if part.is_dir()):
            shutil.rmtree(folder)  # cut short by the machine's end, or by hand
            folder = entry(key, build)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise _disk_failed(error, str(cache_folder())) from error
        warnings.warn(
            f"the cache {cache_folder()} can't be written ({error.strerror}), so the text is tokenised anew every "
            f"time; set {CACHE_VARIABLE} to a folder of yours",
            DataWarning,
            stacklevel=5,
        )
        return None
    return _Store(folder=folder)


@dataclass(frozen=True, kw_only=True)
class _Store:
    """Tokenised text on disk: a folder for each part of the split."""

    folder: Path
    kept: bool = True

    def blocks(self, part: str, sequence_length: int, *, where: str | None = None) -> Blocks:
        """The blocks of a part. Raises `InputError`, which names `where`, if it does not fill one."""
        folder = self.folder / part
        stored = json.loads((folder / "part.json").read_text())
        what = {WHOLE: "the text", TRAIN: "the training text", HELD_OUT: "the held-out text"}[part]
        # copy-on-write: torch wants a writable array, and the file must not change
        flat = np.memmap(folder / "tokens.bin", dtype=TOKEN, mode="c", shape=(stored["tokens"],))
        table = np.memmap(folder / "documents.bin", dtype="<i8", mode="r", shape=(stored["documents"], 3))
        tokens = cut(flat, sequence_length=sequence_length, what=what, where=where)
        known = folder / f"fingerprint-{sequence_length}"
        try:
            mark = known.read_text().strip()
        except OSError:
            mark = fingerprint(tokens)
            if self.kept:
                write_small(known, mark + "\n")
        return Blocks(
            tokens=tokens,
            documents=stored["documents"],
            fingerprint=mark,
            table=DocumentTable(
                starts=table[:, 0],
                file=table[:, 1],
                row=table[:, 2],
                files=tuple(stored["files"]),
                length=stored["tokens"],
            ),
            largest=stored["largest"],
        )


def _disk_failed(error: OSError, where: str) -> RunFailed:
    return RunFailed(
        f"the tokenised text can't be written ({error.strerror or error})",
        where=where,
        hint=f"free space there, or set {CACHE_VARIABLE} to a larger disk",
    )


def _is_whole(part: Path) -> bool:
    try:
        stored = json.loads((part / "part.json").read_text())
        sizes = (part / "tokens.bin").stat().st_size, (part / "documents.bin").stat().st_size
    except (OSError, ValueError):
        return False
    return sizes == (stored["tokens"] * TOKEN.itemsize, stored["documents"] * 24)


class _Part:
    """Writes one part of a split: the stream of tokens, and where its documents begin."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.tokens = (folder / "tokens.bin").open("wb")
        self.documents = (folder / "documents.bin").open("wb")
        self.files: dict[str, int] = {}
        self.length = self.count = self.largest = 0

    def add(self, document: Document, ids: np.ndarray) -> None:
        file = self.files.setdefault(document.file, len(self.files))
        self.documents.write(np.array([self.length, file, document.row], dtype="<i8").tobytes())
        self.tokens.write(ids.tobytes())
        self.length += len(ids)
        self.count += 1
        self.largest = max(self.largest, int(ids.max()))

    def close(self) -> None:
        self.tokens.close()
        self.documents.close()
        stored = {"tokens": self.length, "documents": self.count, "largest": self.largest, "files": list(self.files)}
        (self.folder / "part.json").write_text(json.dumps(stored) + "\n")


def _write(source: TextSource, tokenizer: Tokenizes, eos: int, share: float | None, folder: Path) -> None:
    """Tokenise all documents of a source into the parts of a split."""
    parts = {name: _Part(folder / name) for name in ([WHOLE] if share is None else [TRAIN, HELD_OUT])}
    try:
        read = 0
        for batch in _batches(source.documents()):
            for document, ids in zip(batch, encode([d.text for d in batch], tokenizer), strict=True):
                name = WHOLE
                if share is not None:
                    name = HELD_OUT if is_held_out(document.text, share) else TRAIN
                closed = np.empty(len(ids) + 1, dtype=TOKEN)
                closed[:-1] = ids
                closed[-1] = eos
                parts[name].add(document, closed)
                read += len(closed)
                if source.tokens is not None and read >= source.tokens:
                    break
            if source.tokens is not None and read >= source.tokens:
                break
    finally:
        for part in parts.values():
            part.close()
    if share is not None and not all(part.count for part in parts.values()):
        raise cannot_split(sum(part.count for part in parts.values()), share)


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Documents in batches of about two million characters: enough to keep all cores busy, and small in memory."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
