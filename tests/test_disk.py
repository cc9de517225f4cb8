"""Lines and files are whole whoever else writes and whatever breaks; locks die with their process."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from regrow.disk import append_line, write_text
from regrow.errors import InputError
from regrow.locks import LOCK_FILE, hold

WRITER = """
import sys
from pathlib import Path
from regrow.disk import append_line
for i in range({count}):
    append_line(Path(sys.argv[1]), f"{{sys.argv[2]}} {{i}} " + "x" * 300 + "\\n")
"""

HOLDER = """
import sys, time
from pathlib import Path
from regrow.locks import hold
with hold(Path(sys.argv[1]), what="a holder", hint="wait"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_writers_of_one_file_lose_and_mix_nothing(tmp_path):
    path = tmp_path / "lines"
    command = [sys.executable, "-c", WRITER.format(count=100), str(path)]
    writers = [subprocess.Popen([*command, str(i)]) for i in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    lines = path.read_text().splitlines()
    assert len(lines) == 400
    assert all(line.endswith("x" * 300) for line in lines)
    for writer in range(4):  # and each one's lines in its own order
        own = [int(line.split()[1]) for line in lines if line.startswith(f"{writer} ")]
        assert own == list(range(100))


def test_a_torn_line_is_cut_off_before_the_next(tmp_path):
    path = tmp_path / "lines"
    path.write_text("one\n" + "two" * 5000)
    append_line(path, "three\n")
    assert path.read_text() == "one\nthree\n"
    path.write_text("torn")
    append_line(path, "first\n")
    assert path.read_text() == "first\n"


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "lines"
    append_line(path, "one\n")
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:2]))
    with pytest.raises(OSError, match="No space left"):
        append_line(path, "three\n")

    def full(handle, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        append_line(path, "three\n")
    assert path.read_text() == "one\n"


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_text(path, "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_lock_refuses_names_its_holder_and_dies_with_it(tmp_path):
    path = tmp_path / LOCK_FILE
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"busy here \\(process {holder.pid} on .*\\); wait"):  # noqa: SIM117
        with hold(path, what="busy here", hint="wait", wait=0.1):
            pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with hold(path, what="busy here", hint="wait", wait=1.0):
        assert str(os.getpid()) in path.read_text()
    with hold(path, what="busy here", hint="wait"):  # given back
        pass
