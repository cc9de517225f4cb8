"""A forecast of a run whose truth is known: by its own curve, and by a law of such runs."""

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import Setting, fit
from regrow.laws.simulate import simulate
from regrow.planning.criteria import Budget, Gain, Target
from regrow.planning.forecast import forecast

TOKENS = np.linspace(50_000, 1_000_000, 20)
TRUTH = {"alpha": 1.0, "beta": 0.3, "gamma": -1.4, "delta": 0.1, "N_C": 0.0, "D_C": 120.0, "E": 2.0}


def curve(tokens):
    return 3.0 + 40.0 * (np.asarray(tokens, dtype=float) + 20_000) ** -0.35


def true_best(min_gain):
    grid = np.geomspace(1e3, 1e9, 200_000)
    return grid[np.flatnonzero(curve(grid) - curve(2 * grid) >= min_gain)[-1]]


@pytest.fixture(scope="module")
def law():
    runs = simulate(
        TRUTH, sizes=(1e6, 2e6, 4e6), rates=(0.15, 0.25, 0.35), tokens=TOKENS[::2], loss_before=lambda n: 3.6,
        run_noise=0.004, point_noise=0.002,
    )  # fmt: skip
    return fit(runs, draws=100)[0]


def run_of_the_law(offset=0.0, size=8e6, rate=0.25):
    (record,) = simulate(
        TRUTH, sizes=(size,), rates=(rate,), tokens=TOKENS, loss_before=lambda n: 3.6, point_noise=1e-3
    )
    losses = np.array([p.loss for p in record.curve]) + offset
    return losses, Setting(params_before=size, pruning_rate=rate, loss_before=3.6)


def test_half_of_a_run_tells_its_end():
    losses = curve(TOKENS) + 0.002 * np.random.default_rng(3).standard_normal(20)
    found = forecast(TOKENS[:10], losses[:10], final_tokens=1_000_000, criterion=Gain(min_gain=0.07))
    assert found.final_low < losses[-1] < found.final_high
    assert found.final_loss == pytest.approx(losses[-1], abs=0.02)
    assert found.best_low < true_best(0.07) < found.best_high
    assert found.source == "run"
    assert found.share_met < 0.1
    assert "one run alone" in found.notes[0]
    assert found.sentence().startswith(f"forecast at 500k tokens, loss {losses[9]:.4f}: ")


def test_the_share_that_is_met_rises_as_d_star_is_passed():
    tokens = np.geomspace(true_best(0.05) / 8, true_best(0.05) * 8, 40)
    shares = [
        forecast(tokens[:n], curve(tokens[:n]), final_tokens=int(tokens[-1]), criterion=Gain(min_gain=0.05)).share_met
        for n in (18, 23)
    ]
    assert shares[0] < 0.1
    assert shares[1] > 0.9


def test_d_star_beyond_what_was_read_is_bounded_as_in_a_plan():
    far = forecast(TOKENS, curve(TOKENS), final_tokens=2_000_000, criterion=Gain(min_gain=2e-4))
    assert true_best(2e-4) > 16 * TOKENS[-1]
    assert far.best_tokens is None
    assert far.best_high is None
    assert far.best_bound == "more than 16M"
    assert "; D* more than 16M" in far.sentence()
    assert any("16 times the longest fitted run" in note for note in far.notes)
    late = np.linspace(800_000, 4_000_000, 20)
    near = forecast(late, curve(late), final_tokens=5_000_000, criterion=Gain(min_gain=0.08))
    assert true_best(0.08) < late[0]
    assert near.best_tokens is None
    assert near.best_bound == "less than 800k"
    assert near.sentence().split("; ")[1].startswith("D* less than 800k, where")
    assert near.share_met == 1.0


def test_a_law_that_is_not_trusted_with_the_size_gives_the_loss_and_no_d_star(law):
    losses, setting = run_of_the_law()
    far = setting.replace(params_before=1e9)
    found = forecast(TOKENS[:10], losses[:10], final_tokens=1_000_000, law=law, setting=far)
    assert found.final_loss is not None
    assert found.best_tokens is found.best_low is found.best_high is found.share_met is None
    assert any("D* is not given" in note and "250 times outside" in note for note in found.notes)
    assert "; D* not known, where" in found.sentence()


def test_too_few_evaluations_give_the_reason_and_no_number():
    found = forecast(TOKENS[:3], curve(TOKENS[:3]), final_tokens=1_000_000)
    assert found.final_loss is found.best_tokens is found.share_met is None
    assert "3 evaluations so far" in found.sentence()
    assert forecast([], [], final_tokens=10).loss is None


def test_a_target_below_the_floor_still_forecasts_the_loss():
    found = forecast(TOKENS, curve(TOKENS), final_tokens=2_000_000, criterion=Target(loss=0.5))
    assert found.final_loss == pytest.approx(curve(2e6), abs=0.01)
    assert found.best_tokens is None
    assert any("unreachable" in note for note in found.notes)


def test_a_law_speaks_before_the_first_evaluation_and_the_run_corrects_it(law):
    losses, setting = run_of_the_law(offset=0.01)
    ask = {"final_tokens": 1_000_000, "law": law, "setting": setting}
    before = forecast([], [], **ask)
    assert before.source == "law"
    assert before.final_low < losses[-1] < before.final_high
    after = forecast(TOKENS[:10], losses[:10], **ask)
    assert after.final_low < losses[-1] < after.final_high
    assert abs(after.final_loss - losses[-1]) < abs(before.final_loss - losses[-1])
    assert after.final_high - after.final_low < before.final_high - before.final_low
    assert not any("the law may not be" in note for note in after.notes)


def test_a_run_that_the_law_does_not_know_is_said(law):
    losses, setting = run_of_the_law(offset=0.5)
    found = forecast(TOKENS[:10], losses[:10], final_tokens=1_000_000, law=law, setting=setting)
    assert any("lies above what the law expects" in note for note in found.notes)


def test_bad_input_is_one_line(law):
    with pytest.raises(InputError, match="a budget is spent"):
        forecast(TOKENS, curve(TOKENS), final_tokens=10, criterion=Budget(gpu_hours=1))
    with pytest.raises(InputError, match="size, rate and loss"):
        forecast(TOKENS, curve(TOKENS), final_tokens=10, law=law)
    with pytest.raises(InputError, match="level 1"):
        forecast(TOKENS, curve(TOKENS), final_tokens=10, level=1.0)
