"""Depth scores against the whole model, run by transformers with blocks really taken out."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_models import FAMILIES, logits, make, tokens
from torch.nn import functional as F

from regrow.errors import InputError, RunFailed
from regrow.models import architecture_of
from regrow.pruning import PruneSpec, calibrate, outline, prune_model, removal, scoring
from regrow.pruning.estimate import estimate_for
from regrow.pruning.prune import apply_plan
from regrow.pruning.removal import (
    angular_distances,
    block_influences,
    removal_losses,
    removal_samples,
)
from regrow.pruning.scores import DepthScores, contiguous, load_scores
from regrow.pruning.stream import open_stream


def without(model, gone):
    """The model with some blocks gone."""
    before = architecture_of(model)
    plan = outline(before, PruneSpec(method="depth", shape={"layers": before.layers - 1}))
    after = before.with_shape(layers=before.layers - len(gone))
    return apply_plan(model, replace(plan, after=after, dropped_layers=tuple(sorted(gone)))) if gone else model


def measured(model, ids, *, layers, **asked):
    """The scores of a depth spec that leaves `layers` of the model's blocks."""
    spec = PruneSpec(method="depth", shape={"layers": layers}, **asked)
    return scoring.measure(model, spec, outline(architecture_of(model), spec), ids)


def loss_of(model, ids):
    return F.cross_entropy(logits(model, ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_those_of_models_without_the_block(family):
    model, ids = make(family), tokens(3, 20)
    losses, whole = removal_losses(open_stream(model), ids)
    assert whole == pytest.approx(loss_of(model, ids), abs=1e-4)
    for layer, loss in enumerate(losses.tolist()):
        assert loss == pytest.approx(loss_of(without(model, [layer]), ids), abs=1e-4)
    losses, whole = removal_losses(open_stream(model), ids, without=[1])
    assert whole == pytest.approx(loss_of(without(model, [1]), ids), abs=1e-4)
    assert losses[1] == math.inf
    assert losses[3].item() == pytest.approx(loss_of(without(model, [1, 3]), ids), abs=1e-4)


def test_angles_are_those_of_the_hidden_states():
    model, ids = make("qwen3"), tokens(5, 12)
    distances = angular_distances(open_stream(model), ids)
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
    for first in range(4):
        for second in range(4):
            a, b = states[first][:, -1].double(), states[second][:, -1].double()
            cosine = (a * b).sum(-1) / a.norm(dim=-1) / b.norm(dim=-1)
            direct = sum(math.acos(min(1, value)) / math.pi for value in cosine.tolist()) / 5
            assert distances[first, second].item() == pytest.approx(direct, abs=1e-5)
    assert distances.shape == (5, 5)
    assert ((distances >= 0) & (distances <= 1)).all()


def test_a_contiguous_run_is_the_best_of_all_runs():
    distances = torch.rand(9, 9, generator=torch.Generator().manual_seed(0))
    for count in range(1, 9):
        best = min(range(9 - count), key=lambda start: distances[start, start + count])
        assert contiguous(distances, count) == tuple(range(best, best + count))


@pytest.mark.parametrize("family", ["llama-tied", "qwen2"])
def test_block_influence_is_that_of_the_calibration_pass(family):
    model, ids = make(family), tokens(3, 20)
    torch.testing.assert_close(block_influences(open_stream(model), ids), calibrate(model, ids).block_influence)
    fewer = block_influences(open_stream(model), ids, without=[2])
    assert fewer[2] == math.inf
    torch.testing.assert_close(fewer[[0, 1, 3]], calibrate(without(model, [2]), ids).block_influence)


@pytest.mark.parametrize("scorer", ["block-influence", "perplexity"])
def test_iterative_is_pruning_one_block_at_a_time(scorer):
    model, ids = make("llama-tied"), tokens(3, 20)
    spec = PruneSpec(method="depth", shape={"layers": 1}, scorer=scorer, iterative=True)
    _, plan = prune_model(model, spec, ids)
    by_hand, left = model, list(range(4))
    for count in (3, 2, 1):
        one = PruneSpec(method="depth", shape={"layers": count}, scorer=scorer)
        by_hand, step = prune_model(by_hand, one, ids)
        del left[step.dropped_layers[0]]
    assert plan.dropped_layers == tuple(layer for layer in range(4) if layer not in left)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scorer", ["perplexity", "angular"])
def test_models_pruned_by_each_scorer_generate_with_their_cache(family, scorer):
    model, ids = make(family), tokens(2, 20)
    pruned, plan = prune_model(model, PruneSpec(method="depth", shape={"layers": 2}, scorer=scorer), ids)
    first, second = plan.dropped_layers
    assert scorer == "perplexity" or second == first + 1
    generated = [
        pruned.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, use_cache=cache)
        for cache in (True, False)
    ]
    assert torch.equal(*generated)


def test_scores_serve_many_rates_and_only_their_scorer(tmp_path):
    model, ids = make("llama-tied"), tokens(3, 20)
    spec = PruneSpec(method="depth", shape={"layers": 2}, scorer="perplexity")
    _, plan = prune_model(model, spec, ids)
    losses, whole = removal_losses(open_stream(model), ids)
    scores = DepthScores(
        scorer="perplexity", iterative=False, values=losses, loss=whole, tokens=60, fingerprint=fingerprint(model)
    )
    scores.save(tmp_path / "scores")
    again = load_scores(tmp_path / "scores")
    assert (again.loss, again.tokens, again.iterative) == (whole, 60, False)
    assert prune_model(model, spec, None, scores=again)[1] == plan
    for layers in (1, 3):
        prune_model(model, replace(spec, shape={"layers": layers}), None, scores=again)
    for wrong in (replace(spec, scorer="angular"), replace(spec, iterative=True), PruneSpec(method="width", rate=0.2)):
        with pytest.raises(InputError, match="the scores hold perplexity"):
            prune_model(model, wrong, None, scores=again)
    with pytest.raises(InputError, match="the scores hold activation norms"):
        prune_model(model, spec, None, scores=calibrate(model, ids))
    with pytest.raises(InputError, match="another model"):
        prune_model(make("llama-tied", seed=1), spec, None, scores=again)


@pytest.mark.parametrize("samples", [1, 2, 6])
def test_an_order_is_as_long_as_asked_whatever_the_text(samples):
    scores = measured(make("llama-tied"), tokens(samples, 20), scorer="perplexity", layers=1, iterative=True)
    assert sorted(scores.values.tolist()) == [0, 1, 2, math.inf]


def test_an_order_that_is_too_short_says_so():
    order = torch.tensor([math.inf, 0, 1, math.inf])
    scores = DepthScores(scorer="perplexity", iterative=True, values=order, loss=None, tokens=1, fingerprint="x")
    assert scores.dropped(2) == (1, 2)
    with pytest.raises(InputError, match="order 2 blocks, 3 are to go"):
        scores.dropped(3)


def test_tokens_are_capped(monkeypatch):
    arch = architecture_of(make("llama-tied"))
    assert removal_samples(arch, 512) == 8
    monkeypatch.setattr(removal, "REMOVAL_BYTES", 4 * arch.hidden * (arch.layers + 1) * 1024)
    assert removal_samples(arch, 512) == 2
    # one sample is the least that can be measured
    assert removal_samples(arch, 5000) == 1


def test_broken_weights_are_noticed():
    model = make("llama-tied")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    for measure in (removal_losses, angular_distances, block_influences):
        with pytest.raises(RunFailed, match="not finite"):
            measure(open_stream(model), tokens())


def fingerprint(model):
    from regrow.pruning.calibration import weights_fingerprint

    return weights_fingerprint(model)


def test_capped_samples_are_spread_over_the_text(monkeypatch):
    model, ids = make("llama-tied"), tokens(9, 20)
    monkeypatch.setattr(removal, "REMOVAL_TOKENS", 60)
    scores = measured(model, ids, scorer="perplexity", layers=3)
    losses, whole = removal_losses(open_stream(model), ids[[0, 4, 8]])
    assert torch.equal(scores.values, losses)
    assert (scores.loss, scores.tokens) == (whole, 60)


def test_the_estimate_counts_the_logits_of_a_long_sample():
    arch = architecture_of(make("llama-tied"))
    search = PruneSpec(method="width", rate=0.2, search=3)
    short, long = (estimate_for(arch, search, samples=2, length=n).output_layer for n in (512, 4096))
    table = 2 * arch.vocab * arch.hidden
    # three of the logits' size at once, in float32; no more tokens at a time than 1024 or one sample
    assert short == table + 4 * arch.vocab * (arch.hidden + 3 * 1024)
    assert long == table + 4 * arch.vocab * (arch.hidden + 3 * 4096)


def test_the_estimate_counts_the_states_of_every_model():
    arch = architecture_of(make("llama-tied"))
    sizes = {
        name: estimate_for(arch, spec, samples=32, length=512).states
        for name, spec in {
            "one pass": PruneSpec(method="depth", rate=0.2),
            "iterative": PruneSpec(method="depth", rate=0.2, iterative=True),
            "perplexity": PruneSpec(method="depth", rate=0.2, scorer="perplexity"),
        }.items()
    }
    state = 4 * arch.hidden
    # perplexity takes 8 samples of 512, and holds a model without each of 4 blocks beside the whole one
    assert sizes == {"one pass": 32 * 512 * state, "iterative": 2 * 32 * 512 * state, "perplexity": 8 * 512 * 5 * state}


def test_the_estimate_counts_the_tokens_of_a_forward_pass():
    arch = architecture_of(make("llama-tied"))
    spec = PruneSpec(method="2:4", scorer="wanda")
    batch = {n: estimate_for(arch, spec, samples=8, length=512, at_once=n).batch for n in (256, 1024, 4096, 8192)}
    # no less than a sample, and no more than the text
    assert (batch[1024], batch[4096], batch[8192]) == (2 * batch[256], 8 * batch[256], 8 * batch[256])
