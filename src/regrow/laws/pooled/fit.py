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
from regrow.laws.regrowth.runs import RunCurve
from regrow.laws.regrowth.score_noise import ScoreNoise, fit_scores
from regrow.laws.setting import BASIC_NAMES, LOSS_PRUNED, WARMUP_TOKENS
from regrow.runs.record import RunRecord

#: spread that the end of the curves is expected to have, a share of the loss: where gaps are counted above a control,
#: and where the parent may be left below
END, END_WITHOUT_CONTROL = 0.003, 0.03
#: the same of the errors of benchmarks, a share of the parent's error; without it, of what stands in its place
SCORE_END, SCORE_END_WITHOUT_PARENT = 0.05, 0.2


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolFit:
    """A fitted pool: the curves, the gaps that they start from, and the noise of each benchmark where it has scores."""

    hierarchy: Hierarchy
    gap_law: GapLaw
    drifts: dict[str, Drift]
    noise: Mapping[str, ScoreNoise] = field(default_factory=dict)


def fit_pool(runs: Sequence[RunCurve], drifts: dict[str, Drift]) -> PoolFit:
    """Fit the runs of a pool together. Raises `InputError` where none has a reading after training."""
    runs = fitted_runs(runs)
    if runs[0].benchmark:
        end = SCORE_END if all(run.parent_known for run in runs) else SCORE_END_WITHOUT_PARENT
        hierarchy, of_scores = fit_scores(runs, end=end)
        return PoolFit(hierarchy=hierarchy, gap_law=fit_gap_law(runs), drifts={}, noise=of_scores)
    end = END if all(run.controlled for run in runs) else END_WITHOUT_CONTROL
    return PoolFit(hierarchy=fit_hierarchy(runs, end=end), gap_law=fit_gap_law(runs), drifts=drifts)


def law_for(
    fitted: PoolFit,
    seen: Observations,
    label: str,
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
        label: the method as the effects know it (`method_label`).
        baseline: `initial` predicts from the loss before pruning, with the drift that training brings; `control` from
            the control's loss at the same tokens.
    """
    form = find_form("regrowth")
    assert isinstance(form, Regrowth)
    # from the control there is no drift to predict; of a family without one it is in the end of the curves
    drift = Drift() if baseline == "control" else fitted.drifts.get(seen.family, _usual(fitted.drifts))
    labels: dict[str, tuple[object, ...]] = {"family": (seen.family,), "method": (label,)}

    def rows(size: int | None) -> np.ndarray:
        known = labels if size is None else {**labels, "model": (seen.family, size)}
        return draw_parameters(fitted.hierarchy, fitted.gap_law, drift.of(size), [known], draws=draws, seed=seed)[0]

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
        ranges=seen.x.only((*BASIC_NAMES, "loss_pruned")).ranges(),
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
            label_of(pool, number),
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
    groups = observe(records, baseline=baseline, columns=(LOSS_PRUNED, WARMUP_TOKENS), skipped=skipped)
    return make_pools(groups, records, pool)


def label_of(pool: Pool, group: int) -> str:
    """The method of a group as the effects know it: of most of its runs."""
    labels = [run.method for run in pool.runs[group]]
    return max(dict.fromkeys(labels), key=labels.count)


def _usual(drifts: dict[str, Drift]) -> Drift:
    """The drift of a family that has no run here: that of those that have, as a mean with their spread."""
    known = [drift for drift in drifts.values() if drift.models]
    if not known:
        return Drift()
    shares = np.array([drift.share for drift in known])
    spread = float(np.sqrt(np.mean([d.spread**2 for d in known]) + spread_of(shares) ** 2))
    half = float(np.exp(np.mean(np.log([drift.tokens for drift in known]))))
    return Drift(share=float(shares.mean()), spread=spread, tokens=half)
