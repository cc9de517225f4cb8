"""The loss without logits: of every family, the numbers and gradients of a plain forward and backward pass."""

import pytest
import torch
from tests.models.tiny_families import TINY, make_tiny
from torch import nn

from regrow.models import outputs
from regrow.training import TrainSpec
from regrow.training.loss_in_slices import takes_slices
from regrow.training.objective import losses_of, next_token_loss

IDS = torch.randint(1, 64, (3, 32), generator=torch.Generator().manual_seed(0))


def plain(model, bf16=False, router=0.0):
    """The loss and the gradients by name, by way of all logits at once."""
    asked = {"output_router_logits": True} if router else {}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        given = model(input_ids=IDS, use_cache=False, **asked)
    loss = next_token_loss(given.logits, IDS)
    (loss + router * given.aux_loss if router else loss).backward()
    return loss.item(), taken(model)


def sliced(model, bf16=False, **spec):
    """The same as a run computes it, as a part of a batch: a quarter of the gradient."""
    trained, loss = losses_of(model, {"input_ids": IDS}, spec=TrainSpec(tokens=1, **spec), bf16=bf16)
    (trained / 4).backward()
    return loss.item(), {name: 4 * gradient for name, gradient in taken(model).items()}


def taken(model):
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return gradients


@pytest.fixture(autouse=True)
def slices_of_32(monkeypatch):
    """93 rows in three slices: the hidden width, 32, is the least."""
    monkeypatch.setattr(outputs, "CPU_LOGITS", 1)
    monkeypatch.setattr(outputs, "LEAST_ROWS", 1)


@pytest.mark.parametrize("family", TINY)
def test_loss_and_gradients_are_those_of_all_logits_at_once(family):
    model = make_tiny(family)  # evaluation mode: one family has dropout
    assert takes_slices(model)
    router = {"router_loss": 0.1} if "moe" in family else {}
    expected, found = plain(model, router=router.get("router_loss", 0.0)), sliced(model, **router)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)
    # the output layer does its own work again
    assert model(input_ids=IDS).logits.shape == (3, 32, 64)


def test_in_bf16_they_are_as_near_to_fp32_as_those_of_all_logits_at_once():
    model = make_tiny("llama").train()
    exact, whole, found = plain(model), plain(model, bf16=True), sliced(model, bf16=True)
    assert found[0] == pytest.approx(exact[0], abs=0.01)

    def off(gradients):
        return sum((gradients[name] - exact[1][name]).square().sum().item() for name in gradients) ** 0.5

    assert all(gradient.dtype == torch.float32 for gradient in found[1].values())
    assert 0 < off(found[1]) < 1.5 * off(whole[1])


def test_an_output_layer_that_does_not_train_gets_no_gradient():
    model = make_tiny("llama").train()
    expected = plain(model)[1]
    model.lm_head.weight.requires_grad_(False)
    found = sliced(model)[1]
    assert found.keys() == expected.keys() - {"lm_head.weight"}
    torch.testing.assert_close(found["model.norm.weight"], expected["model.norm.weight"], rtol=1e-3, atol=1e-5)


def test_another_output_layer_gives_its_logits():
    model = make_tiny("llama").train()
    model.lm_head = nn.Linear(32, 64, bias=True)
    assert not takes_slices(model)
    expected, found = plain(model), sliced(model)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    torch.testing.assert_close(found[1]["lm_head.bias"], expected[1]["lm_head.bias"])
