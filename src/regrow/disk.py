"""Files written and lines appended whole or not at all, whoever else writes and whatever breaks."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.locks import lock_file


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
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def append_line(path: Path, line: str) -> None:
    """Append one line, synced. Processes that append to one file at once neither mix nor lose lines.

    A line that an earlier writer left torn is cut off first; a disk that fills up in the middle leaves the file as it
    was, and raises `OSError`.
    """
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
