"""A plan counts what the cells will do; a budget refuses or cuts, with the numbers."""

import json
from dataclasses import replace

import pytest

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.runs import CurvePoint, RunRecord, RunWriter
from regrow.study import StudyBudget, StudySpec, run_study
from regrow.study.cell_plan import run_folder
from regrow.study.plan import plan_study
from regrow.training.spec import TrainSpec

from .conftest import small_study


class Engine:
    """An engine whose workers reach a known speed, and that runs cells by writing their records."""

    name = "known"
    workers = 2

    def __init__(self, speed: float | None = 1e9) -> None:
        self.speed = speed
        self.probed = 0

    def probe(self, cells):
        self.probed += 1
        return [self.speed] * len(cells)

    def run(self, jobs):
        for job in jobs:
            finish(job.cell, job.out)
            yield job.cell, None

    def close(self):
        pass


def finish(cell, folder, tokens_per_second=1000.0, steps=4):
    record = RunRecord(
        run=cell.name,
        family=cell.family,
        method=cell.method,
        params_before=100,
        params_after=100,
        pruning_rate=0.0,
        loss_before=2.0,
        spec=cell.spec,
    )
    writer = RunWriter.open(folder, record)
    writer.append(CurvePoint(tokens=512 * steps, loss=2.0, seconds=1.0))
    if steps == 4:
        writer.finish(details={"device": "test", "tokens_per_second": tokens_per_second})


def test_counts_of_a_study(tiny_model, text, tmp_path):
    asked = small_study(tiny_model, text)
    plan = plan_study(asked, tmp_path / "not-yet", engine=Engine())
    assert [cell.state for cell in plan.cells] == ["waiting"] * 3
    assert plan.tokens_left == 3 * 2048
    shape = Architecture.from_pretrained(tiny_model)
    control, depth, sparse = plan.cells
    training = 2048 * shape.training_flops_per_token(64)
    reading = 3 * 8 * 64 * shape.forward_flops_per_token(64)  # at 0, 1024 and 2048 tokens, 8 blocks of 64
    assert control.flops == pytest.approx(training + reading)
    assert sparse.flops == control.flops  # zeros are multiplied
    assert depth.flops < control.flops
    assert (control.rate, depth.params_after) == (0.0, depth.params_before - shape.block_params)
    assert sparse.params_after < sparse.params_before
    # two checkpoints of weights and two moments, and the model, in fp32
    assert control.disk == shape.params * (4 + 2 * 12)
    # one worker takes two cells: the shortest beside the longest
    seconds = sorted(cell.seconds for cell in plan.cells)
    assert plan.seconds_left == pytest.approx(max(seconds[2], seconds[0] + seconds[1]))
    assert control.seconds == pytest.approx(control.flops / 1e9)
    assert "a try of a second" in plan.timing


def test_a_distilled_cell_pays_for_its_teacher(tiny_model, text, tmp_path):
    plain, taught = (
        plan_study(small_study(tiny_model, text, objectives=(name,), methods=("2:4",)), tmp_path).cells[-1]
        for name in ("cross-entropy", "distillation")
    )
    forward = Architecture.from_pretrained(tiny_model).forward_flops_per_token(64)
    assert taught.flops - plain.flops == pytest.approx(2048 * forward)


def test_finished_runs_tell_the_speed_and_the_hardware_is_not_tried(tiny_model, text, tmp_path):
    asked = small_study(tiny_model, text)
    cells = asked.cells()
    finish(cells[0], run_folder(cells[0], tmp_path), tokens_per_second=500.0)
    finish(cells[2], run_folder(cells[2], tmp_path), steps=1)
    engine = Engine()
    plan = plan_study(asked, tmp_path, engine=engine)
    assert engine.probed == 0
    assert plan.timing == "as 1 finished run trained (test)"
    assert plan.cells[0].seconds == pytest.approx(2048 / 500)
    assert [cell.state for cell in plan.cells] == ["done", "waiting", "stopped"]
    assert plan.tokens_left == 2048 + 3 * 512


def test_without_a_speed_there_is_no_time(tiny_model, text, tmp_path):
    asked = small_study(tiny_model, text)
    assert plan_study(asked, tmp_path, engine=Engine(speed=None)).seconds_left is None
    assert plan_study(asked, tmp_path).timing is None


