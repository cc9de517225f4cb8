"""The models and the text that a study reads: check that they exist, and fingerprint their contents. Light.

A path does not identify a model: the folder may hold another model tomorrow. So a cell's hash covers the contents of
local files. Models and text of the ladder, which ships with the package, and of the Hub are identified by their names.
"""

from __future__ import annotations

from pathlib import Path

from regrow.arch import Architecture, catalog
from regrow.errors import InputError
from regrow.fingerprints import fingerprint_checkpoint, fingerprint_files
from regrow.ladder import find_corpus, find_model


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
    """Of a local checkpoint (`regrow.fingerprints`); None for a model that is not on this machine."""
    folder = find_folder(model)
    return None if folder is None else fingerprint_checkpoint(folder)


def fingerprint_data(data: str, split: str) -> str | None:
    """Of local text: SHA-256 (16 hex digits) over the bytes of its files, in order. None for what is not a path."""
    path = _text_path(data, split)
    if path.is_dir():
        return fingerprint_files(p for p in path.rglob("*") if p.suffix and p.is_file())
    return fingerprint_files([path]) if path.exists() else None


def check_data(data: str, split: str, *, where: str) -> None:
    """Raise `InputError` if there is no such text, before anything runs."""
    if not _text_path(data, split).exists() and not data.startswith("hub:"):
        raise InputError(f"no such file or folder: {data}", where=where, hint="give text data, or `ladder`")


def _text_path(data: str, split: str) -> Path:
    path = Path(find_corpus(data, split)).expanduser()
    # options may follow a path, as in `text.jsonl,column=body`
    return path if path.exists() else Path(data.split(",")[0]).expanduser()
