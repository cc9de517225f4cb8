"""Plans by score: tokens until a score against a curve that is known, and one line where it is never reached."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import Law
from regrow.laws.regrowth.draws import NAMES
from regrow.planning import Budget, PlanSpec, Recovery, ScoreGain, ScoreRecovery, ScoreTarget, Slope, plan

BEFORE, PRUNED, PACE, POWER = 0.72, 0.31, 4e8, 0.5


def score(tokens: float) -> float:
    """The score of the simulated model: its gap to the parent closes as (1 + D / (b pace))^-b."""
    return BEFORE - (BEFORE - PRUNED) * (1 + tokens / (POWER * PACE)) ** -POWER


def law(end: float = 0.0, **changes) -> Law:
    numbers = dict.fromkeys(NAMES, 0.0) | {"pace": PACE, "exponent": POWER, "end": end, "drift_tokens": 3e4}
    row = np.array([numbers[name] for name in NAMES])
    draws = np.tile(row, (101, 1))
    draws[:, NAMES.index("pace")] *= np.exp(np.linspace(-0.2, 0.2, 101))
    plain = {
        "family": "made", "method": "depth", "form": "regrowth", "params": numbers, "status": "ok", "n_runs": 3,
        "n_points": 30, "metrics": {}, "draws": draws, "run_spread": 0.0, "point_spread": 0.01, "target": "score:mmlu",
        "ranges": {"params_before": (7e9, 9e9), "pruning_rate": (0.2, 0.3), "tokens": (0.0, 1e11),
                   "loss_before": (0.2, 0.4), "loss_pruned": (0.5, 0.8)},
        "diagnostics": {"first_reading": 1e7, "parents_known": True, "chance": 0.25, "point_dof": 10.0},
    }  # fmt: skip
    return Law(**{**plain, **changes})


SPEC = PlanSpec(params_before=8e9, pruning_rate=0.25, score_before=BEFORE, score_pruned=PRUNED)


@pytest.mark.parametrize(
    ("criterion", "met"),
    [
        (ScoreTarget(score=0.70), lambda d: score(d) - 0.70),
        (ScoreGain(min_gain=1.0), lambda d: score(2 * d) - score(d) - 0.01),
        (ScoreRecovery(share=0.9), lambda d: score(d) - (BEFORE - 0.1 * (BEFORE - PRUNED))),
    ],
)
def test_the_criterion_is_just_met_at_the_planned_tokens(criterion, met) -> None:
    found = plan(law(), replace(SPEC, criterion=criterion))
    assert found.tokens is not None
    assert met(found.tokens) == pytest.approx(0, abs=1e-6)
    assert found.tokens_low < found.tokens < found.tokens_high
    assert found.scored.score == pytest.approx(score(found.tokens), abs=1e-6)
    assert found.scored.low < found.scored.score < found.scored.high
    data = found.to_dict()
    assert data["target"] == "score:mmlu"
    assert data["score"] == pytest.approx(1 - data["loss"])
    assert data["score_before"] == BEFORE
    assert "perplexity" not in data


def test_words_speak_of_scores() -> None:
    found = plan(law(), replace(SPEC, criterion=ScoreTarget(score=0.70)))
    assert "0.720 before -> 0.310 right after pruning -> 0.700 at the end" in str(found)
    assert "-2.0 points from the parent's score" in str(found)
    assert "nats" not in str(found)
    assert "Expected score:mmlu 0.700" in found.sentence()


def test_the_default_is_half_a_point() -> None:
    found = plan(law(), SPEC)
    assert score(2 * found.tokens) - score(found.tokens) == pytest.approx(0.005, abs=1e-6)


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        (ScoreTarget(score=0.71), "a score of 0.71 is never reached: .*ends at 0.692.*the parent's is 0.720"),
        (ScoreRecovery(share=0.95), "95% of what pruning took is never won back: .*ends at 0.692"),
    ],
)
def test_what_is_never_reached_is_said_with_the_reason(criterion, words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan(law(end=0.1), replace(SPEC, criterion=criterion))  # ends a tenth of the parent's error above it


def test_a_budget_gives_the_score_it_buys() -> None:
    found = plan(law(), replace(SPEC, criterion=Budget(gpu_hours=1000.0)))
    assert found.scored.score == pytest.approx(score(found.tokens), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score_before": None}, "the parent's score is missing"),
        ({"score_before": 72.0}, "looks like a percentage"),
        ({"score_before": 0.2}, "--score-before is 0.2, below the 0.25 of guessing"),
        ({"score_pruned": 0.1}, "--score-pruned is 0.1, below the 0.25 of guessing"),
        ({"criterion": ScoreTarget(score=0.2)}, "--target is 0.2, below the 0.25 of guessing"),
        ({"criterion": Slope(max_slope=0.01)}, "the criterion slope in nats"),
        ({"criterion": Recovery(loss_pruned=3.0)}, "the criterion recovery in nats"),
        ({"loss_before": 2.0}, "losses asked of a law of score:mmlu"),
    ],
)
def test_wrong_questions_are_one_line(changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        plan(law(), replace(SPEC, **changes))
    assert "\n" not in str(caught.value)


def test_scores_are_not_asked_of_a_law_of_losses() -> None:
    with pytest.raises(InputError, match="scores asked of a law of losses"):
        plan(law(target="loss"), SPEC)
    with pytest.raises(InputError, match="no loss before pruning"):
        plan(law(target="loss"), PlanSpec(params_before=8e9, pruning_rate=0.25))


def test_a_law_without_parents_counts_from_what_stood_for_them() -> None:
    orphan = law(diagnostics={**law().diagnostics, "parents_known": False})
    found = plan(orphan, replace(SPEC, score_before=None, criterion=ScoreTarget(score=0.6)))
    assert found.tokens is not None
    assert found.scored.before is None
    assert "parent not known" in str(found)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ScoreTarget(score=70.0), "divide by 100"),
        (lambda: ScoreGain(min_gain=0.0), "points above 0"),
        (lambda: ScoreRecovery(share=1.0), "fraction between 0 and 1"),
    ],
)
def test_criteria_check_themselves(make, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
