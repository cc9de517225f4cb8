"""Laws of benchmark scores: one for each family, method and benchmark, and one for the mean of the benchmarks.

The benchmarks of a pruned model are drawn together, so that draw i of each law is one model. The mean of their curves
is therefore known better than each: what is shared stays, what is a benchmark's own averages out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from regrow.laws.forms import find_form
from regrow.laws.law import Law
from regrow.laws.objective import metrics
from regrow.laws.observations import Observations
from regrow.laws.pooled.fit import PoolFit, fit_pool, usual_in
from regrow.laws.pooled.held_out import law_around
from regrow.laws.pooled.pool import Pool, anchored, notes_of
from regrow.laws.pooled.scored import MEAN
from regrow.laws.prediction import score_target
from regrow.laws.regrowth.curve import gap_and_jacobian
from regrow.laws.regrowth.draws import NAMES, draw_parameters, heavy_factors
from regrow.laws.regrowth.drift import Drift
from regrow.laws.regrowth.effects import LEVELS
from regrow.laws.regrowth.score_noise import ScoreNoise
from regrow.laws.setting import BASIC_NAMES, Setting

#: tokens at which the mean curve is matched, from this share of the first reading to this multiple of the last
_GRID, _FROM, _TO = 24, 0.1, 16.0
#: what the laws of all benchmarks have in common
_SHARED = (
    *("drift_tokens", "pace_refitted", "pace_rate", "pace_batch"),
    *("usual_refitted", "usual_rate", "usual_batch"),
)
#: steps of the match, and its damping
_STEPS, _DAMPING = 40, 1e-4


def laws_of_score_pool(pool: Pool, name: str, *, draws: int, seed: int) -> list[Law]:
    """Fit a pool and give the laws of its benchmarks and, where there are several, of their mean."""
    pool = anchored(pool, [np.ones(len(group), dtype=bool) for group in pool.groups])
    fitted = fit_pool(pool.all_runs, pool.drifts)
    laws: list[Law] = []
    for members in by_method(pool):
        groups = [pool.groups[number] for number in members]
        own = joint_laws(fitted, groups, draws=draws, seed=seed, pool=name)
        for number, law in zip(members, own, strict=True):
            warnings = [*pool.groups[number].notes, *notes_of(pool, number)]
            if not fitted.hierarchy.settled:
                warnings.append("the fit has not settled: the curves may be of another kind than this law's")
            laws.append(replace(law, warnings=tuple(warnings), metrics=_metrics(law, pool.groups[number])))
        if len(own) > 1:
            whole = mean_of(groups)
            if whole is not None:
                law = mean_law(own, groups, whole)
                laws.append(replace(law, warnings=laws[-1].warnings, metrics=_metrics(law, whole)))
    return laws


def by_method(pool: Pool) -> list[list[int]]:
    """The numbers of a pool's groups, those of one family and method together."""
    found: dict[tuple[str, str], list[int]] = {}
    for number, group in enumerate(pool.groups):
        found.setdefault((group.family, group.method), []).append(number)
    return list(found.values())


def joint_laws(
    fitted: PoolFit, groups: Sequence[Observations], *, draws: int, seed: int, pool: str = "family"
) -> list[Law]:
    """The laws of the benchmarks of one family and method, drawn together, in the order of `groups`."""
    labels: list[dict[str, tuple[object, ...]]] = [
        {"family": (group.family, group.benchmark), "method": (group.method,)} for group in groups
    ]
    rows = draw_parameters(
        fitted.hierarchy, fitted.gap_law, Drift(), labels, usual_in(groups[0]), draws=draws, seed=seed
    )
    laws = [_law(fitted, group, new, pool=pool, seed=seed) for group, new in zip(groups, rows, strict=True)]
    rates, sizes = _pruned_models(fitted, laws, draws=draws, seed=seed)
    return [
        replace(law, sizes=mine, diagnostics={**law.diagnostics, "rates_of_sizes": rates})
        for law, mine in zip(laws, sizes, strict=True)
    ]


def _pruned_models(
    fitted: PoolFit, laws: Sequence[Law], *, draws: int, seed: int
) -> tuple[dict[str, float], list[dict[int, np.ndarray]]]:
    """The pruned models that all these benchmarks were read of: their rates by size, and for each law the parameters
    of a new run of each. A size that was pruned at several rates is left out: a law knows its models by their size."""
    model = fitted.hierarchy.model
    family = laws[0].family
    found: dict[int, dict[tuple[object, ...], dict[str, int]]] = {}
    for row, run in enumerate(model.arrays.runs):
        if (run.family, run.method) == (family, laws[0].method):
            cells = found.setdefault(round(run.params_before), {})
            cells.setdefault(run.label("model"), {}).setdefault(run.benchmark, row)
    rates: dict[str, float] = {}
    out: list[dict[int, np.ndarray]] = [{} for _ in laws]
    rng = np.random.default_rng(seed)
    for size, cells in found.items():
        rows = next(iter(cells.values()))
        if len(cells) > 1 or any(law.benchmark not in rows for law in laws):
            continue
        mine = [rows[str(law.benchmark)] for law in laws]
        psi = model.natural(model.draw_runs(fitted.hierarchy.posterior, mine, heavy_factors(draws, rng), rng))
        rates[str(size)] = model.arrays.runs[mine[0]].pruning_rate
        for number, (law, row) in enumerate(zip(laws, mine, strict=True)):
            own = law_around(law, model.in_tokens_of(model.arrays.runs[row], psi[:, number]), model.arrays.runs[row])
            out[number][size] = np.concatenate([own.theta[None], own.draws])
    return rates, out


