"""A law of the form `regrowth` for one run under way: what the law knows and what the run has shown, together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regrow.laws.forms.regrowth import Regrowth
from regrow.laws.law import Law
from regrow.laws.regrowth.condition import Readings, condition
from regrow.laws.regrowth.curve import effective_tokens
from regrow.laws.regrowth.draws import NAMES, parameters_around
from regrow.laws.setting import Setting

#: readings this much further from the law than they should be, squared, are of another kind of run
_STRANGE = 4.0


def with_first_reading(setting: Setting, tokens: np.ndarray, losses: np.ndarray) -> Setting:
    """The setting with the reading at 0 tokens as its `loss_pruned`, where that is not known and was read."""
    read = (np.asarray(tokens) == 0) & np.isfinite(losses)
    if "loss_pruned" in setting or not read.any():
        return setting
    return setting.replace(loss_pruned=float(np.asarray(losses)[read][0]))


def law_under_way(law: Law, setting: Setting, tokens: np.ndarray, losses: np.ndarray) -> tuple[Law, list[str]]:
    """The law of a run with these readings, and what is to be said of it.

    Args:
        setting: what the run is, one point without tokens; a reading at 0 tokens stands for its `loss_pruned`.
        tokens, losses: evaluations of the run [n]; with none above 0 tokens the law stays that of any such run.
    """
    form = law.formula
    assert isinstance(form, Regrowth)
    tokens, losses = np.asarray(tokens, dtype=float), np.asarray(losses, dtype=float)
    fine = np.isfinite(losses)
    tokens, losses = tokens[fine], losses[fine]
    setting = with_first_reading(setting, tokens, losses)
    read = tokens > 0
    if not read.any():
        return law, ["by the law alone: no evaluation yet"]
    every = law.parameters_at(setting.params_before)
    one = setting.ravel()
    gaps = np.broadcast_to(form.gap_pruned(every, one), (len(every), 1))
    psi = form.numbers(every, one, gaps)[:, 0]
    # where the gap was not measured, what is not known of it is a level that is not known
    psi[:, 0] += np.log(gaps[:, 0] / gaps[0, 0])
    point = setting.point()
    warmup = point.get("warmup_tokens", 0.0)
    half = every[0, NAMES.index("drift_tokens")]
    readings = Readings(
        tokens=effective_tokens(tokens[read], warmup),
        loss=losses[read],
        loss_before=point["loss_before"],
        gap_pruned=float(gaps[0, 0]),
        drifted=1 / (1 + half / tokens[read]),
        stderr=None if law.benchmark is None else np.full(int(read.sum()), _noise_of_scores(law)),
    )
    prior = np.column_stack([psi, every[:, NAMES.index("drift")]])
    spreads = np.array(law.diagnostics["noise"], dtype=float)
    rng = np.random.default_rng(0)
    found, strange = condition(prior, readings, spreads, draws=len(law.draws), rng=rng)
    covariate = form.covariates(every[:1], one, gaps[:1])
    start = every[0].copy()
    # the gap that the curve starts from is now what the readings were fitted with
    start[NAMES.index("gap")] = np.log(gaps[0, 0])
    start[[NAMES.index("gap_rate"), NAMES.index("gap_size")]] = 0.0
    rows = parameters_around(start, found[:, :4], covariate)
    rows[:, NAMES.index("drift")] = found[:, 4]
    notes = []
    if strange > _STRANGE:
        what = "losses" if law.benchmark is None else "scores"
        notes.append(
            f"the run's {what} lie {np.sqrt(strange):.1f} times as far from the law as they should: "
            "the law may not be of this model and this data"
        )
    params = dict(zip(law.params, rows[0].tolist(), strict=True))
    return replace(law, params=params, draws=rows[1:], sizes={}), notes


def _noise_of_scores(law: Law) -> float:
    """Standard deviation of a reading of the benchmark around its curve, a fraction."""
    late = float(law.diagnostics["reading_noise"]["late"])
    # the mean of several benchmarks scatters by less
    count = len(law.diagnostics.get("benchmarks", ())) or 1
    return late / float(np.sqrt(count))
