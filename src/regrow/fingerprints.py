"""Which files these are: hashes of contents, so that another file under an old name is seen. Light."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from regrow.safetensors_header import read_header

#: Bytes of each end of a weight tensor that a fingerprint reads. Training changes every tensor, a merge whole tensors,
#: and an 8B model is known by two megabytes instead of sixteen gigabytes.
_ENDS = 4096
#: What regrow and the Trainer leave beside a checkpoint: it says where the checkpoint came from, not what it is.
_ABOUT = ("regrow_prune.json", "training.json", "trainer_state.json")


def fingerprint_checkpoint(folder: Path) -> str:
    """Of a checkpoint folder: SHA-256 (16 hex digits) over its config and tokenizer files, and over the name, type,
    shape and both ends of every weight tensor. Raises `OSError` for a file that can't be read.
    """
    text = [p for p in folder.iterdir() if p.suffix in (".json", ".model", ".txt") and not p.name.startswith(".")]
    return _hashed(_known(p for p in text if p.name not in _ABOUT), _known(folder.glob("*.safetensors")))


def fingerprint_files(files: Iterable[Path]) -> str:
    """SHA-256 (16 hex digits) over the names and the bytes of files, in the order of their paths."""
    return _hashed(_known(files), ())


def change_marks(known: os.stat_result) -> tuple[int, int, int, int]:
    """What no change of a file leaves as it was: its size, its inode and two times (nanoseconds).

    The time of change of the inode can't be set back, as `touch` does with the other one.
    """
    return known.st_size, known.st_ino, known.st_mtime_ns, known.st_ctime_ns


_Known = tuple[tuple[str, tuple[int, int, int, int]], ...]


def _known(paths: Iterable[Path]) -> _Known:
    """Files with their marks of change: with these unchanged, a file is not read again by this process."""
    return tuple((str(path), change_marks(path.stat())) for path in sorted(paths))


@lru_cache(maxsize=256)
def _hashed(whole: _Known, weights: _Known) -> str:
    digest = hashlib.sha256()
    for name, _ in whole:
        with open(name, "rb") as stream:
            digest.update(Path(name).name.encode() + hashlib.file_digest(stream, "sha256").digest())
    for name, marks in weights:
        digest.update(Path(name).name.encode() + str(marks[0]).encode())
        _hash_tensors(Path(name), digest)
    return digest.hexdigest()[:16]


def _hash_tensors(path: Path, digest: hashlib._Hash) -> None:
    try:
        with path.open("rb") as stream:
            header = read_header(stream)
            digest.update(header.text)
            for _, (start, end) in sorted(header.places.items()):
                for at in (start, max(start, end - _ENDS)):
                    stream.seek(at)
                    digest.update(stream.read(min(_ENDS, end - at)))
    except ValueError:
        # not a safetensors file: loading it will say so; here it is only another one
        digest.update(path.read_bytes()[:_ENDS])
