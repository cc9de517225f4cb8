"""The solver: the minimum that scipy finds, ends that differ, and memory that is kept."""

import platform
import resource
from dataclasses import replace

import numpy as np
import pytest
from laws_cases import runs
from scipy.optimize import minimize

from regrow.laws.forms import find_form
from regrow.laws.memory import keep_freed_memory
from regrow.laws.objective import huber
from regrow.laws.observations import observe
from regrow.laws.point import fit_point
from regrow.laws.solver import Solutions, solve


@pytest.mark.parametrize("form", ["p2", "p2_shifted", "chinchilla", "sparse"])
def test_no_other_solver_goes_lower(form: str) -> None:
    (seen,) = observe(runs(seed=1, run_noise=0.01, point_noise=0.002))
    point = fit_point(find_form(form), seen)
    problem = point.problem

    def objective(moving: np.ndarray) -> float:
        theta = point.theta.copy()
        theta[problem.free] = moving
        with np.errstate(all="ignore"):
            total = float(
                problem.weights @ huber(np.log(problem.form.value(theta[None], problem.x)[0]) - problem.log_loss)
            )
        return total if np.isfinite(total) else 1e9

    here = point.theta[problem.free]
    assert objective(here) == pytest.approx(point.objective, rel=1e-9)
    bounds = list(zip(problem.lower[problem.free], problem.upper[problem.free], strict=True))
    other = minimize(objective, here * 1.01 + 1e-4, method="Nelder-Mead", bounds=bounds, options={"maxiter": 2000})
    assert point.objective <= other.fun * (1 + 1e-9)


def test_candidates_do_not_depend_on_their_neighbours() -> None:
    """Targets of their own, starts that fail and starts that settle early leave the others as they are."""
    (seen,) = observe(runs(seed=1, run_noise=0.01))
    point = fit_point(find_form("p2"), seen)
    rng = np.random.default_rng(0)
    starts = point.theta * np.exp(rng.normal(0, 0.1, (6, len(point.theta))))
    starts[2] = np.nan
    targets = point.problem.log_loss + rng.normal(0, 0.003, (6, len(seen)))
    together = solve(replace(point.problem, log_loss=targets), starts)
    assert not together.converged[2]
    assert together.objective[2] == np.inf
    for i in (0, 1, 3, 4, 5):
        alone = solve(replace(point.problem, log_loss=targets[i]), starts[[i]])
        assert together.objective[i] == pytest.approx(alone.objective[0], rel=1e-9)
        assert together.theta[i] == pytest.approx(alone.theta[0], rel=1e-4)


def test_distinct_ends_are_the_best_of_each_objective() -> None:
    found = Solutions(
        theta=np.arange(5.0)[:, None],
        objective=np.array([2.0, 1.0, np.inf, 1.0 + 1e-6, 3.0]),
        converged=np.ones(5, dtype=bool),
    )
    assert found.distinct(2)[:, 0].tolist() == [1.0, 0.0]
    assert found.distinct(9)[:, 0].tolist() == [1.0, 0.0, 4.0]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives memory back")
def test_freed_arrays_are_taken_again_without_a_page_fault() -> None:
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            np.concatenate([np.ones(500_000) for _ in range(3)])
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    faults()
    # 24 MB twenty times over are 117,000 pages of 4 KiB
    assert faults() < 10_000


def test_a_point_whose_derivatives_overflow_is_no_end() -> None:
    form = find_form("regrowth")
    (seen,) = observe(runs(), columns=form.columns)
    point = fit_point(form, seen)
    theta = point.theta.copy()
    # a gap of e^710 nats right after pruning, which is regrown at once: the losses are finite, a derivative is not
    theta[[form.index("level"), form.index("level_gap"), form.index("gap")]] = 0.0, -5.0, 710.0
    with np.errstate(all="ignore"):
        value, jacobian = form.value_and_jacobian(theta[None], point.problem.x)
    assert np.isfinite(np.log(value)).all()
    assert not np.isfinite(jacobian).all()
    assert solve(point.problem, theta[None]).objective == np.inf
