"""The arithmetic of a run: what was asked, or what the hardware is fast in."""

import pytest
import torch

from regrow.errors import InputError
from regrow.models.precision import has_fast_bf16
from regrow.training.precision import resolve_precision


@pytest.mark.parametrize("asked", ["bf16", "fp32"])
def test_what_is_asked_for_is_taken(asked):
    assert resolve_precision(asked, "cpu") == asked
    assert resolve_precision(asked, "cpu", recorded="bf16") == asked


@pytest.mark.parametrize(("able", "chosen"), [({"amx_bf16": True}, "bf16"), ({"avx2": True}, "fp32")])
def test_auto_follows_the_cpu(monkeypatch, able, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert has_fast_bf16("cpu") is (chosen == "bf16")
    assert resolve_precision("auto", "cpu") == chosen
    assert resolve_precision("auto", "cpu", recorded=chosen) == chosen


def test_a_run_does_not_change_its_arithmetic_half_way(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(InputError, match="begun in bf16, and this hardware would use fp32"):
        resolve_precision("auto", "cpu", recorded="bf16")
