"""Losses against their definitions, whole and in chunks; the meter of training losses."""

import pytest
import torch

from regrow.training import objective
from regrow.training.objective import LossMeter, distillation_loss, next_token_loss


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
