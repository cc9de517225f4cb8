"""Least squares against textbook solutions, and against the models they make."""

from dataclasses import replace

import pytest
import torch
from tiny_models import FAMILIES, make, tokens

from regrow.errors import InputError, RunFailed
from regrow.models.layout import block_name
from regrow.pruning import PruneSpec, calibrate, prune_model
from regrow.pruning.refit import DAMPINGS, SKETCHED, choose_damping, refit, solve
from regrow.pruning.stream import open_stream


def problem(samples=50, width=12, outputs=7):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, width, generator=generator, dtype=torch.float64)
    return inputs, torch.randn(outputs, width, generator=generator, dtype=torch.float64)


def test_without_damping_it_is_the_least_squares_solution():
    inputs, weight = problem()
    kept = [0, 3, 4, 8, 11]
    direct = torch.linalg.lstsq(inputs[:, kept], inputs @ weight.T).solution.T
    torch.testing.assert_close(solve(weight, inputs.T @ inputs, kept, damping=0), direct)


def test_damping_is_ridge_towards_the_dense_weights():
    inputs, weight = problem()
    kept, gram = [1, 2, 7], inputs.T @ inputs
    strength = 0.3 * gram.diagonal().mean()
    # the same problem with the damping as more rows of data
    rows = torch.cat([inputs[:, kept], strength.sqrt() * torch.eye(3, dtype=torch.float64)])
    targets = torch.cat([inputs @ weight.T, strength.sqrt() * weight[:, kept].T])
    direct = torch.linalg.lstsq(rows, targets).solution.T
    torch.testing.assert_close(solve(weight, gram, kept, damping=0.3), direct)
    assert torch.equal(solve(weight, torch.zeros(12, 12), kept), weight[:, kept])


@pytest.mark.parametrize(("samples", "least"), [(14, 0.1), (2000, 0)])
def test_the_damping_is_what_predicts_other_text_best(samples, least):
    """Little text asks for more damping, and what is chosen is what cross-validation by hand chooses."""
    generator = torch.Generator().manual_seed(3)
    shared = torch.randn(samples, 4, generator=generator, dtype=torch.float64)
    mix = torch.randn(4, 12, generator=generator, dtype=torch.float64)
    inputs = shared @ mix + torch.randn(samples, 12, generator=generator, dtype=torch.float64)
    weight, kept = problem()[1], [0, 2, 3, 5, 8, 9, 11]
    halves = inputs.tensor_split(2)
    errors = {}
    for damping in DAMPINGS:
        errors[damping] = 0.0
        for seen, unseen in (halves, halves[::-1]):
            solved = solve(weight, seen.T @ seen / len(seen), kept, damping=damping)
            missed = unseen @ weight.T - unseen[:, kept] @ solved.T
            errors[damping] += float(missed.square().mean())
    chosen = choose_damping(weight, *(half.T @ half / len(half) for half in halves), kept)
    assert chosen == min(errors, key=errors.get)
    assert chosen >= least
    assert chosen < 1 or samples < 20


def test_one_sample_is_held_near_its_weights_and_a_hopeless_damping_is_not_chosen():
    model, ids = make("llama-tied"), tokens(1, 24)
    spec = PruneSpec(method="width", shape={"intermediate": 30}, scorer="least-squares")
    solved, _ = prune_model(model, spec, ids)
    cut, _ = prune_model(model, replace(spec, scorer="activation"), ids)
    new, old = (each.model.layers[0].mlp.down_proj.weight for each in (solved, cut))
    assert 0 < (new - old).norm() < 0.5 * old.norm()
    weight = problem()[1]
    assert choose_damping(weight, *torch.zeros(2, 12, 12).double(), [1, 2], dampings=(0.0, 0.1)) == 0.1


def test_keeping_every_neuron_changes_nothing():
    inputs, weight = problem()
    torch.testing.assert_close(solve(weight, inputs.T @ inputs, range(12)), weight)


def test_what_cannot_be_solved_is_said():
    _, weight = problem()
    with pytest.raises(RunFailed, match="not finite"):
        solve(weight, torch.full((12, 12), torch.nan), [1])
    with pytest.raises(RunFailed, match="no unique solution"):
        solve(weight, torch.zeros(12, 12), [1], damping=0)


def outputs_of(model, ids):
    """What every block's feed-forward layer gives on these tokens, [tokens, hidden] each."""
    seen = []
    for block in model.model.layers:
        block.mlp.register_forward_hook(lambda module, args, output: seen.append(output.flatten(0, 1)))
    with torch.no_grad():
        model(input_ids=ids)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_block_is_nearer_to_the_dense_one(family):
    """Its inputs are the dense model's, so the dense outputs are the target: least squares cannot do worse."""
    model, ids = make(family), tokens(8, 24)
    spec = PruneSpec(method="width", shape={"intermediate": 30}, scorer="least-squares")
    solved, plan = prune_model(model, spec, ids)
    cut, same = prune_model(model, replace(spec, scorer="activation"), ids)
    assert same.kept_intermediate == plan.kept_intermediate
    dense = outputs_of(model, ids)[0]
    error, plain = ((outputs_of(other, ids)[0] - dense).square().mean() for other in (solved, cut))
    assert error < 0.97 * plain


