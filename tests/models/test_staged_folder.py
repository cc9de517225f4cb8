"""A folder that is written beside its place: one process at a time, whole after a kill at any moment, nothing left."""

import os
import random
import signal
import time

import pytest

from regrow.errors import InputError
from regrow.models.save import staged_folder

FILES = ("config.json", "model.safetensors", "README.md")


def in_child(work):
    """Run `work` in a child; its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def write(out, content, *, overwrite=True, wait=0.0):
    with staged_folder(out, overwrite=overwrite) as stage:
        for name in FILES:
            (stage / name).write_text(content)
            time.sleep(wait)


def whole(out):
    """What all files of the folder say."""
    (content,) = {(out / name).read_text() for name in FILES}
    return content


def test_a_second_process_is_refused_while_the_first_writes(tmp_path):
    out = tmp_path / "pruned"
    with staged_folder(out) as stage:
        (stage / "x").write_text("1")

        def second():
            with pytest.raises(InputError, match=rf"another process writes pruned here \(process {os.getppid()} on "):
                write(out, "2")

        _, status = os.waitpid(in_child(second), 0)
        assert status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["pruned"]
    assert (out / "x").read_text() == "1"


def test_of_many_processes_that_begin_at_once_one_writes(tmp_path):
    out = tmp_path / "pruned"
    children = {in_child(lambda i=i: write(out, str(i), overwrite=False, wait=0.1)): i for i in range(6)}
    won = [i for pid, i in children.items() if os.waitpid(pid, 0)[1] == 0]
    assert len(won) == 1  # of the others each was refused: it was being written, or it was there
    assert whole(out) == str(won[0])
    assert [path.name for path in tmp_path.iterdir()] == ["pruned"]


def test_a_kill_at_any_moment_leaves_a_whole_folder_and_the_next_run_clears_up(tmp_path):
    out, rng = tmp_path / "pruned", random.Random(0)
    write(out, "first")

    def for_ever():
        for i in range(1_000_000):
            write(out, f"{os.getpid()}-{i}")

    seen, kills, until = {"first"}, 0, time.monotonic() + 60
    while kills < 25 or (len(seen) <= 5 and time.monotonic() < until):  # a busy machine writes little between two kills
        kills += 1
        pid = in_child(for_ever)
        time.sleep(rng.uniform(0.0, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with pytest.raises(InputError, match="the folder is not empty"):  # what was there is put back first
            write(out, "never", overwrite=False)
        seen.add(whole(out))
    assert len(seen) > 5
    write(out, "last")
    assert whole(out) == "last"
    assert [path.name for path in tmp_path.iterdir()] == ["pruned"]


def test_a_folder_that_was_moved_aside_is_put_back(tmp_path):
    """Killed between its two renames, a writer leaves the old folder under another name."""
    out = tmp_path / "pruned"
    write(tmp_path / ".pruned.0123abcd.tmp.old", "old")
    write(tmp_path / ".pruned.0123abcd.tmp", "new")
    (tmp_path / ".pruned.mine.tmp").mkdir()  # of somebody else
    with pytest.raises(InputError, match="the folder is not empty"):
        write(out, "never", overwrite=False)
    assert whole(out) == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pruned.mine.tmp", "pruned"]
