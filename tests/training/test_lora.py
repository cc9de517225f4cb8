"""Adapters: what trains, what a merge gives, zeros kept, resume to the bit."""

from functools import partial

import pytest
import torch

from regrow.models.load import load_model
from regrow.models.masks import MaskKeeper, violations, zero_masks
from regrow.training import TrainSpec
from regrow.training.lora import add_adapters, merge, merged
from regrow.training.post_train import post_train

SPEC = TrainSpec(
    tokens=3072,
    batch_tokens=512,
    sequence_length=64,
    learning_rate=1e-2,
    held_out_blocks=8,
    eval_at=(1536,),
    lora_rank=4,
)


def losses(run):
    return [(p.tokens, p.loss, p.train_loss) for p in run.curve]


def _adapted(folder):
    """A model with adapters that do something."""
    model = add_adapters(load_model(folder, dtype=torch.float32), SPEC)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    return model.eval()


def test_a_merge_computes_what_the_adapters_did(tiny_model):
    model, ids = _adapted(tiny_model), torch.arange(2, 40)[None]
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 3 * 7 * 2
    with torch.no_grad():
        adapted = model(input_ids=ids).logits
        plain = merge(model, MaskKeeper(model, {}))
        torch.testing.assert_close(plain(input_ids=ids).logits, adapted, atol=1e-5, rtol=1e-5)
    assert {name for name, _ in plain.named_parameters()} == {n for n, _ in load_model(tiny_model).named_parameters()}
    assert all(p.requires_grad for p in plain.parameters())


def test_a_merge_for_reading_is_taken_back_to_the_bit_and_keeps_zeros(sparse_model):
    masks = zero_masks(load_model(sparse_model))
    model = _adapted(sparse_model)
    before = [p.detach().clone() for p in model.parameters()]
    keeper, ids = MaskKeeper(model, masks), torch.arange(2, 40)[None]
    assert not keeper.violations()
    with merged(model, keeper), torch.no_grad():
        assert not keeper.violations()
        inside = model(input_ids=ids).logits
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    plain = merge(model, keeper)
    assert not violations(plain, masks)
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, inside)


def test_a_masked_run_with_adapters_ends_sparse_and_says_what_that_cost(sparse_model, text, tmp_path, dying):
    ask = {"data": str(text), "spec": SPEC, "resume": True}
    run = post_train(str(sparse_model), out=tmp_path / "run", **ask)
    saved, masks = load_model(tmp_path / "run" / "model"), zero_masks(load_model(sparse_model))
    assert not violations(saved, masks)
    assert run.curve[-1].loss < run.curve[0].loss
    # the curve is of the model that the run leaves, not of the dense one that trained
    assert run.details["lora_loss_merged"] == pytest.approx(run.curve[-1].loss, abs=1e-6)
    cost = run.details["lora_loss_merged"] - run.details["lora_loss_adapted"]
    assert run.details["lora_masking_cost"] == pytest.approx(cost)
    assert cost > 0.001
    again = dying(partial(post_train, str(sparse_model), out=tmp_path / "again", **ask), 2048)
    assert losses(again) == losses(run)
