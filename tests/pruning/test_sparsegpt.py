"""SparseGPT against the textbook: one weight at a time, with the inverse Hessian of what is left made anew."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from regrow.errors import RunFailed
from regrow.pruning import sparsegpt as module
from regrow.pruning.sparsegpt import DAMPING, Hessian, factor, sparsegpt


def layer(out=5, width=16, tokens=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    inputs = torch.randn(tokens, width, generator=generator) @ mixing
    return torch.randn(out, width, generator=generator), inputs


def hessian_of(inputs):
    hessian = Hessian(inputs.shape[1], inputs.device)
    for batch in inputs.split(7):
        hessian.add(batch)
    return hessian.matrix()


def remove(row, inverse, index):
    """Optimal Brain Surgeon: weight `index` goes, the others make up for it (Hassibi and Stork 1992, equation 5)."""
    error = row[index] ** 2 / inverse[index, index]
    return row - row[index] / inverse[index, index] * inverse[:, index], error


def textbook(weight, hessian, n, m):
    """Row by row and group by group, in float64: what each weight of a group would cost ranks it, then they go."""
    width = weight.shape[1]
    # the groups with the largest inputs are settled first
    size = hessian.diagonal().tolist()
    starts = sorted(range(0, width, m), key=lambda start: -sum(size[start : start + m]))
    order = [start + place for start in starts for place in range(m)]
    weight, hessian = weight[:, order], hessian.double()[order][:, order]
    damped = hessian + DAMPING * hessian.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    # what may still change when a weight goes: itself and those after it
    inverses = [torch.linalg.inv(damped[index:, index:]) for index in range(width)]
    result = weight.double().clone()
    for row in result:
        for start in range(0, width, m):
            group = range(start, start + m)
            cost = {index: remove(row[index:], inverses[index], 0)[1].item() for index in group}
            for index in sorted(sorted(group, key=cost.__getitem__)[: m - n]):
                row[index:], _ = remove(row[index:], inverses[index], 0)
                row[index] = 0
    return result[:, sorted(range(width), key=order.__getitem__)]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (1, 2), (4, 8)])
@pytest.mark.parametrize("columns", [128, 8])
def test_it_is_the_textbook(n, m, columns, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_COLUMNS", columns)
    weight, inputs = layer()
    hessian = 2 * inputs.T @ inputs / len(inputs)
    torch.testing.assert_close(hessian_of(inputs), hessian)
    pruned = sparsegpt(weight, factor(hessian_of(inputs), m), n, m)
    torch.testing.assert_close(pruned.double(), textbook(weight, hessian, n, m), rtol=1e-3, atol=1e-4)
    assert ((pruned != 0).unflatten(1, (-1, m)).sum(-1) == n).all()


def test_it_beats_zeroing_alone():
    weight, inputs = layer(out=32, width=64, tokens=500)
    pruned = sparsegpt(weight, factor(hessian_of(inputs), 4), 2, 4)
    zeroed = weight * (pruned != 0)
    error = (inputs @ (pruned - weight).T).square().sum()
    assert error < 0.7 * (inputs @ (zeroed - weight).T).square().sum()


def test_the_largest_inputs_first_leave_less_error_than_the_order_of_the_columns():
    errors = []
    for seed in range(20):
        weight, inputs = layer(out=16, width=32, tokens=200, seed=seed)
        inputs *= torch.logspace(0, 1, 32)  # the largest come last
        # one group as wide as the layer is the order of the columns
        pruned = [sparsegpt(weight, factor(hessian_of(inputs), m), 2, 4) for m in (4, 32)]
        errors.append([(inputs @ (one - weight).T).square().sum().item() for one in pruned])
    ordered, plain = zip(*errors, strict=True)
    assert sum(a < b for a, b in zip(ordered, plain, strict=True)) >= 18
    assert sum(ordered) < 0.9 * sum(plain)


def test_groups_of_equal_inputs_keep_their_order():
    assert factor(2 * torch.eye(16), 4).order.tolist() == list(range(16))
    hessian = torch.diag(torch.tensor([1.0, 1, 3, 0, 0, 3, 1, 9]))
    assert factor(hessian, 2).order.tolist() == [6, 7, 2, 3, 4, 5, 0, 1]


def test_white_inputs_make_it_magnitude():
    weight, _ = layer()
    pruned = sparsegpt(weight, factor(2 * torch.eye(16), 4), 2, 4)
    kept = weight.abs().unflatten(1, (-1, 4)).topk(2).indices.sort().values
    assert torch.equal((pruned != 0).unflatten(1, (-1, 4)).nonzero()[:, 2].reshape(kept.shape), kept)
    assert torch.equal(pruned[pruned != 0], weight[pruned != 0])


def test_the_factor_is_that_of_the_damped_hessian_in_reverse_order():
    _, inputs = layer(tokens=200)
    hessian = hessian_of(inputs)
    damped = hessian + DAMPING * hessian.diagonal().mean() * torch.eye(16)
    factored = factor(hessian.clone(), 4)
    backwards = factored.order.flip(0)
    assert sorted(backwards.tolist()) == list(range(16))
    torch.testing.assert_close(factored.lower @ factored.lower.T, damped[backwards][:, backwards])
    assert torch.equal(factored.lower, factored.lower.tril())
    assert factored.damping == DAMPING


def test_damping_is_raised_step_by_step_and_said():
    # no inputs make an indefinite Hessian, but rounding does: here one eigenvalue is negative
    direction = torch.nn.functional.normalize(torch.ones(8), dim=0)
    hessian = torch.eye(8) * 1.1875 - 1.5 * torch.outer(direction, direction)
    assert hessian.diagonal().mean() == pytest.approx(1.0)
    assert torch.linalg.eigvalsh(hessian).min() == pytest.approx(-0.3125)
    factored = factor(hessian.clone(), 8)
    assert factored.damping == pytest.approx(1.0)
    damped = (hessian + torch.eye(8)).flip(0, 1)  # one group: the order of the columns
    torch.testing.assert_close(factored.lower @ factored.lower.T, damped)


def test_a_singular_hessian_without_damping_is_raised_to_the_default():
    inputs = torch.ones(3, 4)  # rank one
    assert factor(hessian_of(inputs), 4, damping=0.0).damping == DAMPING


def test_what_damping_cannot_mend_is_said():
    with pytest.raises(RunFailed, match="cannot be factorised even with 100 times"):
        factor(torch.diag(torch.tensor([1e8, -1e8 + 1.0])), 2, where="here")
    broken = torch.eye(3)
    broken[1, 1] = torch.nan
    with pytest.raises(RunFailed, match="not finite"):
        factor(broken, 3)


def test_inputs_that_are_always_zero_lose_their_weights():
    weight, inputs = layer()
    inputs[:, [3, 4]] = 0
    factored = factor(hessian_of(inputs), 4)
    assert factored.dead.nonzero().flatten().tolist() == [3, 4]
    pruned = sparsegpt(weight, factored, 2, 4)
    assert (pruned[:, [3, 4]] == 0).all()
    assert ((pruned != 0).unflatten(1, (-1, 4)).sum(-1) == 2).all()


@pytest.mark.parametrize("width", [1, 3, 10, 64, 300])
def test_half_the_hessian_is_the_whole(width):
    inputs = torch.randn(50, width, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(hessian_of(inputs), 2 * inputs.T @ inputs / 50)


def test_no_negative_zeros():
    weight, inputs = layer(out=64)
    pruned = sparsegpt(weight, factor(hessian_of(inputs), 4), 2, 4)
    assert not torch.signbit(pruned[pruned == 0]).any()


class Transfers(TorchDispatchMode):
    """Counts the numbers that come to the host, each of which waits for an accelerator."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        assert func is not torch.ops.aten.nonzero.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("silent", [[], [3, 4]])
def test_columns_are_settled_without_waiting_for_the_device(silent):
    weight, inputs = layer(width=64)
    inputs[:, silent] = 0
    with Transfers() as factorising:
        factored = factor(hessian_of(inputs), 4)
    assert factored.dead_inputs == len(silent)
    assert factorising.count <= 4  # whether it is finite, dead inputs, their mean, and whether there is a factor
    with Transfers() as settling:
        sparsegpt(weight, factored, 2, 4)
    assert settling.count == 0
