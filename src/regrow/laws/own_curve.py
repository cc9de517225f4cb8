"""The law of one run, from its own curve alone: what the evaluations so far say of those to come.

L(D) = F + B (D + D_s)^-beta, with all four unknown. Few evaluations of one run leave the exponent and the floor open,
so no single fit is taken: every shape (beta, D_s) of a grid is weighed by how well it explains the curve, and the draws
are samples of that posterior. Priors: beta and D_s uniform in their logarithm; the losses at the first and the last
evaluation uniform, which favours no shape; F and B not negative. The noise of an evaluation is unknown, too
(Gelman et al., Bayesian Data Analysis, 3rd ed., section 14.2, for the conditional on a shape).
"""

from __future__ import annotations

import numpy as np

from regrow.errors import InputError
from regrow.laws.forms import FORMS
from regrow.laws.law import Law
from regrow.laws.setting import Setting

#: evaluations above zero tokens that a forecast takes at least, and the factor in tokens that they must span: four
#: numbers describe a curve
LEAST_POINTS, LEAST_SPAN = 5, 4.0
#: exponents and shifts that are weighed; shifts in units of the tokens of the last evaluation
_BETAS = np.geomspace(0.05, 2.0, 40)
_SHIFTS = np.geomspace(1e-3, 3.0, 24)
#: what is known of the noise before the first evaluation: a thousandth of the loss, worth two evaluations
_NOISE, _NOISE_WORTH = 1e-3, 2.0
#: the loss from which the form p2 measures a gap; any number will do where the floor is fitted
BASE = 1.0
#: where such a law is read: it does not depend on size and rate
ALONE = Setting(params_before=1.0, pruning_rate=0.5, loss_before=BASE)


def fit_curve(tokens: np.ndarray, losses: np.ndarray, *, draws: int = 400, seed: int = 0) -> Law:
    """A law of the form `p2_shifted` that holds for this run only, whatever size and rate it is asked for.

    Args:
        tokens, losses: evaluations of one run [n], in the order of their tokens; those at zero tokens are left out, as
            the first steps from a pruned model follow no power law.

    Returns a law whose draws are the posterior, read at the setting `ALONE`.

    Raises `InputError` for too few evaluations, too close together, not finite, or a loss that does not fall.
    """
    seen = np.asarray(tokens, dtype=float) > 0
    d, y = np.asarray(tokens, dtype=float)[seen], np.asarray(losses, dtype=float)[seen]
    if not np.isfinite(y).all():
        raise InputError("a loss is not finite", where="the run's curve")
    if len(d) < LEAST_POINTS:
        seen_so_far = f"{len(d)} evaluation{'s' if len(d) != 1 else ''} so far"
        raise InputError(
            f"{seen_so_far}: a forecast from the run alone takes {LEAST_POINTS} or more",
            where="the run's curve",
            hint="evaluate more often, or give a law",
        )
    if d[-1] < LEAST_SPAN * d[0]:
        raise InputError(
            f"the evaluations span a factor of {d[-1] / d[0]:.2g} in tokens: a forecast takes {LEAST_SPAN:g} or more",
            where="the run's curve",
            hint="wait, or give a law",
        )
    beta, shift, floor, gap, noise = _sample(d, y, draws, np.random.default_rng(seed))
    names = FORMS["p2_shifted"].names
    columns = {
        "alpha": np.ones(draws),
        "beta": beta,
        "gamma": np.zeros(draws),
        "delta": np.zeros(draws),
        "N_C": np.zeros(draws),
        "D_C": gap,
        "E": floor - BASE,
        "D_s": shift,
    }
    theta = np.stack([columns[name] for name in names], axis=1)
    # the draw in the middle where the run will be at twice the tokens stands for all of them
    ahead = floor + gap * (2 * d[-1] + shift) ** -beta
    middle = theta[np.argsort(ahead)[draws // 2]]
    return Law(
        family="run",
        method="run",
        form="p2_shifted",
        params=dict(zip(names, map(float, middle), strict=True)),
        status="ok",
        warnings=("from the curve of one run alone: that it goes on as a power law is assumed",),
        n_runs=1,
        n_points=len(d),
        metrics={"r2": None, "huber": None, "asd": None, "mape": None},
        ranges=ALONE.at(d).ranges(),
        draws=theta,
        run_spread=0.0,
        point_spread=float(np.sqrt(np.mean(noise**2)) / y[-1]),
        diagnostics={"run_dof": float(len(d))},
    )


def _sample(
    d: np.ndarray, y: np.ndarray, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Posterior samples of beta, D_s, F, B and the noise (nats), each [draws]."""
    beta, shift = (grid.ravel() for grid in np.meshgrid(_BETAS, _SHIFTS * d[-1], indexing="ij"))
    # share of the way from the last evaluation's loss back to the first's, [shapes, n]: 1 at the first, 0 at the last
    power = (d[None, :] + shift[:, None]) ** -beta[:, None]
    share = (power - power[:, -1:]) / (power[:, :1] - power[:, -1:])
    rows = np.stack([share, 1 - share], axis=2)  # [shapes, n, 2], for the losses at the first and the last
    gram = rows.transpose(0, 2, 1) @ rows
    ends = np.linalg.solve(gram, (rows.transpose(0, 2, 1) @ y)[..., None])[..., 0]
    rest = y[None, :] - np.einsum("snk,sk->sn", rows, ends)
    dof = len(d) - 2 + _NOISE_WORTH
    square = np.sum(rest**2, axis=1) + _NOISE_WORTH * (_NOISE * y.mean()) ** 2
    log_weight = -0.5 * np.linalg.slogdet(gram)[1] - 0.5 * dof * np.log(square)
    weight = np.exp(log_weight - log_weight.max())
    # more than are wanted: those with a floor below zero, or a loss that rises, are not of the prior
    many = 20 * draws
    shape = rng.choice(len(beta), size=many, p=weight / weight.sum())
    noise = np.sqrt(square[shape] / rng.chisquare(dof, many))
    root = np.linalg.cholesky(np.linalg.inv(gram))
    drawn = ends[shape] + noise[:, None] * np.einsum("skj,sj->sk", root[shape], rng.standard_normal((many, 2)))
    first, last = power[shape, 0], power[shape, -1]
    gap = (drawn[:, 0] - drawn[:, 1]) / (first - last)
    floor = drawn[:, 1] - gap * last
    fine = np.flatnonzero((gap > 0) & (floor > 0))[:draws]
    if len(fine) < draws:
        raise InputError(
            "the loss does not fall, so there is no curve to follow",
            where="the run's curve",
            hint="wait for more evaluations; a learning rate that is too high looks so, too",
        )
    return beta[shape][fine], shift[shape][fine], floor[fine], gap[fine], noise[fine]
