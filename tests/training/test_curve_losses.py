"""What a milestone reads beside the raw loss, averaged weights and cool-down branches; neither moves the run."""

from functools import partial

import pytest
import torch

from regrow.models.load import load_model
from regrow.training import TrainSpec
from regrow.training.averages import Average
from regrow.training.post_train import post_train

BASE = {
    "tokens": 4096,
    "batch_tokens": 512,
    "sequence_length": 64,
    "learning_rate": 3e-3,
    "held_out_blocks": 8,
    "eval_at": (1024, 2048),
    "micro_batch_blocks": 4,
}


def losses(run):
    return [(p.tokens, p.loss, p.train_loss) for p in run.curve]


@pytest.fixture(scope="module")
def plain(tiny_model, text, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "run"
    return post_train(str(tiny_model), data=str(text), spec=TrainSpec(**BASE), out=out)


@pytest.fixture(scope="module")
def rich(tiny_model, text, tmp_path_factory):
    spec = TrainSpec(**BASE, cooldown_tokens=1024, average="ema:0.6")
    return post_train(str(tiny_model), data=str(text), spec=spec, out=tmp_path_factory.mktemp("rich") / "run")


def test_branches_and_averages_leave_the_run_as_it_is_to_the_bit(plain, rich):
    assert losses(rich) == losses(plain)
    assert all(p.loss_averaged is None and p.loss_cooled is None for p in plain.curve)


def test_a_cooled_loss_is_that_of_a_run_that_ends_annealed_there(rich, tiny_model, text, tmp_path):
    assert [p.loss_cooled is None for p in rich.curve] == [True, False, False, False]
    for point in (rich.curve[1], rich.curve[3]):  # the first branch leaves the run before its first step
        spec = TrainSpec(**{**BASE, "tokens": point.tokens, "schedule": "wsd", "decay_tokens": 1024})
        ended = post_train(str(tiny_model), data=str(text), spec=spec, out=tmp_path / str(point.tokens))
        assert point.loss_cooled == ended.curve[-1].loss


def test_a_cool_down_at_one_milestone_only(tiny_model, text, tmp_path, rich):
    spec = TrainSpec(**{**BASE, "tokens": 2048}, cooldown_tokens=1024, cooldown_at=(2048,))
    run = post_train(str(tiny_model), data=str(text), spec=spec, out=tmp_path / "run")
    assert [p.loss_cooled for p in run.curve] == [None, None, rich.curve[2].loss_cooled]


def test_an_average_is_the_one_of_its_definition():
    model = torch.nn.Linear(3, 1)
    ema, last = Average("ema:0.5", model), Average("last:2", model)
    seen = []
    with ema.applied():
        pass  # before the first step an average is the weights
    for value in (1.0, 2.0, 4.0):
        torch.nn.init.constant_(model.weight, value)
        ema.after_step()
        last.at_milestone()
        seen.append(value)
    expected = (0.25 * 1 + 0.5 * 2 + 1 * 4) / 1.75
    with ema.applied():
        assert torch.allclose(model.weight, torch.full_like(model.weight, expected))
    with last.applied():
        assert torch.equal(model.weight, torch.full_like(model.weight, 3.0))
    assert torch.equal(model.weight, torch.full_like(model.weight, 4.0))


def test_averages_are_read_beside_the_raw_loss(rich):
    assert rich.curve[0].loss_averaged == rich.curve[0].loss
    assert all(p.loss_averaged is not None and p.loss_averaged != p.loss for p in rich.curve[1:])


def test_everything_resumes_to_the_bit(sparse_model, text, tmp_path, dying):
    # checkpoints between the milestones, and between a branch and the milestone that it ends at
    spec = TrainSpec(**BASE, cooldown_tokens=1024, average="last:2", save_every_tokens=1536)
    ask = {"data": str(text), "spec": spec, "resume": True}
    whole = post_train(str(sparse_model), out=tmp_path / "whole", **ask)
    again = dying(partial(post_train, str(sparse_model), out=tmp_path / "again", **ask), 2048, 3584)
    values = [
        [(p.tokens, p.loss, p.train_loss, p.lr, p.loss_averaged, p.loss_cooled) for p in r.curve]
        for r in (whole, again)
    ]
    assert values[0] == values[1]
    ours, theirs = (load_model(tmp_path / name / "model") for name in ("whole", "again"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert again.details["unique_tokens"] == 4096
