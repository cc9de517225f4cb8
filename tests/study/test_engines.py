"""What every engine does: each cell once, one that fails or whose worker dies costs itself alone."""

import os
import subprocess
import sys
import time

import pytest

from regrow.errors import InputError
from regrow.runs import read_run
from regrow.runs.check import check_runs
from regrow.study import run_study
from regrow.study.cell_plan import run_folder
from regrow.study.engines import make_engine
from regrow.study.local import LocalEngine
from regrow.study.machine import visible_gpus

from .conftest import Killer, small_study

#: What each engine read, by cell: they are to agree to the bit.
CURVES: dict[str, dict[str, list[tuple[int, float]]]] = {}


def test_a_study_with_a_broken_model_and_a_killed_worker(engine, tiny_model, text, tmp_path, broken_model):
    whole = small_study(tiny_model, text)
    asked = small_study(tiny_model, text, models=(str(tiny_model), str(broken_model)))
    ended = []
    with Killer(tmp_path) as killer:
        first = run_study(asked, tmp_path, engine=engine, on_cell=lambda cell, error: ended.append(cell.name))
    assert killer.killed is not None
    assert set(first.ran) == {cell.name for cell in whole.cells()}
    broken = {cell.name for cell in asked.cells()} - set(first.ran)
    assert set(first.failed) == broken
    assert all(str(broken_model) in error for error in first.failed.values())
    assert sorted(ended) == sorted(cell.name for cell in asked.cells())
    # again: what is done is left alone, what failed is tried again
    again = run_study(asked, tmp_path, engine=engine)
    assert again.ran == ()
    assert set(again.skipped) == set(first.ran)
    assert set(again.failed) == broken
    states = check_runs(tmp_path)
    assert not any(one.problems for one in states)
    assert {one.run.removeprefix("runs/") for one in states if one.state == "done"} == set(first.ran)
    runs = [read_run(run_folder(cell, tmp_path)) for cell in whole.cells()]
    assert all(run.loss_before == runs[0].loss_before for run in runs)
    CURVES[engine.name] = {run.run: [(p.tokens, p.loss) for p in run.curve] for run in runs}
    assert all(curves == CURVES[engine.name] for curves in CURVES.values())


@pytest.fixture
def broken_model(tiny_model, tmp_path_factory):
    import shutil

    folder = tmp_path_factory.mktemp("broken") / "broken"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").write_bytes(os.urandom(1000))
    return folder


def test_without_retries_a_worker_that_dies_costs_its_own_cell(local_engine, tiny_model, text, tmp_path, monkeypatch):
    asked = small_study(tiny_model, text)
    monkeypatch.setattr(local_engine, "retries", 0)
    monkeypatch.setattr(local_engine, "workers", 1)  # the next cell goes to the other worker, which runs already
    with Killer(tmp_path) as killer:
        first = run_study(asked, tmp_path, engine=local_engine)
    assert list(first.failed) == [killer.killed]
    assert "killed by SIGKILL; out of memory?" in first.failed[killer.killed]
    assert len(first.ran) == 2
    second = run_study(asked, tmp_path, engine=local_engine)
    assert second.ran == (killer.killed,)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"name": "lokal"}, "did you mean 'local'"),
        ({"workers": 0}, "0 workers"),
        ({"retries": -1}, "-1 retries"),
        ({"address": "auto"}, "--address: only a Ray cluster has one"),
        ({"gpus": 1.0}, "--gpus: only a Ray cluster has one"),
        ({"name": "ray", "cpus": 0.0}, "give a positive number"),
        ({"name": "ray", "cpus": 64.0}, "a cell takes 64 CPUs, the cluster has 2"),
        ({"name": "ray", "gpus": 1.0}, "a cell takes 1 GPUs, the cluster has 0"),
    ],
)
def test_engines_that_cannot_be(asked, says, request):
    if asked.get("name") == "ray":
        request.getfixturevalue("ray_engine")
    with pytest.raises(InputError, match=says):
        make_engine(**asked)


ASK = """
import sys
from regrow.errors import InputError
from regrow.study.engines import make_engine
{before}
try:
    make_engine("ray", address=sys.argv[1])
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "10.0.0.1:port"])
def test_an_address_that_does_not_answer_is_one_line(address):
    # in a process of its own: this one is connected
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", ASK.format(before=""), address], capture_output=True, text=True)
    assert time.monotonic() - began < 30
    assert done.returncode == 0, done.stderr
    assert f"--address {address}: " in done.stdout


def test_without_ray_the_command_that_installs_it_is_named():
    hidden = ASK.format(before="sys.modules['ray'] = None")
    done = subprocess.run([sys.executable, "-c", hidden, "auto"], capture_output=True, text=True)
    assert done.stdout == "--engine ray: Ray is not installed; pip install 'regrow[ray]'\n"


def test_gpus_and_threads_are_shared_out(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    assert visible_gpus() == ["3", "GPU-5a"]
    engine = LocalEngine()
    assert engine.workers == 2
    assert [engine.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["3", "GPU-5a", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("regrow.study.machine.cpu_count", lambda: 8)
    engine = LocalEngine()
    assert engine.workers == 4
    assert engine.environment(0)["OMP_NUM_THREADS"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in engine.environment(0)
