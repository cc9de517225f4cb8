"""Checkpoints are whole or not there; kills, signals and full disks leave a run that goes on."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from regrow.errors import InputError, RunFailed
from regrow.runs import read_run
from regrow.training import TrainSpec
from regrow.training.checkpoints import STATE_FILE, checkpoints, last_checkpoint, step_of
from regrow.training.post_train import post_train
from regrow.training.signals import RunStopped, stop_on_signals

SPEC = TrainSpec(
    tokens=5120,
    batch_tokens=512,
    sequence_length=64,
    learning_rate=3e-3,
    held_out_blocks=8,
    eval_at=(2560,),
    save_every_tokens=512,
)


def losses(run):
    return [(p.tokens, p.loss, p.train_loss) for p in run.curve]


@pytest.fixture(scope="module")
def whole(tiny_model, text, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, post_train(str(tiny_model), data=str(text), spec=SPEC, out=out)


def test_the_last_two_are_kept(whole):
    out, _ = whole
    assert [step_of(p) for p in checkpoints(out / "checkpoints")] == [9, 10]
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_a_finished_run_is_not_run_again(whole, tiny_model, text):
    out, run = whole
    before = (out / "DONE").stat().st_mtime_ns
    assert post_train(str(tiny_model), data=str(text), spec=SPEC, out=out, resume=True) == run
    assert (out / "DONE").stat().st_mtime_ns == before


def test_a_checkpoint_of_another_spec_is_refused(whole):
    out, run = whole
    assert last_checkpoint(out / "checkpoints", spec=run.hash).name == "checkpoint-10"
    with pytest.raises(InputError, match="the checkpoint is of another spec"):
        last_checkpoint(out / "checkpoints", spec="0" * 16)


def test_half_a_checkpoint_is_not_one(tmp_path):
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / ".saving" / "checkpoint-9").mkdir(parents=True)
    assert last_checkpoint(tmp_path, spec="x") is None
    (tmp_path / "checkpoint-5" / STATE_FILE).write_bytes(b"half")
    for name in ("optimizer.pt", "scheduler.pt"):
        (tmp_path / "checkpoint-5" / name).write_bytes(b"whole")
    with pytest.raises(InputError, match=r"no checkpoint is whole: checkpoint-5 .*can't be read"):
        last_checkpoint(tmp_path, spec="x")


def test_a_full_disk_is_said_and_what_is_whole_is_kept(whole, tiny_model, text, tmp_path):
    def fill(progress):
        if progress.tokens == 2048:  # from here on no file can be larger than half of a checkpoint's largest
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(RunFailed, match=r"can't write the checkpoint at step 4 .*free space") as error:
            post_train(str(tiny_model), data=str(text), spec=SPEC, out=tmp_path / "run", on_progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(error.value)
    assert [step_of(p) for p in checkpoints(tmp_path / "run" / "checkpoints")] == [2, 3]
    again = post_train(str(tiny_model), data=str(text), spec=SPEC, out=tmp_path / "run", resume=True)
    assert losses(again) == losses(whole[1])


def test_a_signal_saves_first_and_says_how_to_go_on(whole, tiny_model, text, tmp_path):
    number = signal.SIGTERM

    def interrupt(progress):
        if progress.tokens == 1024:
            os.kill(os.getpid(), number)

    spec = TrainSpec(**{**SPEC.to_dict(), "eval_at": SPEC.eval_at, "betas": SPEC.betas, "save_every_tokens": 0})
    ask = {"data": str(text), "spec": spec, "out": tmp_path / "run", "resume": True}
    before = signal.getsignal(number)
    with (
        pytest.raises(RunStopped, match=rf"stopped by {number.name} at 1536 of 5120 .*--resume goes on") as stopped,
        stop_on_signals() as stop,
    ):
        post_train(str(tiny_model), stop=stop, on_progress=interrupt, **ask)
    assert stopped.value.exit_code == 130
    assert signal.getsignal(number) is before
    assert [step_of(p) for p in checkpoints(tmp_path / "run" / "checkpoints")] == [3]
    assert losses(post_train(str(tiny_model), **ask)) == losses(whole[1])


def test_kill_9_at_any_moment_changes_no_bit(whole, tiny_model, text, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "regrow.cli.main", "train", str(tiny_model), "--data", str(text), "--resume"]
    command += [
        "--tokens",
        "5120",
        "--batch-tokens",
        "512",
        "--sequence-length",
        "64",
        "--lr",
        "3e-3",
        "--held-out-blocks",
        "8",
    ]
    command += ["--eval-at", "2560", "--save-every", "512", "--out", str(out)]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((out / "checkpoints").glob("checkpoint-*")) and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running.kill()
    running.wait()
    assert not (out / "DONE").exists()
    assert read_run(out).status == "running"
    asked = json.loads((out / "run.json").read_text())["spec"]
    assert asked["train"] == {**SPEC.to_dict(), "eval_at": [2560]}
    again = post_train(str(tiny_model), data=str(text), spec=SPEC, out=out, resume=True)
    assert losses(again) == losses(whole[1])
