"""Every output is the old one or the new one: after a kill at any moment, with two writers at once, on a full disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from regrow.disk import write_bytes
from regrow.laws import fit, save_laws
from regrow.report import write_report
from regrow.runs import read_runs, to_table, write_archive
from regrow.runs.record import RunRecord
from regrow.runs.store import RunWriter
from regrow.runs.table import write_csv

#: kills of each writer
KILLS = 12


@pytest.fixture(scope="module")
def versions(table: Path) -> list[list[RunRecord]]:
    """Two sets of runs, of different lengths, so that a mixture of their files is none of the two."""
    runs = [run for run in read_runs(table) if not run.is_control]
    return [runs, [replace(run, run=f"{run.run}, again") for run in runs[:7]]]


@pytest.fixture(scope="module")
def writers(versions) -> dict[str, Callable[[Path, int], None]]:
    """What writes each kind of output to a path, in the first or the second version."""
    laws = [fit(runs, "chinchilla", draws=20) for runs in versions]
    tables = [to_table(runs) for runs in versions]
    return {
        "runs.csv": lambda path, which: write_csv(tables[which], path),
        "runs.parquet": lambda path, which: write_bytes(path, tables[which].to_parquet(index=False)),
        "runs.jsonl": lambda path, which: write_archive(versions[which], path),
        "law.json": lambda path, which: save_laws(laws[which], path),
        "report.md": lambda path, which: write_report(versions[which][:2], [], out=path),
        "report.html": lambda path, which: write_report(versions[which][:2], [], out=path),
    }


NAMES = ("runs.csv", "runs.parquet", "runs.jsonl", "law.json", "report.md", "report.html")


def child(work: Callable[[], object]) -> int:
    """Run `work` in a child process; its id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def contents(write: Callable[[Path, int], None], folder: Path, name: str) -> list[bytes]:
    """What each version of a file holds."""
    folder.mkdir()
    for which in (0, 1):
        write(folder / f"{which}-{name}", which)
    return [(folder / f"{which}-{name}").read_bytes() for which in (0, 1)]


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(writers, tmp_path: Path, name: str) -> None:
    write, path, rng = writers[name], tmp_path / name, random.Random(name)
    known = contents(write, tmp_path / "known", name)
    write(path, 0)

    def for_ever() -> None:
        for i in range(1_000_000):
            write(path, 1 - i % 2)

    for _ in range(KILLS):
        pid = child(for_ever)
        time.sleep(rng.uniform(0.0, 0.04))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert path.read_bytes() in known
    for left in tmp_path.glob(f".{name}.*.tmp"):  # what a killed writer left is removed once it is old
        os.utime(left, (0, 0))
    write(path, 1)
    assert path.read_bytes() == known[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["known", name])


@pytest.mark.parametrize("name", NAMES)
def test_two_writers_at_once_leave_one_of_the_two(writers, tmp_path: Path, name: str) -> None:
    write, path = writers[name], tmp_path / name
    known = contents(write, tmp_path / "known", name)

    def many(which: int) -> Callable[[], None]:
        return lambda: [write(path, which) for _ in range(8)] and None

    both = [child(many(which)) for which in (0, 1)]
    for _ in range(20):
        if path.exists():
            assert path.read_bytes() in known
        time.sleep(0.002)
    assert [os.waitpid(pid, 0)[1] for pid in both] == [0, 0]
    assert path.read_bytes() in known
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["known", name])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no small disk can be mounted here: that takes root and tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, capture_output=True)


def fill(disk: Path, *, but: int = 0) -> None:
    """Fill the disk but for so many bytes, whole pages."""
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - but // free.f_frsize * free.f_frsize))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_full_disk_leaves_the_old_file(writers, small_disk: Path, tmp_path: Path, name: str, share: float) -> None:
    """Full from the beginning, or in the middle of the file."""
    write, path = writers[name], small_disk / name
    size = len(contents(write, tmp_path / "known", name)[0])
    path.write_bytes(b"old" * 2000)
    fill(small_disk, but=int(share * size))
    with pytest.raises(Exception, match="No space left on device"):
        write(path, 0)
    assert path.read_bytes() == b"old" * 2000
    assert sorted(p.name for p in small_disk.iterdir()) == sorted(["filler", name])
    (small_disk / "filler").unlink()
    write(path, 0)  # with space again the same command goes through
    assert path.read_bytes() != b"old" * 2000


def test_commands_say_in_one_line_that_the_disk_is_full(regrow, table: Path, small_disk: Path) -> None:
    fill(small_disk)
    before = sorted(p.name for p in small_disk.iterdir())
    for command in (
        ["runs", "export", table, "--out", small_disk / "runs.csv"],
        ["runs", "export", table, "--out", small_disk / "runs.parquet"],
        ["runs", "export", table, "--out", small_disk / "runs.jsonl"],
        ["fit", table, "--form", "chinchilla", "--draws", "5", "--out", small_disk / "law.json"],
        ["study", small_disk / "study.yaml", "--init"],
    ):
        done = regrow(*command)
        assert done.code in (1, 2), command
        lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, (command, done.err)
        assert "No space left on device" in lines[0]
        assert "Traceback" not in done.err
        assert sorted(p.name for p in small_disk.iterdir()) == before


def test_a_run_folder_on_a_full_disk_keeps_its_readings(versions, small_disk: Path) -> None:
    run = versions[0][0]
    RunWriter.store(small_disk / "run", run)
    whole = {p.name: p.read_bytes() for p in (small_disk / "run").iterdir()}
    fill(small_disk)
    with pytest.raises(Exception, match="can't write"):
        RunWriter(small_disk / "run", run).update(details={"note": "x" * 9000})
    assert {p.name: p.read_bytes() for p in (small_disk / "run").iterdir()} == whole


def test_a_model_on_a_full_disk_keeps_the_old_one(small_disk: Path) -> None:
    from regrow.models.save import staged_folder

    out = small_disk / "pruned"
    with staged_folder(out) as stage:
        (stage / "model.safetensors").write_bytes(b"old" * 1000)
    fill(small_disk, but=4096)
    with pytest.raises(OSError, match="No space left"):  # noqa: SIM117
        with staged_folder(out, overwrite=True) as stage:
            (stage / "model.safetensors").write_bytes(b"new" * 5000)
    assert (out / "model.safetensors").read_bytes() == b"old" * 1000
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "pruned"]


def test_an_import_on_a_full_disk_goes_on_with_space(regrow, small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,eval_loss\n1,4.0\n2,3.9\n3,3.8\n")
    rows = "".join(f"log.csv,r{i:02},f,depth,100,80,2.0,1000\n" for i in range(12))
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,run,family,method,params_before,params_after,loss_before,tokens_per_step\n" + rows)
    out = small_disk / "runs"
    fill(small_disk, but=65536)
    done = regrow("import", "--manifest", manifest, "--out", out)
    assert done.code in (1, 2)
    assert "No space left on device" in done.err
    assert "Traceback" not in done.err
    (small_disk / "filler").unlink()
    assert regrow("import", "--manifest", manifest, "--out", out).code == 0
    assert [run.run for run in read_runs(out)] == [f"r{i:02}" for i in range(12)]
    assert regrow("runs", "check", out).code == 0
