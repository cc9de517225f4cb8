"""A rate is found by measuring, the model left as it was."""

import math
from dataclasses import replace

import pytest
import torch

from regrow.data import read_blocks
from regrow.errors import InputError
from regrow.models.load import load_model, load_tokenizer
from regrow.runs import read_run
from regrow.training import TrainSpec
from regrow.training.inputs import RunInputs
from regrow.training.post_train import post_train
from regrow.training.probe import best_rate, probe_learning_rate

# far too low on purpose: the best rate lies beyond the upper end of the grid
SPEC = TrainSpec(
    tokens=2048, batch_tokens=512, sequence_length=64, learning_rate=1e-4, held_out_blocks=4, eval_at=(2048,)
)


def test_the_rule():
    assert best_rate({1e-3: 2.0, 2e-3: 1.5, 4e-3: 1.5, 8e-3: None}) == 2e-3
    assert best_rate({1e-3: None, 2e-3: None}) == 1e-3


def test_a_probe_goes_on_past_an_end_and_leaves_the_model_as_it_was(tiny_model, text):
    model = load_model(tiny_model, dtype=torch.float32)
    blocks = read_blocks(str(text), load_tokenizer(tiny_model), sequence_length=64, cache=False)
    before = [p.detach().clone() for p in model.parameters()]
    inputs = RunInputs(model=model, train=blocks, held_out=blocks.sample(4, seed=0))
    probe = probe_learning_rate(inputs, spec=SPEC, tokens=1500)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert probe.tokens == 1536
    assert len(probe.losses) > 7
    assert probe.learning_rate > 8e-4
    assert probe.losses[probe.learning_rate] == min(v for v in probe.losses.values() if v is not None)
    assert all(math.isfinite(v) and v < probe.loss_start for v in probe.losses.values())


def test_a_run_takes_the_rate_and_keeps_it_when_it_goes_on(tiny_model, text, tmp_path):
    ask = {"data": str(text), "spec": SPEC, "out": tmp_path / "run", "resume": True, "lr_probe": 512}
    run = post_train(str(tiny_model), **ask)
    probe = run.details["lr_probe"]
    assert run.spec["train"]["learning_rate"] == probe["learning_rate"] == run.curve[-1].lr
    (tmp_path / "run" / "DONE").unlink()
    assert post_train(str(tiny_model), **ask).hash == run.hash
    assert read_run(tmp_path / "run").details["lr_probe"] == probe
    with pytest.raises(InputError, match="probed in one process and for all parameters"):
        post_train(str(tiny_model), **{**ask, "out": tmp_path / "lora", "spec": replace(SPEC, lora_rank=2)})
