"""The held-out loss against plain forward passes."""

import math

import numpy as np
import pytest
import torch

from regrow.data import pack
from regrow.errors import InputError
from regrow.evaluation import evaluate
from regrow.models import outputs
from regrow.models.load import load_model


def blocks(vocab: int = 2048, length: int = 16):
    rng = np.random.default_rng(0)
    return pack([rng.integers(1, vocab, 90).tolist() for _ in range(3)], eos=0, sequence_length=length)


def test_equals_a_forward_pass_per_block(tiny_model):
    model = load_model(tiny_model, dtype=torch.float32)
    held_out = blocks()
    total = 0.0
    for row in held_out.tokens:
        ids = torch.tensor(row[None].tolist())
        log_p = torch.log_softmax(model(input_ids=ids).logits[0].double(), dim=-1)
        total -= sum(log_p[i, ids[0, i + 1]].item() for i in range(len(row) - 1))
    found = evaluate(model, held_out, batch_size=4)
    assert found.tokens == len(held_out) * 15
    assert found.loss == pytest.approx(total / found.tokens, rel=1e-6)


def test_equals_transformers_own_loss(tiny_model):
    model = load_model(tiny_model, dtype=torch.float32)
    held_out = blocks()
    ids = torch.from_numpy(held_out.tokens).long()
    assert evaluate(model, held_out).loss == pytest.approx(model(input_ids=ids, labels=ids).loss.item(), rel=1e-6)


def test_a_uniform_model_has_the_loss_of_a_guess(tiny_model):
    model = load_model(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    assert evaluate(model, blocks()).loss == pytest.approx(math.log(2048), rel=1e-6)


def test_batch_size_does_not_matter_and_the_mode_is_kept(tiny_model):
    model = load_model(tiny_model, dtype=torch.float32).train()
    one, many = evaluate(model, blocks(), batch_size=1), evaluate(model, blocks(), batch_size=64)
    assert one.loss == pytest.approx(many.loss, rel=1e-6)
    assert model.training


def test_logits_are_made_in_slices_and_the_output_layer_is_left_as_it_was(tiny_model, monkeypatch):
    model = load_model(tiny_model, dtype=torch.float32)
    whole = evaluate(model, blocks())
    head, rows = model.get_output_embeddings(), []
    head.register_forward_hook(lambda module, inputs, output: rows.append(output.shape))
    own = head.forward
    widths = []

    def watched(hidden):
        widths.append(len(hidden))
        return own(hidden)

    head.forward = watched
    monkeypatch.setattr(outputs, "CPU_LOGITS", 2048 * 7)
    monkeypatch.setattr(outputs, "LEAST_ROWS", 1)
    assert evaluate(model, blocks(), batch_size=4).loss == pytest.approx(whole.loss, rel=1e-6)
    assert max(widths) == 7
    # what the model gives meanwhile are losses [blocks, length - 1], never logits [blocks, length, vocabulary]
    assert set(rows) == {(4, 15)} | ({(len(blocks()) % 4, 15)} if len(blocks()) % 4 else set())
    assert head.forward is watched
    assert model(input_ids=torch.zeros(1, 5, dtype=torch.long)).logits.shape == (1, 5, 2048)


def test_a_foreign_tokenizer_is_refused(tiny_model):
    with pytest.raises(InputError, match="outside the model's 2048 entries"):
        evaluate(load_model(tiny_model), blocks(vocab=5000))
