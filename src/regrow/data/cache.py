"""The cache of tokenised text: one folder for each combination of data, tokenizer and split."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from regrow.disk import write_text
from regrow.locks import hold

CACHE_VARIABLE = "REGROW_CACHE"


def cache_folder() -> Path:
    """`$REGROW_CACHE`, or `regrow` in the user's cache folder (`$XDG_CACHE_HOME`, `~/.cache`)."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regrow"


def entry(key: str, build: Callable[[Path], None]) -> Path:
    """The folder of `key`, filled by `build` if it is not there yet.

    `build` fills a folder beside it that is then renamed, so that a reader never sees half an entry, even if the
    writer is killed. If several processes want the same entry, one builds it and the others wait. On a file system
    without locks each builds its own, and the first to finish wins.

    Raises `OSError` where the cache can't be written, and what `build` raises.
    """
    folder = cache_folder() / "tokens" / key
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{key}.lock")
    with hold(lock, what="being tokenised", hint="wait", wait=None) as alone:
        try:
            if not folder.is_dir():
                for dead in folder.parent.glob(f".{key}.*/") if alone else ():  # left by a writer that was killed
                    shutil.rmtree(dead, ignore_errors=True)
                _build(folder, key, build)
        finally:
            if alone:
                # a process that waits holds this very file; one that comes later makes a new one and finds the entry
                lock.unlink(missing_ok=True)
    return folder


def _build(folder: Path, key: str, build: Callable[[Path], None]) -> None:
    """Fill a folder beside `folder`, then move it there, unless another process was faster."""
    building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{key}."))
    try:
        build(building)
        os.chmod(building, 0o755)
        try:
            os.rename(building, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def write_small(path: Path, text: str) -> None:
    """Write a small file atomically; if the cache can't be written, do nothing."""
    with suppress(OSError):
        write_text(path, text, sync=False)
