"""One cell, run in this process: what it shares changes nothing, what it distils is said, one process writes it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from regrow.errors import InputError
from regrow.locks import LOCK_FILE
from regrow.models.load import load_model
from regrow.models.masks import violations, zero_masks
from regrow.study import cell as cells
from regrow.study.cell import run_cell
from regrow.study.progress import cell_state
from regrow.training.branch import cool_down
from regrow.training.run import START
from regrow.training.signals import RunStopped, StopRequest

from .conftest import small_study

HOLDER = """
import sys, time
from pathlib import Path
from regrow.locks import hold
with hold(Path(sys.argv[1]), what="a holder", hint="wait"):
    print("held", flush=True)
    time.sleep(60)
"""


def curve(run):
    return [(p.tokens, p.loss, p.train_loss) for p in run.curve]


def test_shared_scores_and_models_change_nothing_and_are_made_once(tiny_model, text, tmp_path, monkeypatch):
    made = []
    prune = cells.prune_model
    monkeypatch.setattr(cells, "prune_model", lambda *a, **k: (made.append(a[1].method), prune(*a, **k))[1])
    shared = tmp_path / "shared"
    for cell in small_study(tiny_model, text).cells()[1:]:  # depth and 2:4
        alone = run_cell(cell, tmp_path / "alone" / cell.name)
        first = run_cell(cell, tmp_path / "first" / cell.name, shared=shared, uses=2)
        second = run_cell(cell, tmp_path / "second" / cell.name, shared=shared, uses=2)
        assert curve(alone) == curve(first) == curve(second)
        assert alone.loss_before == second.loss_before
        weights = [
            (tmp_path / where / cell.name / "model" / "model.safetensors").read_bytes() for where in ("alone", "second")
        ]
        assert weights[0] == weights[1]
        # as the study calls it: a folder of this machine says nothing on another
        record = json.loads((tmp_path / "second" / cell.name / "model" / "regrow_prune.json").read_text())
        assert record["model"] == cell.model
    assert made == ["depth", "depth", "2:4", "2:4"]  # alone, and for the two that share
    count = {kind.name: len([p for p in kind.iterdir() if p.suffix != ".lock"]) for kind in shared.iterdir()}
    # one reading of the unpruned model, one pass of calibration for both methods, a pruned model each
    assert count == {"loss-before": 1, "scores": 1, "pruned": 2}


def test_a_distilled_cell_says_so_and_learns_from_its_teacher(tiny_model, text, tmp_path):
    plain, taught = (
        small_study(tiny_model, text, methods=("2:4",), objectives=(name,)).cells()[-1]
        for name in ("cross-entropy", "distillation")
    )
    run = run_cell(taught, tmp_path / "taught")
    assert run.objective == "distillation:T=1,mix=1"
    assert run.family == "tiny-distilled"
    assert curve(run)[0][1] == curve(run_cell(plain, tmp_path / "plain"))[0][1]  # the same pruned model
    assert curve(run)[-1][1] != curve(run_cell(plain, tmp_path / "plain"))[-1][1]
    assert json.loads((tmp_path / "taught" / "run.json").read_text())["spec"]["teacher"] == str(tiny_model)
    # its checkpoints serve a cool-down, as those of any run do
    cooled = cool_down(tmp_path / "taught", tokens=1024, out=tmp_path / "cooled")
    assert cooled.curve[0].loss == run.curve[-1].loss
    assert (cooled.objective, cooled.method, cooled.spec["cooldown_from"]["run"]) == (run.objective, "2:4", taught.hash)


class StopAt(StopRequest):
    """Asks to stop after a step, as a signal would."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step, self.signal = step, "SIGTERM"

    def heard(self, step, device):
        return step == self.step


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_run_that_goes_on_keeps_the_model_it_began_from(tiny_model, text, tmp_path, monkeypatch, lora_rank):
    study = small_study(tiny_model, text, methods=("2:4",))
    cell = replace(study, train=replace(study.train, lora_rank=lora_rank)).cells()[-1]
    whole = run_cell(cell, tmp_path / "whole")
    with pytest.raises(RunStopped):
        run_cell(cell, tmp_path / "halves", stop=StopAt(2))
    assert (tmp_path / "halves" / START).is_dir()
    # another machine may prune otherwise: sums in another order, and of two weights of equal worth the other one goes
    prune = cells.prune_model
    monkeypatch.setattr(
        cells, "prune_model", lambda model, spec, tokens, **given: prune(model, replace(spec, scorer="magnitude"), None)
    )
    went_on = run_cell(cell, tmp_path / "halves")
    assert curve(went_on) == curve(whole)
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "halves")]
    assert weights[0] == weights[1]
    for run in ("whole", "halves"):  # adapters lie on it, and a cool-down of them does too
        assert (tmp_path / run / START).is_dir() == bool(lora_rank)
    if lora_rank:
        cooled = cool_down(tmp_path / "whole", tokens=1024, out=tmp_path / "cooled")
        assert cooled.curve[0].tokens == whole.curve[-1].tokens


def test_a_damaged_start_is_made_again_or_said(tiny_model, text, tmp_path):
    cell = small_study(tiny_model, text, methods=("2:4",)).cells()[-1]
    record = tmp_path / "run" / START / "regrow_prune.json"
    with pytest.raises(RunStopped):
        run_cell(cell, tmp_path / "run", stop=StopAt(2))
    record.write_text("{")
    with pytest.raises(InputError, match="the pruned model that this run began from is damaged; remove the run"):
        run_cell(cell, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert run_cell(cell, tmp_path / "run").status == "done"


def test_a_run_that_was_stopped_can_be_cooled_down(tiny_model, text, tmp_path):
    cell = small_study(tiny_model, text, methods=("2:4",)).cells()[-1]
    with pytest.raises(RunStopped):
        run_cell(cell, tmp_path / "run", stop=StopAt(2))
    cooled = cool_down(tmp_path / "run", tokens=1024, out=tmp_path / "cooled")
    assert cooled.curve[0].tokens == 1024
    assert not violations(load_model(tmp_path / "cooled" / "model"), zero_masks(load_model(tmp_path / "run" / START)))


def test_a_run_that_another_process_writes_is_left_alone(tiny_model, text, tmp_path, monkeypatch):
    cell = small_study(tiny_model, text).cells()[0]
    monkeypatch.setattr(cells, "_WAIT", 0.1)
    command = [sys.executable, "-c", HOLDER, str(tmp_path / LOCK_FILE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(InputError, match=f"another process is writing this run \\(process {holder.pid}"):
            run_cell(cell, tmp_path)
        holder.kill()
    run_cell(cell, tmp_path)
    state = cell_state(cell, tmp_path)
    assert (state.state, state.tokens, state.total) == ("done", 2048, 2048)
    assert state.tokens_per_second is not None
    assert not (tmp_path / "progress.json").exists()
