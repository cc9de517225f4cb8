"""An import that was cut short is said, and the same command goes on with it; nobody else writes meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from regrow.locks import LOCK_FILE, hold
from regrow.runs import read_runs
from regrow.runs.store import DONE_FILE, RUN_FILE, RunWarning, RunWriter

from .conftest import one_line_error

RUNS = 12


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "log.csv").write_text("step,eval_loss\n1,4.0\n2,3.9\n3,3.8\n")
    rows = "".join(f"log.csv,r{i:02},f,depth,100,80,2.0,1000\n" for i in range(RUNS))
    path = tmp_path / "m.csv"
    path.write_text("path,run,family,method,params_before,params_after,loss_before,tokens_per_step\n" + rows)
    return path


@pytest.mark.parametrize("died_at", ["first", "middle", "marker"])
def test_what_was_cut_short_is_said_and_goes_on(regrow, manifest, tmp_path, monkeypatch, died_at):
    class Gone(BaseException):
        pass

    store, calls = RunWriter.store.__func__, []

    def dying(cls, folder, record):
        calls.append(record.run)
        if len(calls) == (2 if died_at == "first" else RUNS // 2):
            raise Gone
        store(cls, folder, record)
        if died_at == "marker":
            (folder / DONE_FILE).unlink()

    out = tmp_path / "runs"
    monkeypatch.setattr(RunWriter, "store", classmethod(dying))
    with pytest.raises(Gone):
        regrow("import", "--manifest", manifest, "--out", out)
    monkeypatch.undo()
    with pytest.warns(RunWarning, match="an import was cut short"):
        assert len(read_runs(out)) < RUNS
    assert regrow("import", "--manifest", manifest, "--out", out).code == 0
    assert len(read_runs(out)) == RUNS
    assert regrow("runs", "check", out).code == 0
    assert regrow("import", "--manifest", manifest, "--out", out).code == 0  # nothing is left to do
    changed = json.loads((out / "r03" / RUN_FILE).read_text())
    (out / "r03" / RUN_FILE).write_text(json.dumps({**changed, "loss_before": 1.5}))
    one_line_error(regrow("import", "--manifest", manifest, "--out", out), "r03: holds a run already")


def test_a_kill_leaves_what_the_same_command_completes(manifest, tmp_path):
    out = tmp_path / "runs"
    command = [sys.executable, "-m", "regrow.cli.main", "import", "--manifest", str(manifest), "--out", str(out)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (out / "r02").exists() and running.poll() is None and time.monotonic() < until:
        time.sleep(0.0005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert [run.run for run in read_runs(out)] == [f"r{i:02}" for i in range(RUNS)]


def test_two_imports_at_once(regrow, manifest, tmp_path):
    out = tmp_path / "runs"
    out.mkdir()
    with hold(out / LOCK_FILE, what="held", hint="wait"):
        one_line_error(regrow("import", "--manifest", manifest, "--out", out), "another process is writing here")
    assert [path.name for path in out.iterdir()] == [LOCK_FILE]
