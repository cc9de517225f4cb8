"""A plan in the recipe of the planned run: tokens, bounds and notes as if the law's runs had been trained so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import load_laws, select_law
from regrow.planning import PlanSpec, plan
from regrow.planning.recipe import about_recipe, in_recipe, recipe_columns
from regrow.planning.support import supported_tokens

#: a tenth of the runs' rate, 8 times their batch: 10 * 8^0.6 the tokens
RATE, BATCH = 3e-5, 8192.0
TIMES = 10 * 8**0.6


@pytest.fixture(scope="module")
def law():
    return select_law(load_laws("reference"), method="depth")


def asked(**changes: object) -> PlanSpec:
    known = {"params_before": 3e6, "pruning_rate": 0.25, "loss_before": 3.0, "loss_pruned": 3.4}
    return PlanSpec(**{**known, **changes})  # type: ignore[arg-type]


def test_tokens_and_bounds_are_those_of_the_runs_times_what_the_recipe_takes(law) -> None:
    usual, other = plan(law, asked()), plan(law, asked(others=recipe_columns(learning_rate=RATE, batch_tokens=BATCH)))
    assert usual.tokens
    assert other.tokens
    assert other.tokens == pytest.approx(TIMES * usual.tokens, rel=1e-3)
    # the loss there is the same, and the interval of the tokens is wider by what is not known of the recipe
    assert other.loss == pytest.approx(usual.loss, abs=1e-3)
    moved = in_recipe(law, {"learning_rate": RATE, "batch_tokens": BATCH})
    for name in ("first", "most", "longest"):
        now, before = (getattr(supported_tokens(one), name) for one in (moved, law))
        assert now == pytest.approx(TIMES * before)
    pace = list(law.params).index("pace")
    assert np.log(moved.draws[:, pace]).std() > np.log(law.draws[:, pace]).std()
    assert "worth" in supported_tokens(moved).reason(1e12)
    assert any(w.startswith(f"the recipe takes {TIMES:.3g} times") for w in other.warnings)
    assert other.to_dict()["others"] == {"learning_rate": RATE, "batch_tokens": BATCH}


def test_the_recipe_of_the_runs_changes_nothing(law) -> None:
    columns = recipe_columns(learning_rate=law.params["usual_rate"], batch_tokens=law.params["usual_batch"])
    usual, same = plan(law, asked()), plan(law, asked(others=columns))
    assert same.tokens == pytest.approx(usual.tokens)
    assert not any(w.startswith("the recipe") for w in same.warnings)
    # the reference law's runs are nobody's: without a recipe it says whose it counts
    assert any("give --lr and --batch-tokens" in w for w in usual.warnings)


def test_recipes_far_from_any_that_was_tried_are_named(law) -> None:
    (note,) = about_recipe(law, {"batch_tokens": 4e6}, 0.9)
    assert note.endswith("none more than 8 times apart was tried")
    assert about_recipe(law, {"batch_tokens": 2048.0}, 0.9)[0].endswith("tokens a batch)")


def test_a_scorer_that_solves_weights_again_makes_recovery_longer(law) -> None:
    plain, again = (plan(law, asked(others=recipe_columns(scorer=s))) for s in ("magnitude", "sparsegpt"))
    assert plain.tokens
    assert again.tokens
    assert again.tokens > 1.5 * plain.tokens


def test_what_a_law_does_not_know_is_refused_in_one_line(law, make_law) -> None:
    with pytest.raises(InputError, match="--lr with a law of the form p2"):
        plan(make_law(), asked(params_before=5e8, others={"learning_rate": 1e-4}))
    unsaid = in_recipe(law, {})
    assert unsaid is law
    unsaid = replace(law, params={**law.params, "usual_rate": 0.0})
    with pytest.raises(InputError, match="do not say their learning rate"):
        plan(unsaid, asked(others={"learning_rate": 1e-4}))
    with pytest.raises(InputError, match="a learning rate of -1"):
        recipe_columns(learning_rate=-1.0)
    with pytest.raises(InputError, match="a number of tokens of a batch of nan"):
        recipe_columns(batch_tokens=float("nan"))
