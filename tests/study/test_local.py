"""Workers do not outlive the study that started them."""

import os
import subprocess
import sys
import time

import pytest

from regrow.study import machine
from regrow.study.local import LocalEngine

STUDY = """
import time
from regrow.study.local import LocalEngine

engine = LocalEngine(workers=1)
print(engine._take().process.pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:  # a zombie that nobody has reaped is dead
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize(
    ("asked", "workers", "threads"), [(None, 2, 4), ("1", 2, 1), ("6", 2, 4), ("", 1, 8), ("0", 1, 8), (None, 16, 1)]
)
def test_workers_share_the_cpus_and_keep_to_what_the_user_allows(monkeypatch, asked, workers, threads):
    monkeypatch.setattr(machine, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert LocalEngine(workers=workers).environment(0)["OMP_NUM_THREADS"] == str(threads)


def test_a_worker_ends_when_its_study_is_killed():
    # from a script without `if __name__ == "__main__"`: a worker does not run the user's script again
    study = subprocess.Popen([sys.executable, "-c", STUDY], stdout=subprocess.PIPE, text=True)
    assert study.stdout is not None
    worker = int(study.stdout.readline())
    assert alive(worker)
    study.kill()
    study.wait()
    for _ in range(100):
        if not alive(worker):
            break
        time.sleep(0.1)
    assert not alive(worker)
