"""Documents from local files: text, JSON lines, CSV or Parquet, or a folder of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from regrow.errors import InputError

SUFFIXES = (".txt", ".md", ".jsonl", ".csv", ".parquet")


def read_documents(path: str | Path, *, column: str = "text") -> list[str]:
    """Every document of a file, or of all files of a folder in name order.

    A `.txt` or `.md` file is one document; the other formats hold one per row under `column`. Empty documents are
    left out. Raises `InputError` for a missing path, an unknown format, a missing column, or no text at all.
    """
    root = Path(path)
    if not root.exists():
        raise InputError("no such file or folder", where=str(root), hint=f"give text data ({', '.join(SUFFIXES)})")
    files = sorted(p for p in root.rglob("*") if p.suffix in SUFFIXES) if root.is_dir() else [root]
    documents = [text for file in files for text in _read_file(file, column) if text.strip()]
    if not documents:
        raise InputError("no text in it", where=str(root), hint=f"give text data ({', '.join(SUFFIXES)})")
    return documents


def _read_file(path: Path, column: str) -> list[str]:
    try:
        if path.suffix in (".txt", ".md"):
            return [path.read_text(encoding="utf-8")]
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            return [row[column] for row in rows]
        import pandas as pd

        if path.suffix == ".parquet":
            return pd.read_parquet(path, columns=[column])[column].dropna().tolist()
        if path.suffix == ".csv":
            return pd.read_csv(path, usecols=[column])[column].dropna().astype(str).tolist()
    except KeyError:
        raise InputError(f"no column {column!r}", where=str(path), hint="name the column that holds the text") from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"can't be read ({str(error).splitlines()[0]})", where=str(path)) from None
    raise InputError(f"unknown format {path.suffix!r}", where=str(path), hint=f"known: {', '.join(SUFFIXES)}")


def split_documents(documents: list[str], *, held_out_share: float) -> tuple[list[str], list[str]]:
    """Split into training and held-out documents by a hash of each text, so that copies fall on one side.

    Raises `InputError` if either side is empty.
    """
    limit = int(held_out_share * 2**32)
    train: list[str] = []
    held_out: list[str] = []
    for text in documents:
        unit = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        (held_out if unit < limit else train).append(text)
    if not train or not held_out:
        raise InputError(
            f"{len(documents)} documents can't be split at a held-out share of {held_out_share:g}",
            hint="give more documents, or held-out text of its own with --held-out",
        )
    return train, held_out
