"""The law of a method that no run was pruned by: that over the methods of the runs, with the spread between them.

A law of the form `regrowth` draws the effect of a method on psi (`regrow.laws.regrowth.effects`) from a normal
distribution with a spread s that the fit estimates. A method without runs has a new effect. Of M methods with runs, the
mean psi stands for the mean of all methods, known to s/sqrt(M) as far as methods differ. So every draw of the laws of
these methods, moved to the mean, gets an effect with the standard deviation s sqrt(1 + 1/M) and the tails that effects
have (`regrow.laws.regrowth.draws`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.laws.regrowth.before import METHOD_SPREAD
from regrow.laws.regrowth.draws import NAMES, heavy_factors
from regrow.laws.regrowth.effects import LEVEL_BY_PACE
from regrow.laws.regrowth.recipe import log_longer, log_over
from regrow.methods import ANY

#: What a law keeps of the methods whose runs it rests on; a law of a method with runs has no such entry.
METHODS = "methods"
#: Parameters that the effect of a method moves, and those of them that are moved in their logarithm.
_MOVED, _IN_LOG = ("level", "pace", "exponent", "end", "gap"), ("pace", "exponent")
_AT = [NAMES.index(name) for name in _MOVED]
_LOG = np.array([name in _IN_LOG for name in _MOVED])
_USUAL = ("usual_refitted", "usual_rate", "usual_batch")


def law_without_runs(laws: Sequence[Law], method: str) -> Law:
    """The law of a method without runs, from the laws of one family and target; that over all methods, `any`, is left
    out.

    Raises `InputError` for laws that do not share a fit over methods: of another form, or each fitted alone.
    """
    laws = [law for law in laws if law.method != ANY]
    first = max(laws, key=lambda law: law.n_runs)
    names = sorted(law.method for law in laws)
    if len({law.form for law in laws}) > 1 or any(not _shares(law, first) for law in laws):
        raise InputError(
            f"no run was pruned by {method}, and the laws of {', '.join(names)} say nothing of other methods",
            where=first.family,
            hint="fit the form regrowth with a pool of the family's methods: `regrow fit RUNS --form regrowth`",
        )
    usual = [first.params[name] for name in _USUAL]
    effects = _effects(first.diagnostics, len(laws), min(len(law.draws) for law in laws))
    sizes = {size for law in laws for size in law.sizes}
    rows = _over_methods([np.concatenate([law.theta[None, :], law.draws]) for law in laws], usual, effects)
    ranges = {name: _widest([law.ranges[name] for law in laws if name in law.ranges]) for name in first.ranges}
    own = {key: value for key, value in first.diagnostics.items() if key != "held_out_error"}
    return replace(
        first,
        method=method,
        params=dict(zip(first.params, rows[0].tolist(), strict=True)),
        draws=rows[1:],
        sizes={
            size: _over_methods([law.parameters_at(float(size)) for law in laws], usual, effects)
            for size in sorted(sizes)
        },
        status=next((law.status for law in laws if law.status != "ok"), "ok"),
        warnings=tuple(w for w in first.warnings if all(w in law.warnings for law in laws)),
        n_runs=sum(law.n_runs for law in laws),
        n_points=sum(law.n_points for law in laws),
        metrics={},
        ranges=ranges,
        fingerprint="",
        diagnostics={**own, METHODS: names, "first_reading": min(_first_reading(law) for law in laws)},
    )


def methods_of(law: Law) -> tuple[str, ...]:
    """The methods of the runs that the law of a method without runs rests on; empty for any other law."""
    return tuple(law.diagnostics.get(METHODS, ()))


def without_spread(law: Law) -> Law:
    """The law of a method without runs, as if methods did not differ."""
    effects = _effects(law.diagnostics, len(methods_of(law)), len(law.draws))
    gone = np.concatenate([np.zeros((1, len(_MOVED))), -effects])
    rows = {size: _moved(rows, gone) for size, rows in law.sizes.items()}
    return replace(law, draws=_moved(law.draws, -effects), sizes=rows)


def _shares(law: Law, other: Law) -> bool:
    """Whether two laws are of one fit over methods."""
    mine, theirs = law.diagnostics, other.diagnostics
    pooled = "spreads" in mine and mine.get("pool") in ("family", "all")
    return pooled and mine.get("log_evidence") == theirs.get("log_evidence")


def _over_methods(each: Sequence[np.ndarray], usual: Sequence[float], effects: np.ndarray) -> np.ndarray:
    """Parameters [1 + draws, p] of the mean over methods, every draw with an effect; `each` has those of one method.

    Draw i is that of one method, in turn, moved to the mean. The pace is that of the `usual` run.
    """
    each = [_counted_from(rows, usual) for rows in each]
    psi = [_psi(rows[:1]) for rows in each]
    mean = np.mean(psi, axis=0)
    count = len(effects)
    turn = np.arange(count) % len(each)
    drawn = np.stack([each[turn[i]][1 + i] for i in range(count)])
    centre = np.concatenate([psi[turn[i]] for i in range(count)])
    point = np.mean([rows[:1] for rows in each], axis=0)
    point = _moved(point, mean - _psi(point))
    return np.concatenate([point, _moved(drawn, mean - centre + effects)])


def _effects(diagnostics: Mapping[str, Any], methods: int, draws: int) -> np.ndarray:
    """Effects of a new method on level, log pace, log exponent, end and the logarithm of the gap, [draws, 5].

    They are fixed by the numbers of methods and draws, so that they can be taken off again.
    """
    spread = np.zeros(5)
    known = np.asarray(diagnostics["spreads"]["method"], dtype=float)
    spread[: len(known)], spread[4] = known, METHOD_SPREAD
    rng = np.random.default_rng([methods, draws])
    effects = rng.standard_normal((draws, 5)) * heavy_factors(draws, rng)[:, None] * spread * np.sqrt(1 + 1 / methods)
    effects[:, 0] += LEVEL_BY_PACE * effects[:, 1]  # the level counts from what goes with the pace
    return effects


def _psi(rows: np.ndarray) -> np.ndarray:
    """What the effect of a method moves, [n, 5], of parameters [n, p]."""
    values = rows[:, _AT]
    return np.where(_LOG, np.log(np.where(_LOG, values, 1.0)), values)


def _moved(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Parameters [n, p] with what the effect of a method moves moved by so much, [n, 5]."""
    out = rows.copy()
    out[:, _AT] = np.where(_LOG, rows[:, _AT] * np.exp(np.where(_LOG, by, 0.0)), rows[:, _AT] + by)
    return out


def _counted_from(rows: np.ndarray, usual: Sequence[float]) -> np.ndarray:
    """Parameters [n, p] whose pace is that of the `usual` run: refitted or not, learning rate, batch."""
    out = rows.copy()
    refitted, rate, batch = (rows[0, NAMES.index(name)] for name in _USUAL)
    longer = log_longer(log_over(usual[1] or None, rate or None), log_over(usual[2] or None, batch or None))
    longer += (usual[0] - refitted) * rows[:, NAMES.index("pace_refitted")]
    out[:, NAMES.index("pace")] *= np.exp(longer)
    out[:, [NAMES.index(name) for name in _USUAL]] = usual
    return out


def _first_reading(law: Law) -> float:
    return float(law.diagnostics.get("first_reading") or law.ranges["tokens"][0])


def _widest(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ranges), max(high for _, high in ranges)