def _law(
    fitted: PoolFit,
    group: Observations,
    rows: np.ndarray,
    *,
    pool: str,
    seed: int,
) -> Law:
    form = find_form("regrowth")
    noise = fitted.noise.get(group.benchmark, ScoreNoise(factor=1.0, late=0.0, freedom=1.0))
    read, runs = group.x.tokens > 0, fitted.hierarchy.model.arrays.runs
    runs = tuple(run for run in runs if (run.family, run.benchmark) == (group.family, group.benchmark))
    return Law(
        family=group.family,
        method=group.method,
        form=form.name,
        params=dict(zip(form.names, rows[0].tolist(), strict=True)),
        status="ok" if fitted.hierarchy.settled else "flat",
        n_runs=len(group.runs),
        n_points=len(group),
        metrics={},
        ranges=group.x.only((*BASIC_NAMES, "loss_pruned")).ranges(),
        draws=rows[1:],
        run_spread=0.0,
        point_spread=noise.late / _typical(group),
        fingerprint=group.fingerprint(),
        target=score_target(group.benchmark),
        diagnostics={
            "pool": pool,
            "first_reading": float(group.x.tokens[read].min()) if read.any() else 0.0,
            "noise": fitted.hierarchy.spreads.noise.tolist(),
            "reading_noise": {"factor": noise.factor, "late": noise.late, "freedom": noise.freedom},
            "point_dof": noise.freedom,
            "parents_known": all(run.parent_known for run in runs),
            "chance": next((run.chance for run in runs if run.chance is not None), None),
            "spreads": dict(zip(LEVELS, fitted.hierarchy.spreads.effects.tolist(), strict=True)),
            "log_evidence": fitted.hierarchy.log_evidence,
            "seed": seed,
        },
    )


def _typical(group: Observations) -> float:
    """The mean error at the last reading of the runs, in whose units the law has its noise."""
    last = [group.loss[np.flatnonzero(group.run == run)[-1]] for run in range(len(group.runs))]
    return float(np.mean(last))


def _metrics(law: Law, group: Observations) -> dict[str, float | None]:
    read = group.keep(group.x.tokens > 0)
    return dict(metrics(read.run, read.x.tokens, read.loss, law.loss(read.x), read.weights()))


def mean_of(groups: Sequence[Observations]) -> Observations | None:
    """The mean of the benchmarks at the checkpoints where all were read; None where there is none.

    Args:
        groups: of one family and method, one for each benchmark.
    """
    keys = [
        {
            (group.runs[run], tokens): row
            for row, (run, tokens) in enumerate(zip(group.run, group.x.tokens, strict=True))
        }
        for group in groups
    ]
    shared = [key for key in keys[0] if all(key in others for others in keys[1:])]
    if not shared:
        return None
    first = groups[0]
    rows = [np.array([index[key] for key in shared]) for index in keys]
    names = list(dict.fromkeys(run for run, _ in shared))
    columns = dict(first.x.keep(rows[0]).items())
    for name in ("loss_before", "loss_pruned"):
        columns[name] = np.mean([group.x[name][row] for group, row in zip(groups, rows, strict=True)], axis=0)
    return replace(
        first,
        runs=tuple(names),
        run=np.array([names.index(run) for run, _ in shared]),
        x=Setting(**columns),
        loss=np.mean([group.loss[row] for group, row in zip(groups, rows, strict=True)], axis=0),
        notes=(),
        benchmark=MEAN,
    )