def test_a_model_that_is_not_here_yet_is_planned_as_far_as_it_is_known(text, tmp_path):
    asked = small_study("nobody/knows", text)
    plan = plan_study(asked, tmp_path, engine=Engine())
    assert plan.flops_left is None
    assert plan.seconds_left is None
    assert plan.tokens_left == 3 * 2048


def test_a_study_over_its_budget_is_refused_with_the_numbers(tiny_model, text, tmp_path):
    asked = small_study(tiny_model, text, budget=StudyBudget(tokens=5000))
    with pytest.raises(InputError, match=r"the study's 3 cells cost 6.14k tokens of at most 5k tokens"):
        run_study(asked, tmp_path, engine=Engine())
    assert not (tmp_path / "runs").exists()
    enough = replace(asked, budget=StudyBudget(tokens=6144, flops=1e12, hours=1.0))
    assert plan_study(enough, tmp_path, engine=Engine()).budget is None
    with pytest.raises(InputError, match="hours of at most"):
        plan_study(replace(asked, budget=StudyBudget(hours=1e-9)), tmp_path, engine=Engine())
    with pytest.raises(InputError, match=r"the hours of .* are not known"):
        plan_study(replace(asked, budget=StudyBudget(hours=1.0)), tmp_path, engine=Engine(speed=None))


def test_a_budget_may_choose_by_its_rule_and_keeps_its_choice(tiny_model, text, tmp_path):
    asked = small_study(tiny_model, text, seeds=(0, 1), budget=StudyBudget(tokens=4 * 2048, rule="choose"))
    plan = plan_study(asked, tmp_path, engine=Engine())
    # both controls, then the first seed's cells, the cheaper one first
    assert [(c.cell.method, c.seed_rank) for c in plan.chosen] == [("none", 0), ("none", 1), ("depth", 0), ("2:4", 0)]
    assert "4 of 6 cells fit the budget: all cost 12.3k tokens of at most 8.19k tokens" in plan.budget
    timed = replace(asked, budget=StudyBudget(hours=plan.cells[0].seconds * 4.01 / 3600, rule="choose"))
    done = run_study(timed, tmp_path, engine=Engine())
    assert len(done.ran) == 4
    # another day, another speed: the same cells
    again = plan_study(timed, tmp_path, engine=Engine(speed=1e6))
    assert [c.cell.name for c in again.chosen] == [
        c["name"] for c in json.loads((tmp_path / "study.json").read_text())["cells"]
    ]
    assert again.to_run == []
    with pytest.raises(InputError, match="not one cell fits"):
        plan_study(replace(asked, budget=StudyBudget(tokens=10, rule="choose")), tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "no limit"),
        ({"token": 1}, "did you mean 'tokens'"),
        ({"tokens": "many"}, "not a positive number"),
        ({"hours": "soon"}, "not a number of hours"),
        ({"hours": -1}, "not positive"),
        ({"hours": 1, "rule": "refse"}, "did you mean 'refuse'"),
        ([1], "is not a budget"),
    ],
)
def test_budgets_that_cannot_be(content, says):
    with pytest.raises(InputError, match=says):
        StudyBudget.from_dict(content)


def test_rates_that_end_in_one_shape_are_named(tmp_path):
    """Of the six blocks of the smallest Llama, 0.17 and 0.2 of the parameters are both two blocks; 0.33 is another."""
    spec = StudySpec(
        family="llama",
        models=("tiny-llama-0.2m", "tiny-llama-0.6m"),
        methods=("depth", "2:4"),
        rates=(0.17, 0.2, 0.33),
        seeds=(0, 1),
        train=TrainSpec(tokens=10_240),
    )
    plan = plan_study(spec, tmp_path)
    ends = {
        (row.cell.model, row.cell.prune.rate): row.params_after
        for row in plan.cells
        if row.cell.prune is not None and row.cell.prune.rate is not None
    }
    named = [m for m in spec.models if ends[m, 0.17] == ends[m, 0.2]]
    assert "tiny-llama-0.2m" in named
    assert len(plan.warnings()) == len(named)
    assert plan.warnings()[0] == (
        "tiny-llama-0.2m, depth: the rates 0.17 and 0.2 end in the same shape, which reaches 0.163: "
        "2 cells train it again; keep one of these rates"
    )
    assert plan_study(replace(spec, rates=(0.17, 0.33)), tmp_path).warnings() == []
