"""One optimizer and one step: the same as Trainer's, whoever makes them."""

import copy

import torch
from transformers import Trainer, TrainingArguments

from regrow.models.load import load_model
from regrow.training.optimizer import make_optimizer, train_step
from regrow.training.spec import TrainSpec

SPEC = TrainSpec(tokens=512, batch_tokens=256, sequence_length=32, learning_rate=2e-3, weight_decay=0.1)


def test_the_groups_and_options_are_those_of_trainer(tiny_model, tmp_path):
    model = load_model(tiny_model, dtype=torch.float32)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        learning_rate=SPEC.learning_rate,
        weight_decay=SPEC.weight_decay,
        adam_beta1=SPEC.betas[0],
        adam_beta2=SPEC.betas[1],
        optim="adamw_torch_fused",
        use_cpu=True,
    )
    theirs = Trainer(model=model, args=arguments).create_optimizer()
    ours = make_optimizer(model, SPEC)
    assert type(ours) is type(theirs)
    assert len(ours.param_groups) == len(theirs.param_groups) == 2
    for own, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert [id(p) for p in own.pop("params")] == [id(p) for p in other.pop("params")]
        assert own == other
    assert ours.param_groups[0]["weight_decay"] == 0.1
    assert ours.param_groups[1]["weight_decay"] == 0.0


def test_what_is_frozen_is_not_in_the_optimizer(tiny_model):
    model = load_model(tiny_model, dtype=torch.float32)
    model.requires_grad_(False)
    model.model.layers[0].mlp.up_proj.requires_grad_(True)
    trained = [p for group in make_optimizer(model, SPEC).param_groups for p in group["params"]]
    assert [id(p) for p in trained] == [id(model.model.layers[0].mlp.up_proj.weight)]


def test_a_step_is_that_of_the_whole_batch_clipped(tiny_model):
    """Against the step written out by hand, in one micro-batch and in four."""
    torch.manual_seed(0)
    ids = torch.randint(0, 2048, (8, 32))
    start = load_model(tiny_model, dtype=torch.float32).train()
    by_hand = copy.deepcopy(start)
    optimizer = make_optimizer(by_hand, SPEC)
    by_hand(input_ids=ids, labels=ids).loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(by_hand.parameters(), SPEC.max_grad_norm)
    optimizer.step()
    assert norm > 0
    for parts in (1, 4):
        model = copy.deepcopy(start)
        batches = [{"input_ids": part} for part in ids.chunk(parts)]
        train_step(model, make_optimizer(model, SPEC), batches, spec=SPEC, bf16=False)
        assert all(p.grad is None for p in model.parameters())
        for own, other in zip(model.parameters(), by_hand.parameters(), strict=True):
            torch.testing.assert_close(own, other, rtol=0, atol=2e-5)
