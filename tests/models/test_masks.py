"""N:M masks: rebuilt from zeros, kept through optimizer steps, proven."""

import pytest
import torch
from tiny_models import make, tokens

from regrow.errors import InputError, RunFailed
from regrow.models import apply_masks, check_pattern, violations, zero_masks
from regrow.models.layout import block_weights
from regrow.models.masks import Zeros, find_zeros


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


def _sparsify(model, n, m, *, matrices=None):
    with torch.no_grad():
        for weight in list(block_weights(model).values())[:matrices]:
            groups = weight.unflatten(-1, (-1, m))
            order = torch.rand(groups.shape, generator=torch.Generator().manual_seed(n)).argsort(-1)
            groups.scatter_(-1, order[..., n:], 0.0)
    return model


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (1, 2), (3, 8), (7, 16), (15, 16)])
def test_a_pattern_is_found_in_the_weights(n, m):
    found = find_zeros(_sparsify(make("llama-tied"), n, m))
    assert found == Zeros(share=pytest.approx(1 - n / m), pattern=(n, m), matrices=28, patterned=28)


def test_zeros_in_no_pattern_and_in_some_matrices_only():
    model = make("llama-tied")
    assert find_zeros(model) == Zeros(share=0, pattern=None, matrices=28, patterned=0)
    part = find_zeros(_sparsify(model, 2, 4, matrices=10))
    assert (part.pattern, part.patterned) == (None, 10)
    assert 0 < part.share < 0.5
    scattered = make("llama-tied")
    with torch.no_grad():
        for weight in block_weights(scattered).values():
            weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.5] = 0
    found = find_zeros(scattered)
    assert (found.pattern, found.patterned) == (None, 0)
    assert found.share == pytest.approx(0.5, abs=0.02)
