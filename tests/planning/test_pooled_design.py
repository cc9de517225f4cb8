"""Designs under `regrowth`: posteriors against one big normal distribution, gradients against solved D*, the output."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws.entry import fit
from regrow.laws.law import Law
from regrow.laws.select import select_law
from regrow.planning.design import DesignModel, DesignSpec, design
from regrow.planning.information import log_optimal_tokens
from regrow.planning.pooled_information import Pooled, absorb, of_readings, shrunk
from regrow.planning.pooled_problem import PooledProblem
from regrow.planning.pooled_state import StateOfLaw, StateOfRuns
from regrow.runs import read_runs

LADDER = Path(__file__).parents[2] / "studies" / "ladder-llama.jsonl"
SIZES = (0.19e6, 0.3e6, 0.58e6)


@pytest.fixture(scope="module")
def records():
    """The depth runs of the three sizes, and their controls."""
    return [r for r in read_runs(LADDER) if r.method in ("depth", "none")]


@pytest.fixture(scope="module")
def law(records) -> Law:
    return select_law(fit(records, form="regrowth", draws=200), method="depth")


def spec(**over) -> DesignSpec:
    known: dict = {
        "target": DesignModel(params_before=3.1e6, loss_before=3.4, loss_pruned=4.4), "pruning_rate": 0.25,
        "method": "depth", "candidates": tuple(DesignModel(params_before=n, loss_before=3.6) for n in (1e6, 1.4e6)),
        "budget_flops": 2e13,
    }  # fmt: skip
    return DesignSpec(**{**known, **over})


# ---- normal posteriors ----


def one_normal(rng):
    """A state of 3 numbers, 2 cells of which the first has 2 runs, one draw; and their pieces."""
    root = rng.standard_normal((3, 3))
    weights = rng.standard_normal((2, 1, 4, 3))
    information = rng.standard_normal((3, 1, 4, 6))
    return root @ root.T, weights, information @ np.swapaxes(information, 2, 3)


def test_the_variance_after_runs_is_that_of_one_big_normal_distribution():
    rng = np.random.default_rng(3)
    state, weights, of_runs = one_normal(rng)
    of_cell, of_run = np.diag([0.3, 0.2, 0.5, 0.1]), np.diag([0.02, 0.05, 0.01, 0.03])
    gradient = rng.standard_normal((1, 3))
    cell = np.array([0, 0, 1])
    judge = Pooled(
        covariance=state, cell=cell, weights=weights, information=shrunk(of_runs, of_run),
        made=np.zeros((2, 1, 4, 4)), of_cell=of_cell, gradient=gradient, rest=np.array([0.25]),
    )  # fmt: skip
    # psi of the three runs and the target's sum, all at once
    rows = np.concatenate([weights[c, 0] for c in cell])
    covariance = rows @ state @ rows.T
    covariance += np.kron(np.equal.outer(cell, cell), of_cell) + np.kron(np.eye(3), of_run)
    noise = np.zeros((12, 12))
    for i in range(3):
        noise[4 * i : 4 * i + 4, 4 * i : 4 * i + 4] = np.linalg.inv(of_runs[i, 0])
    along = gradient[0] @ state @ rows.T
    before = float(gradient[0] @ state @ gradient[0])
    after = before - along @ np.linalg.solve(covariance + noise, along)
    assert judge.variances([])[0] == pytest.approx(before + 0.25)
    assert judge.variances([0, 1, 2])[0] == pytest.approx(after + 0.25)
    # and what a run adds is the difference of the two values
    for chosen in ([], [0], [0, 2]):
        gains = judge.gains(chosen, np.array([1]))
        assert gains[0] == pytest.approx(judge.value(chosen) - judge.value([*chosen, 1]))


def test_absorbing_in_two_parts_is_absorbing_at_once():
    rng = np.random.default_rng(4)
    state, weights, information = one_normal(rng)
    at_once = absorb(state[None], weights[0], information[0] + information[1])
    assert absorb(absorb(state[None], weights[0], information[0]), weights[0], information[1]) == pytest.approx(at_once)


def test_more_readings_tell_more():
    psi, gap = np.array([[0.0, np.log(5e4), np.log(0.35), 0.0]]), np.array([0.8])
    noise = np.array([5e-4, 1.5e-3, 5e-3])
    few, many = (of_readings(psi, gap, 3.5, np.geomspace(1e4, 1e6, n)[None], noise) for n in (4, 16))
    assert np.linalg.eigvalsh(many - few)[0].min() > 0
    assert np.linalg.eigvalsh(few)[0].min() > 0


# ---- the question ----


def test_the_gradient_of_log_tokens_is_that_of_the_solved_tokens(law):
    problem = PooledProblem(spec(), law, None, None)
    step = 1e-3
    for name, number in (("level", 0), ("pace", 1), ("exponent", 2), ("end", 3)):
        found = []
        for sign in (1, -1):
            theta = problem.theta.copy()
            column = law.formula.index(name)
            if name in ("pace", "exponent"):
                theta[:, column] *= np.exp(sign * step)
            else:
                theta[:, column] += sign * step
            found.append(log_optimal_tokens(problem.form, theta, problem.own.x, min_gain=0.01))
        there = np.isfinite(found).all(axis=0) & (np.exp(problem.log_tokens) > 10)
        slope = (found[0] - found[1])[there] / (2 * step)
        assert there.sum() > 10
        assert np.median(np.abs(slope - problem.gradient[there, number])) < 0.02 * np.abs(slope).max()


def test_before_any_run_the_factor_is_that_of_the_plan(law):
    """Two routes: the linear one of the design, and the quantiles of D* over the law's draws."""
    expected = design(spec(), law).before
    x = PooledProblem(spec(), law, None, None).own.x
    low, high = np.quantile(
        log_optimal_tokens(law.formula, law.parameters_at(3.1e6)[1:], x, min_gain=0.01), [0.05, 0.95]
    )
    assert np.log(expected) == pytest.approx(0.5 * (high - low), rel=0.3)


