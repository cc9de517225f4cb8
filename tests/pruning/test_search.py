"""The search over shapes: the losses are those of the pruned models, and the least wins."""

import json

import pytest
import torch
from tiny_models import FAMILIES, logits, make, tokens
from torch.nn import functional as F

from regrow.errors import InputError
from regrow.pruning import PrunePlan, PruneSpec, calibrate, prune_model
from regrow.pruning.outline import outline, outlines
from regrow.pruning.plan import spec_of
from regrow.pruning.prune import apply_plan
from regrow.pruning.scoring import decide
from regrow.pruning.search import search
from regrow.pruning.spec import AXES
from regrow.pruning.stream import open_stream

SPEC = PruneSpec(method="width", rate=0.4, axes=AXES, search=3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_of_the_pruned_models_is_taken(family):
    model, ids = make(family), tokens(3, 20)
    lines = []
    pruned, plan = prune_model(model, SPEC, ids, progress=lines.append)
    scores = calibrate(model, ids)
    losses = []
    for tried, outlined in zip(plan.candidates, outlines(plan.before, SPEC), strict=True):
        one = apply_plan(model, decide(outlined, scores))
        loss = F.cross_entropy(logits(one, ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()
        assert tried.loss == pytest.approx(loss, abs=1e-4)
        assert (tried.hidden, tried.intermediate) == (outlined.after.hidden, outlined.after.intermediate)
        assert abs(tried.pruning_rate - 0.4) <= 0.005
        losses.append(loss)
    assert len(losses) == 3
    best = plan.candidates[losses.index(min(losses))]
    assert (plan.after.hidden, plan.after.intermediate) == (best.hidden, best.intermediate)
    assert "shape 3 of 3" in lines[-1]
    assert torch.equal(logits(pruned, ids), logits(apply_plan(model, plan), ids))


def test_what_was_tried_is_in_the_plan():
    _, plan = prune_model(make("llama-tied"), SPEC, tokens())
    assert PrunePlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    # the same shape again, whatever it was chosen by
    again = spec_of(plan)
    assert outline(plan.before, again).after == plan.after
    assert again == PruneSpec(method="width", shape=dict(again.shape))


def test_a_search_needs_text_even_with_scores():
    model = make("llama-tied")
    with pytest.raises(InputError, match="a search needs calibration text"):
        prune_model(model, SPEC, None, scores=calibrate(model, tokens()))


def test_width_searches_unless_it_has_scores_alone():
    model, spec = make("llama-tied"), PruneSpec(method="width", rate=0.4)
    _, plan = prune_model(model, spec, tokens())
    assert len(plan.candidates) == len(outlines(plan.before, spec)) > 1
    lines = []
    _, by_rule = prune_model(model, spec, None, scores=calibrate(model, tokens()), progress=lines.append)
    assert by_rule.candidates is None
    assert "no text to compare shapes on: the rule's proportions are taken" in lines
    assert by_rule.after == outlines(plan.before, spec)[0].after


def test_shapes_are_compared_on_no_more_than_some_thousand_tokens(monkeypatch):
    model, ids = make("llama-tied"), tokens(6, 16)
    few = prune_model(model, SPEC, ids[:2])[1]
    monkeypatch.setattr("regrow.pruning.search.SEARCH_TOKENS", 40)
    many = search(
        open_stream(model),
        [decide(o, calibrate(model, ids[:2])) for o in outlines(few.before, SPEC)],
        ids,
        progress=print,
    )
    assert [tried.loss for tried in many.candidates] == [tried.loss for tried in few.candidates]
