"""Laws of the form `regrowth`: one fit for all runs of a pool, one law for each family and method in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.forms import find_form
from regrow.laws.forms.regrowth import Regrowth
from regrow.laws.law import Law
from regrow.laws.objective import metrics
from regrow.laws.observations import Observations, observe
from regrow.laws.pooled.pool import Pool, fitted_runs, make_pools, notes_of
from regrow.laws.regrowth import noise
from regrow.laws.regrowth.before import GapLaw, fit_gap_law
from regrow.laws.regrowth.draws import draw_parameters
from regrow.laws.regrowth.drift import Drift, spread_of
from regrow.laws.regrowth.effects import LEVELS
from regrow.laws.regrowth.estimate import Hierarchy, fit_hierarchy
from regrow.laws.regrowth.runs import RunCurve, Usual
from regrow.laws.regrowth.score_noise import ScoreNoise, fit_scores
from regrow.laws.setting import BASIC_NAMES
from regrow.runs.record import RunRecord

#: spread that the end of the curves is expected to have, a share of the loss: where gaps are counted above a control,
#: and where the parent may be left below
END, END_WITHOUT_CONTROL = 0.003, 0.03
#: the same of the errors of benchmarks, a share of the parent's error; without it, of what stands in its place
SCORE_END, SCORE_END_WITHOUT_PARENT = 0.05, 0.2


#: what is optional and whose range a law keeps
_KEPT = ("loss_pruned", "learning_rate", "batch_tokens")


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolFit:
    """A fitted pool: the curves, the gaps that they start from, and the noise of each benchmark where it has scores."""

    hierarchy: Hierarchy
    gap_law: GapLaw
    drifts: dict[str, Drift]
    noise: Mapping[str, ScoreNoise] = field(default_factory=dict)


def fit_pool(runs: Sequence[RunCurve], drifts: dict[str, Drift], near: PoolFit | None = None) -> PoolFit:
    """Fit the runs of a pool together; a fit `near` it, of nearly the same losses, is where the search starts.

    Raises `InputError` where no run has a reading after training.
    """
    runs = fitted_runs(runs)
    if runs[0].benchmark:
        end = SCORE_END if all(run.parent_known for run in runs) else SCORE_END_WITHOUT_PARENT
        hierarchy, of_scores = fit_scores(runs, end=end)
        return PoolFit(hierarchy=hierarchy, gap_law=fit_gap_law(runs), drifts={}, noise=of_scores)
    end = END if all(run.controlled for run in runs) else END_WITHOUT_CONTROL
    hierarchy = fit_hierarchy(runs, end=end, near=None if near is None else near.hierarchy)
    return PoolFit(hierarchy=hierarchy, gap_law=fit_gap_law(runs), drifts=drifts)


def law_for(
    fitted: PoolFit,
    seen: Observations,
    *,
    baseline: str,
    draws: int,
    seed: int,
    pool: str = "family",
    warnings: Iterable[str] = (),
) -> Law:
    """The law of one family and method.

    Args:
        seen: the group that the law is of: its family, its method and, where it was fitted, its runs.
        baseline: `initial` predicts from the loss before pruning, with the drift that training brings; `control` from
            the control's loss at the same tokens.
    """
    form = find_form("regrowth")
    assert isinstance(form, Regrowth)
    # from the control there is no drift to predict; of a family without one it is in the end of the curves
    drift = Drift() if baseline == "control" else fitted.drifts.get(seen.family, _usual(fitted.drifts))
    usual = usual_in(seen)
    labels: dict[str, tuple[object, ...]] = {"family": (seen.family,), "method": (seen.method,)}

    def rows(size: int | None) -> np.ndarray:
        known = labels if size is None else {**labels, "model": (seen.family, size)}
        drawn = draw_parameters(
            fitted.hierarchy, fitted.gap_law, drift.of(size), [known], usual, draws=draws, seed=seed
        )
        return drawn[0]

    new = rows(None)
    models = fitted.hierarchy.model.arrays.labels["model"]
    sizes = {int(str(model[1])): rows(int(str(model[1]))) for model in models if model[0] == seen.family}
    return Law(
        family=seen.family,
        method=seen.method,
        form=form.name,
        params=dict(zip(form.names, new[0].tolist(), strict=True)),
        status="ok" if fitted.hierarchy.settled else "flat",
        warnings=tuple(warnings),
        n_runs=len(seen.runs),
        n_points=len(seen),
        metrics={},
        ranges=seen.x.only((*BASIC_NAMES, *_KEPT)).ranges(),
        draws=new[1:],
        run_spread=0.0,
        point_spread=float(np.hypot(*fitted.hierarchy.spreads.noise[:2])),
        baseline=baseline,
        fingerprint=seen.fingerprint(),
        sizes=sizes,
        diagnostics={"pool": pool, **_diagnostics(fitted, seen), "controls": drift.models, "seed": seed},
    )


def _diagnostics(fitted: PoolFit, seen: Observations) -> dict[str, Any]:
    """What a law file keeps of the fit: the first reading (tokens), the noise, the spreads of effects, the evidence."""
    spreads = fitted.hierarchy.spreads
    return {
        "first_reading": float(np.min(seen.x.tokens[seen.x.tokens > 0])),
        "noise": spreads.noise.tolist(),
        "noise_length": noise.LENGTH,
        "spreads": dict(zip(LEVELS, spreads.effects.tolist(), strict=True)),
        "log_evidence": fitted.hierarchy.log_evidence,
    }


def usual_in(seen: Observations) -> Usual:
    """What most runs of a group were pruned and trained with."""
    first = np.unique(seen.run, return_index=True)[1]

    def most(name: str) -> float | None:
        values = seen.x[name][first].tolist() if name in seen.x else []
        known = [value for value in values if np.isfinite(value)]
        return max(dict.fromkeys(known), key=known.count, default=None)

    return Usual(
        refitted=most("refitted") or 0.0, learning_rate=most("learning_rate"), batch_tokens=most("batch_tokens")
    )


def laws_of_pool(pool: Pool, name: str, *, baseline: str, draws: int, seed: int) -> list[Law]:
    """Fit a pool and give the law of each of its groups, with how well it fits the group's own runs."""
    fitted = fit_pool(pool.all_runs, pool.drifts)
    laws = []
    for number, seen in enumerate(pool.groups):
        warnings = [*seen.notes, *notes_of(pool, number)]
        if not fitted.hierarchy.settled:
            warnings.append("the fit has not settled: the curves may be of another kind than this law's")
        law = law_for(
            fitted,
            seen,
            baseline=baseline,
            draws=draws,
            seed=seed,
            pool=name,
            warnings=warnings,
        )
        read = seen.keep(seen.x.tokens > 0)
        found = metrics(read.run, read.x.tokens, read.loss, law.loss(read.x), read.weights())
        laws.append(replace(law, metrics=found))
    return laws