def mean_law(laws: Sequence[Law], groups: Sequence[Observations], whole: Observations) -> Law:
    """The law of the mean of benchmarks, from their laws, whose draws belong together.

    The mean of such curves is no such curve, but near one: each draw's mean is matched by least squares between the
    tokens that were read, and beyond.

    Args:
        groups, whole: what the laws were fitted to, and its mean.
    """
    first = laws[0]
    common = sorted(set.intersection(*(set(law.sizes) for law in laws)))
    rows = _matched([np.concatenate([law.theta[None], law.draws]) for law in laws], groups)
    noise = float(np.sqrt(sum((law.point_spread * _typical(g)) ** 2 for law, g in zip(laws, groups, strict=True))))
    freedom = float(np.mean([law.diagnostics["point_dof"] for law in laws]))
    return replace(
        first,
        params=dict(zip(NAMES, rows[0].tolist(), strict=True)),
        draws=rows[1:],
        n_runs=len(whole.runs),
        n_points=len(whole),
        ranges=whole.x.only((*BASIC_NAMES, "loss_pruned")).ranges(),
        point_spread=noise / len(laws) / _typical(whole),
        fingerprint=whole.fingerprint(),
        sizes={size: _matched([law.sizes[size] for law in laws], groups) for size in common},
        target=score_target(MEAN),
        diagnostics={
            **first.diagnostics,
            "parents_known": all(law.diagnostics["parents_known"] for law in laws),
            "chance": None,
            "benchmarks": [group.benchmark for group in groups],
            "point_dof": freedom * len(laws),
        },
    )


def _matched(parameters: Sequence[np.ndarray], groups: Sequence[Observations]) -> np.ndarray:
    """Parameters [1 + draws, p] whose curves match the mean of the benchmarks' curves, at the middle of the runs."""
    form = find_form("regrowth")
    read = np.concatenate([group.x.tokens[group.x.tokens > 0] for group in groups])
    tokens = np.geomspace(_FROM * read.min(), _TO * read.max(), _GRID)
    before = start = 0.0
    value, psi = np.zeros((len(parameters[0]), len(tokens))), np.zeros((len(parameters[0]), 4))
    for theta, group in zip(parameters, groups, strict=True):
        # without the recipe, which then counts for the mean as it does for each
        x = Setting(**{name: np.median(group.x[name]) for name in BASIC_NAMES})
        at = x.replace(loss_pruned=_start(group)).at(tokens)
        value = value + form.value(theta, at) / len(groups)
        before = before + float(x.loss_before) / len(groups)
        start = start + (_start(group) - float(x.loss_before)) / len(groups)
        psi = psi + _numbers(theta) / len(groups)
    found = _least_squares(psi, value - before, start, before, tokens)
    out = np.zeros_like(parameters[0])
    for name in _SHARED:
        out[:, NAMES.index(name)] = parameters[0][:, NAMES.index(name)]
    for name, column in zip(("level", "pace", "exponent", "end"), found.T, strict=True):
        out[:, NAMES.index(name)] = np.exp(column) if name in ("pace", "exponent") else column
    gaps = np.stack([theta[:, NAMES.index("gap")] for theta in parameters])
    out[:, NAMES.index("gap")] = np.log(np.mean(np.exp(gaps), axis=0))
    for name in ("gap_rate", "gap_size"):
        out[:, NAMES.index(name)] = np.mean([theta[:, NAMES.index(name)] for theta in parameters], axis=0)
    return out


def _start(group: Observations) -> float:
    """The error right after pruning in the middle of the runs, or of what was read first where it is not known."""
    known = group.x.loss_pruned[~np.isnan(group.x.loss_pruned)]
    return float(np.median(known if known.size else group.loss))


def _numbers(theta: np.ndarray) -> np.ndarray:
    columns = [theta[:, NAMES.index(name)] for name in ("level", "pace", "exponent", "end")]
    return np.stack([columns[0], np.log(columns[1]), np.log(columns[2]), columns[3]], axis=1)


def _least_squares(psi: np.ndarray, gap: np.ndarray, start: float, before: float, tokens: np.ndarray) -> np.ndarray:
    """psi [B, 4] of the curves nearest to gaps [B, n], by damped Gauss-Newton steps from psi."""
    starts, befores = np.full(len(psi), start), np.full(len(psi), before)
    at, damping = psi.copy(), np.full(len(psi), _DAMPING)
    found, rows = gap_and_jacobian(at, starts, befores, np.broadcast_to(tokens, gap.shape))
    cost = np.sum((gap - found) ** 2, axis=1)
    for _ in range(_STEPS):
        square = np.einsum("bnk,bnl->bkl", rows, rows)
        scale = np.einsum("bkk->bk", square) + 1e-12
        square = square + damping[:, None, None] * np.eye(4) * scale[:, None, :]
        step = np.linalg.solve(square, np.einsum("bnk,bn->bk", rows, gap - found)[..., None])[..., 0]
        tried = at + np.clip(step, -1.0, 1.0)
        value, derivative = gap_and_jacobian(tried, starts, befores, np.broadcast_to(tokens, gap.shape))
        new = np.sum((gap - value) ** 2, axis=1)
        better = new < cost
        at, found, rows = (
            np.where(better.reshape(-1, *(1,) * (old.ndim - 1)), now, old)
            for now, old in ((tried, at), (value, found), (derivative, rows))
        )
        cost, damping = np.where(better, new, cost), np.where(better, damping / 3, damping * 4)
    return at