def test_the_runs_know_the_models_that_were_run(records):
    # their tails are heavy: a few hundred draws tell a variance to a factor of two
    law = select_law(fit(records, form="regrowth", draws=2000), method="depth")
    of_law, of_runs = StateOfLaw(law), StateOfRuns(law, records)
    known = float(next(iter(law.sizes)))
    assert of_law.label(known) is None
    assert of_runs.label(known) is not None
    assert of_runs.label(1e6) is None
    # of a new run of a new model both know as much; without what is new in it, the law's draws tell it roughly
    spreads = []
    for state in (of_law, of_runs):
        rows = state.weights(1e6, 0.25, 0.8)
        new = sum(np.diag(state.of(level)) for level in ("model", "cell", "run"))
        spreads.append(np.sqrt(np.diag(rows @ state.covariance @ rows.T) + new))
    assert spreads[0] == pytest.approx(spreads[1], rel=0.2)
    own = np.diag(rows @ of_runs.covariance @ rows.T)
    # the effect of a model that was run is known better than that of a new one
    rows = of_runs.weights(known, 0.25, 0.8)
    there = np.diag(rows @ of_runs.covariance @ rows.T)
    assert np.all(there < own + np.diag(of_runs.of("model")))


def test_a_design_narrows_the_interval_and_stays_above_the_least(law, records):
    answer = design(spec(), law, records)
    target = answer.of_target
    assert target is not None
    assert answer.before is not None
    assert target.factor_least < answer.expected.factor < answer.before
    assert target.factor_early < answer.before
    assert target.factor_without_gap is None  # the gap was given
    assert answer.expected.factor_bent is None
    assert "bend" not in answer.sentence()
    assert answer.expected.flops <= 2e13
    guessed = design(
        dataclasses.replace(spec(), target=DesignModel(params_before=3.1e6, loss_before=3.4)), law, records
    )
    assert guessed.of_target.factor_without_gap > guessed.expected.factor
    assert "regrow prune --held-out" in guessed.sentence()


def test_a_model_of_the_fit_counts_as_new_without_its_runs_and_that_is_said(law, records):
    size = float(next(iter(law.sizes)))
    asked = spec(candidates=(DesignModel(params_before=size, loss_before=3.6),), next=1)
    assert not any("--runs" in w for w in design(asked, law, records).warnings)
    assert any("--runs" in w for w in design(dataclasses.replace(asked, next=None), law).warnings)


def test_a_method_without_runs_is_designed_for_and_that_is_said(law, records):
    new = select_law([law], method="experts")
    answer = design(spec(method="experts"), new)
    assert "no run was pruned by experts: this is the law over depth alone" in answer.warnings
    # the method itself is not known yet: the runs tell it
    assert answer.before > design(spec(), law).before
    assert answer.expected.factor < answer.before
    with pytest.raises(
        InputError, match=r"no run of tiny-llama experts; there are: tiny-llama depth; leave the runs out"
    ):
        design(spec(method="experts"), new, records)


def test_other_runs_than_the_laws_are_said(law, records):
    def said(runs):
        return [w for w in design(spec(next=1), law, runs).warnings if w.startswith("the runs given are not those")]

    assert said(records) == []
    shorter = [dataclasses.replace(r, curve=r.curve[:-3]) for r in records]
    few = [r for r in records if r.is_control or r.pruning_rate < 0.3]
    for other in (shorter, few):
        (note,) = said(other)
        assert f"the law rests on {law.n_runs}" in note


def test_a_budget_that_pays_for_no_run_is_one_line(law):
    with pytest.raises(InputError, match="the shortest run costs more than the budget"):
        design(spec(budget_flops=1.0), law)