def fit_records(
    records: Sequence[RunRecord], pool: str, *, baseline: str, draws: int, seed: int, skipped: list[str]
) -> list[Law]:
    """The laws of all groups of these runs and controls; what can't be fitted is added to `skipped`.

    Raises `InputError` where nothing can be fitted.
    """
    laws: list[Law] = []
    for one in pools_of(records, pool, baseline=baseline, skipped=skipped):
        try:
            laws.extend(laws_of_pool(one, pool, baseline=baseline, draws=draws, seed=seed))
        except InputError as refused:
            skipped.append(str(refused))
    if not laws:
        raise InputError(f"no group can be fitted: {' | '.join(skipped)}", where="fit")
    return laws


def pools_of(records: Sequence[RunRecord], pool: str, *, baseline: str, skipped: list[str]) -> list[Pool]:
    """The pools of these runs, as the form `regrowth` takes them."""
    groups = observe(records, baseline=baseline, columns=find_form("regrowth").optional, skipped=skipped)
    return make_pools(groups, records, pool)


def _usual(drifts: dict[str, Drift]) -> Drift:
    """The drift of a family that has no run here: that of those that have, as a mean with their spread."""
    known = [drift for drift in drifts.values() if drift.models]
    if not known:
        return Drift()
    shares = np.array([drift.share for drift in known])
    spread = float(np.sqrt(np.mean([d.spread**2 for d in known]) + spread_of(shares) ** 2))
    half = float(np.exp(np.mean(np.log([drift.tokens for drift in known]))))
    return Drift(share=float(shares.mean()), spread=spread, tokens=half)
