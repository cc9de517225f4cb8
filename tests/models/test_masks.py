"""N:M masks: rebuilt from zeros, kept through optimizer steps, proven."""

import pytest
import torch
from tiny_models import make, tokens

from regrow.errors import InputError, RunFailed
from regrow.models import apply_masks, check_pattern, violations, zero_masks
from regrow.models.layout import block_weights


def _half_sparse():
    model = make("llama-tied")
    with torch.no_grad():
        for weight in block_weights(model).values():
            weight.unflatten(-1, (-1, 4))[..., :2] = 0
    return model


def test_check_pattern():
    assert check_pattern(torch.tensor([[1.0, 0, 0, 2], [0, 0, 0, 3]]), 2, 4)
    assert not check_pattern(torch.tensor([[1.0, 0, 3, 2]]), 2, 4)
    assert not check_pattern(torch.zeros(1, 6), 2, 4)
    assert check_pattern(torch.tensor([[1.0, 2, 0, 0, 3, 4, 0, 0]]), 4, 8)


def test_masks_come_back_from_zeros_and_survive_an_optimizer_step():
    model = _half_sparse()
    masks = zero_masks(model, n=2, m=4)
    assert len(masks) == 4 * 7
    assert not violations(model, masks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    ids = tokens()
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        assert violations(model, masks), "the step should have filled zeros"
        apply_masks(model, masks)
        assert not violations(model, masks)
    assert all(torch.equal(a, masks[name]) for name, a in zero_masks(model, n=2, m=4).items())


def test_masks_name_a_wrapped_models_matrices_plainly():
    model = _half_sparse()
    wrapped = torch.nn.Module()
    wrapped.module = model
    assert zero_masks(wrapped).keys() == zero_masks(model).keys()


def test_a_dense_model_has_no_n_m_masks():
    with pytest.raises(InputError, match="28 matrices are not 2:4 sparse"):
        zero_masks(make("llama-tied"), n=2, m=4)


def test_a_mask_without_its_matrix_stops_the_run():
    model = _half_sparse()
    masks = zero_masks(model)
    with pytest.raises(RunFailed, match="no matrix"):
        apply_masks(model, {"model.layers.9.mlp.up_proj.weight": next(iter(masks.values()))})


def test_nan_is_not_hidden_by_a_mask():
    model = _half_sparse()
    masks = zero_masks(model)
    weight = model.model.layers[0].mlp.up_proj.weight
    with torch.no_grad():
        weight[0, 0] = torch.nan
    apply_masks(model, masks)
    assert weight[0, 0].isnan()
