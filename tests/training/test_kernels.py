"""What a spec asks of the hardware: had, or refused in one line; recomputed activations change no number."""

import pytest
import torch

from regrow.errors import InputError
from regrow.models.load import load_model
from regrow.training import TrainSpec
from regrow.training.kernels import set_kernels
from regrow.training.objective import next_token_loss


@pytest.mark.skipif(torch.cuda.is_available(), reason="about a machine without a GPU")
@pytest.mark.parametrize(
    ("asks", "says"),
    [
        ({"attention": "flash"}, "flash attention needs an NVIDIA GPU"),
        ({"liger": True}, "Liger's"),
        ({"compile": True}, r"torch.compile needs a C\+\+ compiler"),
    ],
)
def test_what_is_not_there_is_said(tiny_model, monkeypatch, asks, says):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=says) as error:
        set_kernels(load_model(tiny_model), TrainSpec(tokens=1, **asks), precision="fp32")
    assert "\n" not in str(error.value)


def test_recomputed_activations_and_another_attention_give_the_same_gradients(tiny_model):
    ids, found = torch.arange(2, 50)[None], []
    for asks in ({}, {"gradient_checkpointing": True}, {"attention": "eager"}):
        model = load_model(tiny_model, dtype=torch.float32).train()
        set_kernels(model, TrainSpec(tokens=1, **asks), precision="fp32")
        loss = next_token_loss(model(input_ids=ids, use_cache=False).logits, ids)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    assert model.config._attn_implementation == "eager"
    for other in found[1:]:
        for ours, theirs in zip(other, found[0], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
