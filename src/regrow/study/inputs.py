"""The models and the text that a study reads: check that they exist, and fingerprint their contents. Light.

A path does not identify a model: the folder may hold another model tomorrow. So a cell's hash covers the contents of
local files. Models and text of the ladder, which ships with the package, and of the Hub are identified by their names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from regrow.arch import Architecture, catalog
from regrow.errors import InputError
from regrow.ladder import find_corpus, find_model
from regrow.safetensors_header import read_header

#: Bytes of each end of a weight tensor that a fingerprint reads. Training changes every tensor, a merge whole tensors,
#: and an 8B model is known by two megabytes instead of sixteen gigabytes.
_ENDS = 4096


def is_local(name: str) -> bool:
    """Whether a model's name can only be a folder: a path, not `NAME` or `ORGANISATION/NAME` as on the Hub."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def find_folder(model: str) -> Path | None:
    """The folder of a model that is on this machine; None for a name of the Hub.

    Raises `InputError` for a path at which there is none.
    """
    folder = Path(find_model(model)).expanduser()
    if folder.is_dir():
        return folder
    if is_local(model):
        raise InputError("no such model folder", where=model, hint="give a checkpoint folder")
    return None


def shape_of(model: str) -> Architecture | None:
    """The architecture of a model, where it can be known without loading it: a folder's, or the catalogue's."""
    folder = find_folder(model)
    if folder is not None:
        return Architecture.from_pretrained(folder)
    by_name = {name.lower(): arch for name, arch in catalog().items()}
    return by_name.get(model.split("/")[-1].lower())


def fingerprint_model(model: str) -> str | None:
    """Of a local checkpoint: SHA-256 (16 hex digits) over its config and tokenizer files, and over the name, type,
    shape and both ends of every weight tensor. None for a model that is not on this machine.
    """
    folder = find_folder(model)
    if folder is None:
        return None
    text = [p for p in folder.iterdir() if p.suffix in (".json", ".model", ".txt") and not p.name.startswith(".")]
    # what regrow and the Trainer leave beside a checkpoint says where it came from, not what it is
    about = ("regrow_prune.json", "training.json", "trainer_state.json")
    return _hashed(_known(p for p in text if p.name not in about), _known(folder.glob("*.safetensors")))


def fingerprint_data(data: str, split: str) -> str | None:
    """Of local text: SHA-256 (16 hex digits) over the bytes of its files, in order. None for what is not a path."""
    path = _text_path(data, split)
    if path.is_dir():
        return _hashed(_known(p for p in path.rglob("*") if p.suffix and p.is_file()), ())
    return _hashed(_known([path]), ()) if path.exists() else None


def check_data(data: str, split: str, *, where: str) -> None:
    """Raise `InputError` if there is no such text, before anything runs."""
    if not _text_path(data, split).exists() and not data.startswith("hub:"):
        raise InputError(f"no such file or folder: {data}", where=where, hint="give text data, or `ladder`")


def _text_path(data: str, split: str) -> Path:
    path = Path(find_corpus(data, split)).expanduser()
    # options may follow a path, as in `text.jsonl,column=body`
    return path if path.exists() else Path(data.split(",")[0]).expanduser()


_Known = tuple[tuple[str, int, int], ...]


def _known(paths: Iterable[Path]) -> _Known:
    """Files by name, size and time of change: with these unchanged, a file is not read again by this process."""
    found = [(str(path), path.stat()) for path in sorted(paths)]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


@lru_cache(maxsize=256)
def _hashed(whole: _Known, weights: _Known) -> str:
    digest = hashlib.sha256()
    for name, _, _ in whole:
        with open(name, "rb") as stream:
            digest.update(Path(name).name.encode() + hashlib.file_digest(stream, "sha256").digest())
    for name, size, _ in weights:
        digest.update(Path(name).name.encode() + str(size).encode())
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
