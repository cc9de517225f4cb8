"""A run reported to a tracker says there what its record says; its settings and its progress are told as they are."""

import pytest

from regrow.errors import InputError
from regrow.runs.importers import ImportSpec, import_log
from regrow.training import TrainSpec
from regrow.training.post_train import post_train
from regrow.training.trackers import TENSORBOARD, tracker_callbacks

SPEC = TrainSpec(
    tokens=5120,
    batch_tokens=512,
    sequence_length=64,
    learning_rate=3e-3,
    held_out_blocks=8,
    eval_at=(1024, 2560),
    save_every_tokens=0,
)


@pytest.fixture(scope="module")
def told(tiny_model, text, tmp_path_factory):
    """A run, what it told when it started and after every step, and its folder."""
    out, started, steps = tmp_path_factory.mktemp("tracked") / "run", [], []
    run = post_train(
        str(tiny_model),
        data=str(text),
        spec=SPEC,
        out=out,
        report_to=["tensorboard"],
        on_start=lambda record: started.append((record.hash, dict(record.details), record.curve)),
        on_progress=steps.append,
    )
    return run, started, steps, out


def test_the_event_file_holds_the_curve_of_the_record(told):
    run, _, _, out = told
    (events,) = (out / TENSORBOARD).iterdir()
    spec = ImportSpec(
        run="tracked",
        family=run.family,
        method=run.method,
        params_before=run.params_before,
        params_after=run.params_after,
        loss_before=run.loss_before,
        tokens_per_step=SPEC.batch_tokens,
    )
    read = import_log([events], spec)
    assert [p.tokens for p in read.curve] == [0, 1024, 2560, 5120]
    assert [p.loss for p in read.curve] == pytest.approx([p.loss for p in run.curve], rel=1e-6)  # events are fp32


def test_a_run_tells_its_settings_before_its_first_step(told):
    run, started, _, _ = told
    ((hash_, details, curve),) = started
    assert hash_ == run.hash
    assert details["precision"] == run.details["precision"]
    assert curve == ()


def test_progress_knows_rate_and_held_out_loss(told):
    run, _, steps, _ = told
    by_tokens = {point.tokens: point.loss for point in run.curve}
    assert [step.tokens for step in steps] == list(range(512, 5121, 512))
    for step in steps:
        at = max(tokens for tokens in by_tokens if tokens <= step.tokens)
        assert (step.held_out, step.held_out_tokens) == (by_tokens[at], at)
        assert step.learning_rate == pytest.approx(3e-3)
        assert step.seconds_left == pytest.approx((5120 - step.tokens) / step.tokens_per_second)


def test_a_tracker_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"unknown tracker 'wand'; did you mean 'wandb'"):
        tracker_callbacks(["wand"], tmp_path)
    with pytest.raises(InputError, match="comet_ml is not installed; pip install comet-ml"):
        tracker_callbacks(["comet_ml"], tmp_path)
