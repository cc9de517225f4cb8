"""Losses against their definitions, whole and in chunks; the meter of training losses."""

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

from regrow.data import Blocks
from regrow.errors import InputError
from regrow.training import objective
from regrow.training.inputs import RunInputs
from regrow.training.objective import LossMeter, distillation_loss, losses_of, next_token_loss
from regrow.training.spec import TrainSpec


def test_distillation_loss_is_zero_only_at_the_teacher():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    assert distillation_loss(teacher, teacher, temperature=2.0).item() == pytest.approx(0, abs=1e-6)
    p, q = (torch.softmax(x[:, :-1].double() / 2, -1) for x in (teacher, student))
    expected = 4 * (p * (p.log() - q.log())).sum(-1).mean()
    assert distillation_loss(student, teacher, temperature=2.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_next_token_loss_against_its_definition():
    torch.manual_seed(0)
    logits, ids = torch.randn(2, 4, 5), torch.randint(0, 5, (2, 4))
    log_p = torch.log_softmax(logits.double(), -1)
    expected = -sum(log_p[b, t, ids[b, t + 1]] for b in range(2) for t in range(3)) / 6
    assert next_token_loss(logits, ids).item() == pytest.approx(expected.item(), rel=1e-6)


def test_chunks_change_neither_losses_nor_gradients(monkeypatch):
    torch.manual_seed(0)
    teacher, ids = torch.randn(2, 9, 11), torch.randint(0, 11, (2, 9))
    found = []
    for limit in (2**24, 30):  # everything at once, and two rows at a time
        monkeypatch.setattr(objective, "CHUNK_ELEMENTS", limit)
        student = torch.randn(2, 9, 11, generator=torch.Generator().manual_seed(1)).requires_grad_()
        both = distillation_loss(student, teacher, temperature=2.0) + next_token_loss(student, ids)
        both.backward()
        found.append((both.item(), student.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1])


SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


def mixture() -> PreTrainedModel:
    torch.manual_seed(0)
    experts = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **experts))


@pytest.mark.parametrize("teacher", [False, True])
def test_the_router_is_balanced_as_transformers_does(teacher):
    model, other = mixture(), mixture() if teacher else None
    ids = torch.randint(0, model.config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(0))
    spec = TrainSpec(tokens=24, batch_tokens=24, sequence_length=12, router_loss=0.5, distill_mix=0.0)
    trained, plain = losses_of(model, {"input_ids": ids}, spec=spec, bf16=False, teacher=other)
    model.router_aux_loss_coef = 0.5
    theirs = model(input_ids=ids, labels=ids, output_router_logits=True)
    assert trained.item() == pytest.approx(theirs.loss.item(), rel=1e-6)
    assert trained.item() - plain.item() == pytest.approx(0.5 * theirs.aux_loss.item(), rel=1e-5)
    without, same = losses_of(model, {"input_ids": ids}, spec=replace(spec, router_loss=0.0), bf16=False)
    assert without.item() == same.item() == plain.item()
    # the balancing loss alone moves the router
    (trained - losses_of(model, {"input_ids": ids}, spec=replace(spec, router_loss=0.0), bf16=False)[0]).backward()
    assert model.model.layers[0].mlp.gate.weight.grad.abs().sum() > 0


def test_a_dense_model_has_no_router_to_balance():
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    blocks = Blocks(tokens=torch.zeros(2, 12).int().numpy(), documents=1, fingerprint="f00d")
    spec = TrainSpec(tokens=24, batch_tokens=24, sequence_length=12, router_loss=0.001)
    with pytest.raises(InputError, match="the model has no experts, and no router to balance"):
        RunInputs(model=model, tokenizer=None, train=blocks, held_out=blocks).check_fit(spec)
    with pytest.raises(InputError, match="router_loss -1"):
        replace(spec, router_loss=-1.0)
    assert "router_loss" not in replace(spec, router_loss=0.0).to_dict()
    assert TrainSpec.from_dict(spec.to_dict()) == spec


def test_the_meter_means_over_what_it_was_given_since_it_was_read():
    meter = LossMeter()
    assert meter.read() is None
    for loss in (1.0, 2.0, 6.0):
        meter.add(torch.tensor(loss))
    other = LossMeter()
    other.load_state_dict(meter.state_dict())
    assert meter.read() == other.read() == 3.0
    assert meter.read() is None


def test_the_meter_names_the_first_step_that_was_not_finite():
    meter = LossMeter()
    meter.add(torch.tensor(1.0))
    meter.watch(1, torch.tensor(2.0))
    assert meter.bad_step() is None
    meter.watch(2, torch.tensor(torch.inf))
    meter.add(torch.tensor(torch.nan))
    meter.watch(3, torch.tensor(1.0))
    assert meter.bad_step() == 2