def test_later_blocks_are_solved_on_what_the_pruned_ones_give():
    model, ids = make("llama-tied"), tokens(8, 24)
    spec = PruneSpec(method="width", rate=0.3, scorer="least-squares")
    solved, plan = prune_model(model, spec, ids)
    assert plan.after.hidden < plan.before.hidden
    # block 1's inputs in the pruned model, through the dense neurons of its kept channels
    seen = {}
    solved.model.layers[1].post_attention_layernorm.register_forward_hook(
        lambda module, args, output: seen.update(x=output.flatten(0, 1))
    )
    with torch.no_grad():
        solved(input_ids=ids)
        mlp, channels = model.model.layers[1].mlp, list(plan.kept_hidden)
        gate, up = (linear.weight[:, channels] for linear in (mlp.gate_proj, mlp.up_proj))
        neurons = torch.nn.functional.silu(seen["x"] @ gate.T) * (seen["x"] @ up.T)
    halves = [half.T @ half / len(half) for half in neurons.tensor_split(2)]
    dense, kept = mlp.down_proj.weight[channels], plan.kept_intermediate[1]
    damping = choose_damping(dense, *halves, kept)
    direct = solve(dense, sum(halves) / 2, kept, damping=damping / 2)
    torch.testing.assert_close(
        solved.model.layers[1].mlp.down_proj.weight.double(), direct.double(), rtol=1e-3, atol=1e-4
    )
    names = [name for part in refit(open_stream(model), plan, ids) for name in part]
    assert names == [block_name(layer, "mlp.down_proj.weight") for layer in range(4)]


def test_text_is_needed_even_with_scores():
    model, ids = make("llama-tied"), tokens(8, 24)
    spec = PruneSpec(method="width", rate=0.3, scorer="least-squares")
    scores = calibrate(model, ids)
    with pytest.raises(InputError, match="least squares need calibration text"):
        prune_model(model, spec, None, scores=scores)
    assert prune_model(model, spec, ids, scores=scores)[1] == prune_model(model, spec, ids)[1]


@pytest.mark.parametrize("gone", [3, 40])
def test_few_and_many_neurons_that_go_are_solved_alike(gone):
    """Fewer than the outputs are solved for by themselves; the weights are those of the normal equations."""
    inputs, weight = problem(samples=200, width=60, outputs=7)
    kept, gram = list(range(gone, 60)), inputs.T @ inputs
    strength = 0.2 * gram.diagonal().mean()
    right = weight @ gram[:, kept] + strength * weight[:, kept]
    direct = right @ torch.linalg.inv(gram[kept][:, kept] + strength * torch.eye(60 - gone, dtype=torch.float64))
    torch.testing.assert_close(solve(weight, gram, kept, damping=0.2), direct)


@pytest.mark.parametrize("gone", [3, 40])
def test_the_search_for_a_damping_finds_the_least_error_of_all(gone):
    generator = torch.Generator().manual_seed(1)
    found = set()
    for samples in (24, 70, 200, 4000):
        shared, mix = (torch.randn(*shape, generator=generator).double() for shape in ((samples, 4), (4, 60)))
        inputs = shared @ mix + torch.randn(samples, 60, generator=generator)
        weight, kept = problem(width=60)[1], list(range(gone, 60))
        halves = [half.T @ half / len(half) for half in inputs.tensor_split(2)]
        errors = []
        for damping in DAMPINGS:
            errors.append(0.0)
            for seen, unseen in (halves, halves[::-1]):
                change = weight.clone()
                change[:, kept] -= solve(weight, seen, kept, damping=damping)
                errors[-1] += float((change @ unseen * change).sum())
        chosen = choose_damping(weight, *halves, kept)
        assert errors[DAMPINGS.index(chosen)] == min(errors)
        found.add(chosen)
    assert len(found) > 1


def test_many_outputs_are_compared_by_sums_of_them():
    """The damping that the sums choose is that of all outputs, or one that errs hardly more."""
    generator = torch.Generator().manual_seed(2)
    for samples in (40, 100, 3000):
        shared, mix = (torch.randn(*shape, generator=generator).double() for shape in ((samples, 4), (4, 60)))
        inputs = shared @ mix + torch.randn(samples, 60, generator=generator)
        weight, kept = problem(width=60, outputs=5 * SKETCHED)[1], list(range(20, 60))
        halves = [half.T @ half / len(half) for half in inputs.tensor_split(2)]
        errors = []
        for damping in DAMPINGS:
            errors.append(0.0)
            for seen, unseen in (halves, halves[::-1]):
                change = weight.clone()
                change[:, kept] -= solve(weight, seen, kept, damping=damping)
                errors[-1] += float((change @ unseen * change).sum())
        chosen = choose_damping(weight, *halves, kept)
        assert errors[DAMPINGS.index(chosen)] < 1.01 * min(errors)
        assert max(errors) > 1.1 * min(errors)
