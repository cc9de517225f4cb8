import numpy as np
import pytest

from regrow.laws import Setting, load_laws, select_law
from regrow.planning.damage import Damage, expected_damage
from regrow.planning.support import MOST_TIMES_TOKENS


@pytest.fixture(scope="module")
def law():
    return select_law(load_laws("reference"), method="depth")


def place(**changes: float) -> Setting:
    at = {"params_before": 1e6, "pruning_rate": 0.25, "loss_before": 3.2, "loss_pruned": 3.9}
    return Setting(**{**at, **changes})


def test_half_is_back_where_the_laws_own_curve_says_so(law):
    # a gap so large that half of it is back between the first reading and the last that is supported, in most draws
    x = place(params_before=3.1e6, loss_before=3.0, loss_pruned=5.0)
    found = expected_damage(law, x)
    assert float(law.loss(x.replace(tokens=found.half_tokens))) == pytest.approx(4.0, abs=1e-6)
    tokens = np.geomspace(1e3, 1e9, 4000)
    drawn = law.loss_draws(x.at(tokens)) <= 4.0
    reached = np.where(drawn.any(axis=1), tokens[drawn.argmax(axis=1)], np.inf)
    assert np.mean(reached < found.half_low) == pytest.approx(0.05, abs=0.02)
    assert np.mean(reached > found.half_high) == pytest.approx(0.05, abs=0.02)
    assert found.sentence().startswith("2.00 nats lost at once; half is back after about ")


def test_nothing_lost_is_said_and_no_tokens_are_given(law):
    found = expected_damage(law, place(loss_pruned=3.15))
    assert found.half_tokens is None
    assert found.sentence() == "nothing lost at once: 0.05 nats below the unpruned model"


def test_what_the_runs_do_not_support_is_no_number(law):
    high = law.ranges["params_before"][1]
    found = expected_damage(law, place(params_before=1000 * high))
    assert found.half_tokens is None
    assert "times outside what was fitted" in found.sentence()
    slow = expected_damage(law, place(loss_before=1.0, loss_pruned=60.0))
    assert slow.half_tokens is None or slow.half_tokens <= MOST_TIMES_TOKENS * law.ranges["tokens"][1]


def test_an_open_end_is_said():
    known = {"loss_before": 2.0, "loss_pruned": 3.0, "half_tokens": 1e6}
    open_end = Damage(**known, half_low=5e5, supported=2.5e7).sentence()
    assert open_end.endswith("about 1M tokens (500k or more, 90%)")
    assert Damage(**known, half_high=2e6).sentence().endswith("about 1M tokens (up to 2M, 90%)")
    assert Damage(**known).sentence().endswith("about 1M tokens (how sure is not known)")
    wide = Damage(**known, first=1e4, supported=2.5e7).sentence()
    assert wide.endswith("about 1M tokens (anything from under 10k to over 25M, 90%)")
