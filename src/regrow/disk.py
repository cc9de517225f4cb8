"""Files written and lines appended whole or not at all, whoever else writes and whatever breaks."""

from __future__ import annotations

import errno
import glob
import json
import os
import secrets
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.locks import lock_file

#: Seconds before a temporary file without a lock counts as left over.
_YOUNG = 60.0


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all; see `write_text`."""
    write_text(path, json.dumps(content, indent=1, default=str) + "\n")


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a UTF-8 file whole or not at all: to a temporary file beside it, which is then moved into place.

    Args:
        sync: wait until the text is on the disk, so that a machine that loses power has the old file or the new one.
            False for a file that may be lost.

    Raises `OSError` where it can't be written; the temporary file is removed.
    """
    write_bytes(path, text.encode(), sync=sync)


def write_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file whole or not at all, with the permissions that the user's umask gives; see `write_text`.

    What a killed writer of the same file left is removed.
    """
    _clear_leftovers(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as stream:
            lock_file(handle)  # says to others that its writer lives
            stream.write(content)
            stream.flush()
            if sync:
                os.fsync(handle)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _clear_leftovers(path: Path) -> None:
    """Remove the temporary files of writers that are gone: they are old, and nobody holds their locks."""
    # a folder may hold thousands of files, and most writers end well: only what can be one of ours is opened
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 12}.tmp"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime < _YOUNG:  # its writer may be about to lock it
                continue
            handle = os.open(left, os.O_RDWR | os.O_CLOEXEC)
            try:
                if lock_file(handle, wait=False):
                    left.unlink()
            finally:
                os.close(handle)


def append_line(path: Path, line: str) -> None:
    """Append one line, synced. Processes that append to one file at once neither mix nor lose lines.

    A line that an earlier writer left torn is cut off first; a disk that fills up in the middle leaves the file as it
    was, and raises `OSError`.
    """
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        lock_file(handle)  # until the file is closed
        end = _whole_end(handle)
        data = line.encode()
        try:
            written = os.write(handle, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, end)
            raise
    finally:
        os.close(handle)


def _whole_end(handle: int) -> int:
    """Where the last whole line ends."""
    size = os.fstat(handle).st_size
    end = size
    while end and os.pread(handle, 1, end - 1) != b"\n":
        start = max(0, end - 4096)
        end = start + os.pread(handle, end - start, start).rfind(b"\n") + 1
    if end != size:
        os.ftruncate(handle, end)
    return end


def make_folder(folder: Path) -> Path:
    """Create a folder the user named, or raise `InputError` if it can't be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"can't write here ({error.strerror or error})", where=str(folder), hint="choose another --out"
        ) from None
    return folder
