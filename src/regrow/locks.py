"""A lock on a folder that dies with its process, so that a stale one never blocks.

`flock` belongs to an open file: however its process ends, the kernel lets go. The file itself stays and means nothing.
Where a file system has no locks, work goes on without one.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from regrow.errors import InputError

try:
    import fcntl
except ImportError:  # no POSIX locks on this system
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
#: Seconds between two tries of a lock that is waited for.
_POLL = 0.05


def lock_file(handle: int, *, wait: bool = True) -> bool | None:
    """Lock an open file until it is closed.

    Returns True if the lock is ours now, False if another process has it, None where there are no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


@contextmanager
def hold(path: Path, *, what: str, hint: str, wait: float | None = 0.0, keep: bool = True) -> Iterator[bool]:
    """Hold the lock file `path` inside the block; its folder must be there.

    The block is given True if the lock is held, False where the file system has no locks.

    Args:
        what: what the holder does, for the message: `another study is running here`.
        hint: what the user can do.
        wait: seconds to wait for it; None for as long as it takes.
        keep: leave the file there; else it is removed as the block ends.

    Raises `InputError` if another process holds it, with that process's id and machine.
    """
    until = None if wait is None else time.monotonic() + wait
    handle, locked = _locked(path, until)
    try:
        if locked is False:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
            raise InputError(f"{what} ({holder})", where=str(path.parent), hint=hint)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        try:
            yield bool(locked)
        finally:
            if not keep:
                path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _locked(path: Path, until: float | None) -> tuple[int, bool | None]:
    """The open lock file, and what `lock_file` says of it. A file that its last holder has removed is no lock."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            while (locked := lock_file(handle, wait=until is None)) is False:
                if until is not None and time.monotonic() >= until:
                    return handle, False
                time.sleep(_POLL)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle, locked
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
