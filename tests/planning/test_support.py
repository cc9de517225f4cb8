"""What the runs support: the same bound and verdict for every law."""

from dataclasses import replace

import pytest

from regrow.planning import Gain, PlanSpec, plan
from regrow.planning.notes import merged
from regrow.planning.support import MOST_TIMES_DESIGNED, MOST_TIMES_TOKENS, supported_tokens
from regrow.units import format_count


def ask(law, **changes):
    high = law.ranges["params_before"][1]
    given = {"params_before": high, "pruning_rate": law.ranges["pruning_rate"][1], "loss_before": 2.9}
    return plan(law, PlanSpec(**{**given, **changes}))


def gain_at(law, tokens: float) -> Gain:
    """The criterion that stops at these tokens: what the law itself says of their doubling."""
    x = {"params_before": law.ranges["params_before"][1], "pruning_rate": law.ranges["pruning_rate"][1]}
    once, twice = (law.predict(**x, loss_before=2.9, tokens=d).loss for d in (tokens, 2 * tokens))
    return Gain(min_gain=once - twice)


def test_less_than_the_first_reading_is_said_as_such(make_law) -> None:
    law = make_law()
    first = supported_tokens(law).first
    answer = ask(law, criterion=gain_at(law, first / 3))
    assert answer.tokens is None
    assert answer.loss is None
    assert answer.tokens_reason.startswith("less than")
    assert answer.verdict == "cannot say"
    assert "readings from the first tokens on" in answer.next_run
    assert ask(law, criterion=gain_at(law, first * 3)).tokens == pytest.approx(3 * first, rel=1e-6)


def test_beyond_the_longest_run_there_is_a_bound(make_law) -> None:
    law = make_law()
    longest = law.ranges["tokens"][1]
    inside = ask(law, criterion=gain_at(law, 0.9 * MOST_TIMES_TOKENS * longest))
    outside = ask(law, criterion=gain_at(law, 1.1 * MOST_TIMES_TOKENS * longest))
    assert inside.tokens is not None
    assert outside.tokens is None
    assert outside.tokens_reason.startswith("more than")
    assert outside.gpu_hours is None
    # a run as long as the fitted ones would leave the answer as it is: it has to be 1.1 times longer
    assert "11B tokens" in outside.next_run


def test_a_size_too_far_away_is_not_answered(make_law) -> None:
    law = make_law()
    largest = law.ranges["params_before"][1]
    far = ask(law, params_before=largest * MOST_TIMES_DESIGNED * 1.01)
    near = ask(law, params_before=largest * MOST_TIMES_DESIGNED * 0.99)
    assert "model size" in far.tokens_reason
    assert "model size" not in (near.tokens_reason or "")
    assert "parameters or more" in far.next_run
    assert (far.loss, far.loss_start) == (None, None)
    measured = ask(law, params_before=largest * MOST_TIMES_DESIGNED * 2, loss_pruned=3.5)
    assert measured.loss_start == 3.5
    # the model to make next is twice the largest fitted: so are its tokens
    size, tokens = 2 * largest, 2 * law.ranges["tokens"][1]
    assert f"a model of {format_count(size)} parameters or more" in measured.next_run
    assert f"train it on {format_count(tokens)} tokens" in measured.next_run


def test_trust_needs_a_small_error_on_held_out_runs(make_law) -> None:
    law = make_law()
    middle = gain_at(law, (law.ranges["tokens"][0] * law.ranges["tokens"][1]) ** 0.5)
    tight = replace(law, draws=law.draws[:1].repeat(50, axis=0) * 0 + law.theta, diagnostics={"held_out_error": 0.004})
    assert ask(tight, criterion=middle).verdict == "trust"
    poor = replace(tight, diagnostics={"held_out_error": 0.04})
    assert ask(poor, criterion=middle).verdict == "rough"
    unknown = replace(tight, diagnostics={})
    assert "held-out" in ask(unknown, criterion=middle).verdict_because


def test_two_notes_are_shown_and_the_rest_counted() -> None:
    assert merged(["a", "b", "c", "d"]) == "a; b (2 more with --verbose)"
    assert merged(["a"]) == "a"
