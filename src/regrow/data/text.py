"""Documents from local files, one at a time: text, JSON lines, CSV or Parquet, or a folder of them."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from regrow.data.json_rows import BadRow, json_rows
from regrow.errors import InputError, reason_of
from regrow.units import plural

SUFFIXES = (".txt", ".md", ".jsonl", ".json", ".ndjson", ".csv", ".parquet")
#: what a text, JSON lines or CSV file may be compressed with, by its last suffix
COMPRESSED = (".gz", ".zst", ".bz2")
#: what compressed files begin with, and how pyarrow calls the format
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"))
_JSON = (".jsonl", ".json", ".ndjson")
#: rows that are held at once
_ROWS = 256


class Document(NamedTuple):
    """One document and where it stands: the file, and its row there from 1 on (0 where the file is one document)."""

    text: str
    file: str
    row: int

    @property
    def name(self) -> str:
        return document_name(self.file, self.row)


def document_name(file: str, row: int) -> str:
    """How a document is called: `corpus.jsonl:17`, or the file alone where it is one document."""
    return f"{file}:{row}" if row else file


def read_documents(path: str | Path, *, column: str = "text") -> list[str]:
    """The text of every document of a file, or of all files of a folder in name order, in one list.

    For data that fit in memory; `iter_documents` reads one document after the other.
    """
    return [document.text for document in iter_documents(path, column=column)]


def iter_documents(path: str | Path, *, column: str = "text") -> Iterator[Document]:
    """Every document of a file, or of all files of a folder in name order.

    A `.txt` or `.md` file is one document; the other formats hold one per row under `column`. JSON is one object a line
    or an array of objects, whatever its suffix. All but Parquet may be compressed (`.gz`, `.zst`, `.bz2`). In a folder,
    plain `.json` files count only where no other text file lies: they are mostly settings. Empty documents and rows
    without a value are left out.

    Raises `InputError` for a missing path, an unknown format, a missing column, a broken file (with the line, where
    the format has lines), or no text at all.
    """
    found = False
    for file in text_files(path):
        for document in _read_file(file, column):
            if document.text.strip():
                found = True
                yield document
    if not found:
        raise InputError("no text in it", where=str(path), hint=f"give text data ({', '.join(SUFFIXES)})")


def text_files(path: str | Path) -> list[Path]:
    """The files of a path in the order in which they are read.

    Raises `InputError` for a missing path, a file of an unknown format, or a folder without text files.
    """
    root = Path(path).expanduser()
    hint = f"give text data ({', '.join(SUFFIXES)})"
    if not root.exists():
        raise InputError("no such file or folder", where=str(root), hint=hint)
    if not root.is_dir():
        if _format(root) not in SUFFIXES:
            known = (
                f"known: {', '.join(SUFFIXES)}, and {', '.join(COMPRESSED)} of all but Parquet; rename the file to one"
            )
            raise InputError(f"unknown format {''.join(root.suffixes[-2:])!r}", where=str(root), hint=known)
        return [root]
    found = sorted(p for p in root.rglob("*") if _suffix(p) in SUFFIXES and p.is_file())
    files = [p for p in found if p.suffix != ".json"] or found
    if not files:
        raise InputError("no text in it: the folder holds no text file", where=str(root), hint=hint)
    return files


def _suffix(path: Path) -> str:
    """The suffix that says how to read a file, its compression left out."""
    if path.suffix not in COMPRESSED:
        return path.suffix
    inner = Path(path.stem).suffix
    return inner if inner != ".parquet" else path.suffix


def _format(path: Path) -> str:
    """How to read a file: by its suffix, or if that is unknown, by its first bytes."""
    suffix = _suffix(path)
    if suffix in SUFFIXES:
        return suffix
    try:
        with path.open("rb") as stream:
            if stream.read(4) == b"PAR1":
                return ".parquet"
        with _open_text(path) as text:
            return ".json" if text.read(1000).lstrip().startswith(("{", "[")) else suffix
    except (OSError, ValueError, EOFError, zlib.error):
        return suffix


def _read_file(path: Path, column: str) -> Iterator[Document]:
    read = {**dict.fromkeys(_JSON, _json), ".csv": _csv, ".parquet": _parquet}.get(_format(path))
    try:
        if read is not None:
            yield from read(path, column)
        else:
            with _open_text(path) as stream:
                yield Document(stream.read(), str(path), 0)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise InputError(
            f"can't be read ({reason_of(error)})", where=str(path), hint="mend or remove the file"
        ) from None


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    """A text file, decompressed if its first bytes show a compressed format; the name is not trusted."""
    with path.open("rb") as stream:
        start = stream.read(4)
    packing = next((name for magic, name in _MAGIC if start.startswith(magic)), None)
    if packing is not None:
        import pyarrow as pa

        with pa.input_stream(str(path), compression=packing) as packed:
            yield io.TextIOWrapper(io.BufferedReader(packed), encoding="utf-8")
        return
    with path.open(encoding="utf-8") as plain:
        yield plain


def _json(path: Path, column: str) -> Iterator[Document]:
    with _open_text(path) as stream:
        try:
            for row in json_rows(stream):
                where = f"{path}, {row.name}"
                if not isinstance(row.value, dict):
                    raise InputError(
                        f"{row.name} is not an object", where=str(path), hint=f'write it like {{"{column}": "..."}}'
                    )
                if column not in row.value:
                    raise _no_column(column, list(row.value), where)
                text = row.value[column]
                if text is None:
                    continue
                if not isinstance(text, str):
                    raise _not_text(column, type(text).__name__, where)
                # an escape may be half of a surrogate pair, which is no text that UTF-8 can hold
                yield Document(text.encode("utf-8", "replace").decode("utf-8"), str(path), row.number)
        except BadRow as error:
            hint = "mend or remove it; a JSON file holds one object a line, or an array of objects"
            raise InputError(f"can't be read: {error}", where=str(path), hint=hint) from None


def _csv(path: Path, column: str) -> Iterator[Document]:
    import pandas as pd

    try:
        names = pd.read_csv(path, nrows=0).columns.tolist()
    except pd.errors.EmptyDataError:
        return
    if column not in names:
        raise _no_column(column, names, str(path))
    with pd.read_csv(path, usecols=[column], dtype=str, chunksize=_ROWS) as chunks:
        for chunk in chunks:
            for row, text in chunk[column].dropna().items():
                yield Document(str(text), str(path), int(str(row)) + 1)


def _parquet(path: Path, column: str) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if column not in names:
            raise _no_column(column, names, str(path))
        kind = file.schema_arrow.field(column).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_null(plain)):
            raise _not_text(column, str(kind), str(path))
        row = 0
        for batch in file.iter_batches(batch_size=_ROWS, columns=[column]):
            for text in batch.column(0).to_pylist():
                row += 1
                if text is not None:
                    yield Document(text, str(path), row)


def _no_column(column: str, there: Iterable[object], where: str) -> InputError:
    names = [str(name) for name in there]
    return InputError(
        f"no column {column!r} (there: {', '.join(names[:12]) or 'none'}{', ...' if len(names) > 12 else ''})",
        where=where,
        hint="name the column that holds the text, as in --data FILE,column=NAME",
    )


def _not_text(column: str, kind: str, where: str) -> InputError:
    return InputError(f"column {column!r} holds {kind}, not text", where=where, hint="name a column of text")


def is_held_out(text: str, share: float) -> bool:
    """Whether a document belongs to the held-out `share`: a hash of its text decides, so copies fall on one side."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") < int(share * 2**32)


def split_documents(documents: list[str], *, held_out_share: float) -> tuple[list[str], list[str]]:
    """Split into training and held-out documents by a hash of each text, so that copies fall on one side.

    Raises `InputError` if either side is empty.
    """
    train: list[str] = []
    held_out: list[str] = []
    for text in documents:
        (held_out if is_held_out(text, held_out_share) else train).append(text)
    if not train or not held_out:
        raise cannot_split(len(documents), held_out_share)
    return train, held_out


def cannot_split(documents: int, share: float) -> InputError:
    """The error for documents that leave one side of the split empty."""
    return InputError(
        f"{plural(documents, 'document')} can't be split at a held-out share of {share:g}",
        hint="give more documents, or held-out text of its own with --held-out",
    )
