"""Cells that prune and train in turns: one run with its stages, however often it was stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regrow.errors import InputError
from regrow.models.load import load_model
from regrow.runs import read_runs
from regrow.runs.turns import stage_runs
from regrow.study import StudySpec
from regrow.study.cell import run_cell
from regrow.study.cell_plan import plan_cell
from regrow.study.inputs import shape_of
from regrow.study.stage_plan import stage_recipes
from regrow.training.signals import RunStopped, StopRequest
from regrow.training.spec import TrainSpec

from .conftest import small_study


class StopLater(StopRequest):
    """Asks to stop after so many steps of all stages together."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left, self.signal = steps, "SIGTERM"

    def heard(self, step, device):
        self.left -= 1
        return self.left <= 0


@pytest.fixture
def staged(tiny_model, text) -> StudySpec:
    recipe = TrainSpec(
        tokens=2_048, batch_tokens=512, sequence_length=64, held_out_blocks=8, learning_rate=1e-3, eval_at=(512, 1536)
    )
    return small_study(
        tiny_model, text, methods=("depth", "width"), rates=(0.2,), stages=(0.1, 0.2), controls=False, train=recipe
    )


def test_each_method_has_a_cell_in_turns_and_old_cells_keep_their_names(staged):
    cells = staged.cells()
    assert [(cell.method, cell.rates) for cell in cells] == [
        ("depth", (0.2,)),
        ("depth", (0.1, 0.2)),
        ("width", (0.2,)),
        ("width", (0.1, 0.2)),
    ]
    before = replace(staged, stages=()).cells()
    assert [cell.hash for cell in before] == [cells[0].hash, cells[2].hash]
    assert "-depth-0.1-0.2-" in cells[1].name
    assert cells[1].spec["stages"] == [0.1]


def test_the_tokens_are_shared_out_and_readings_fall_where_they_belong(staged):
    (first, one), (second, two) = stage_recipes(staged.cells()[1])
    assert (first, one.tokens, second, two.tokens) == (0, 1024, 1024, 1024)
    assert (one.eval_at, two.eval_at) == ((0, 512, 1024), (0, 512, 1024))
    assert one.seed != two.seed


@pytest.mark.parametrize("method", ["depth", "width"])
def test_a_run_in_turns_is_one_run_with_its_stages(staged, tmp_path, method):
    (cell,) = [cell for cell in staged.cells() if cell.stages and cell.method == method]
    out = tmp_path / "runs" / cell.name
    run = run_cell(cell, out)
    shape = shape_of(cell.model)
    assert shape is not None
    assert [point.tokens for point in run.curve] == [0, 512, 1024, 1536, 2048]
    one, two = run.stages
    assert (one.tokens, two.tokens) == (0, 1024)
    assert one.loss_start == run.loss_before
    assert one.loss_pruned == run.curve[0].loss
    assert two.loss_start == run.curve[2].loss
    assert two.damage == two.loss_pruned - two.loss_start
    assert 0 < one.pruning_rate < two.pruning_rate == run.pruning_rate
    model = load_model(out / "model")
    assert sum(p.numel() for p in model.parameters()) == run.params_after == two.params_after
    assert not (out / "stages").exists()
    # the folder, read again, is this run and no other
    assert read_runs(tmp_path) == [run]
    first, second = stage_runs(run)
    assert [point.tokens for point in second.curve] == [512, 1024]
    assert second.start_loss == two.loss_pruned
    assert first.curve == run.curve[:3]
    planned = plan_cell(cell, tmp_path, shape)
    assert planned.flops is not None
    # the first half trains a larger model than the one that is left
    alone = plan_cell(replace(cell, stages=()), tmp_path, shape).flops
    assert alone is not None
    assert planned.flops > alone


def test_a_stopped_run_goes_on_and_ends_as_it_would_have(staged, tmp_path):
    cell = staged.cells()[1]
    whole = run_cell(cell, tmp_path / "whole")
    with pytest.raises(RunStopped):
        run_cell(cell, tmp_path / "cut", stop=StopLater(steps=3))
    assert (tmp_path / "cut" / "stages" / f"{cell.name}-stage2").is_dir()
    again = run_cell(cell, tmp_path / "cut")
    assert [(p.tokens, p.loss) for p in again.curve] == [(p.tokens, p.loss) for p in whole.curve]
    assert again.stages == whole.stages


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stages": (0.3, 0.3)}, "the rates must rise"),
        ({"stages": (0.3, 0.15)}, "0.15 follows 0.3"),
        ({"stages": (0.3,)}, "give at least two rates"),
        ({"stages": (0.3, 1.2)}, "pruning rate 1.2"),
        ({"stages": ("a", "b")}, "'a' is not a rate"),
        ({"stages": (0.1, 0.2), "methods": ("2:4",)}, "no depth or width method"),
    ],
)
def test_stages_that_cannot_be_are_one_line(staged, changes, says):
    with pytest.raises(InputError) as refused:
        replace(staged, **changes)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_stages_that_end_in_one_shape_are_refused_before_anything_runs(staged):
    with pytest.raises(InputError, match=r"the stages 0\.1 and 0\.12 end in the same shape"):
        replace(staged, stages=(0.1, 0.12)).check()


def test_stages_and_adapters_are_refused(staged):
    with pytest.raises(InputError, match="lora_rank with stages"):
        replace(staged, train=replace(staged.train, lora_rank=2))
