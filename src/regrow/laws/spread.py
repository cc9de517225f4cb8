"""How far runs scatter around a law: variance components of the residuals of log loss.

The checkpoints of one run share its data order. The runs of one model size share their model: how well it was trained,
and how well it prunes. So a residual has three parts,

    r = b s_size + u_run + e,    b = gap / loss,

a random effect s of the size (relative to the gap, as it scales what pruning costs), an offset u of the run, and the
noise e of the checkpoint. Their variances follow from three sums of squares, whose expectations are linear in the
variances. What the fit could absorb is projected out first (`regrow.laws.components`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from regrow.laws.components import Factor, components
from regrow.laws.observations import Observations
from regrow.laws.setting import distinct
from regrow.laws.solver import Problem

#: below this many degrees of freedom a spread is shared with other methods of the family
FEW_DOF = 3
#: until runs show another, the random effect of a size is taken to be this share of a run's, relative to the gap; the
#: guess counts as much as this many degrees of freedom. Both were chosen by simulation: intervals of three sizes then
#: cover about as they should, with such an effect and without (benchmarks/laws/recovery.py)
_PRIOR_SHARE, _PRIOR_DOF = 0.3, 0.25
#: fewer degrees of freedom than this say nothing
_LEAST_DOF = 0.5


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviations of the parts of a residual of log loss.

    Attributes:
        between: of a run's offset; `dof` its degrees of freedom, `known` whether there are any.
        within: of a checkpoint around its run's curve.
        size: of the random effect of a size, relative to the gap; `size_dof` its degrees of freedom.
        offset: [runs] what each run lies off, without the effect of its size where that is known.
        noise: [n] what is left of each residual.
        gap_share: [n] b, the share of the gap in the loss.
    """

    between: float
    within: float
    size: float
    dof: float
    size_dof: float
    known: bool
    offset: np.ndarray
    noise: np.ndarray
    gap_share: np.ndarray


def spreads(problem: Problem, theta: np.ndarray, seen: Observations) -> Spread:
    """Estimate the three spreads from the residuals at `theta`, a fitted parameter vector [p] in scaled units."""
    value, jacobian = problem.form.value_and_jacobian(theta[None, :], problem.x)
    assert jacobian is not None
    residual = problem.log_loss - np.log(value[0])
    gap_share = np.maximum(1 - problem.form.baseline(theta[None, :], problem.x)[0] / value[0], 0.0)
    moving = problem.free & (theta > problem.lower) & (theta < problem.upper)
    rows = (jacobian[0] / value[0]).T[:, moving]
    runs = len(seen.runs)
    by_run = Factor(seen.run, np.ones(len(seen.run)))
    by_size = Factor(size_index(seen), gap_share)
    relative = float(np.sqrt(np.mean(gap_share**2)))
    parts = components(residual, (by_run,), rows)
    (between, within), (dof,) = parts.variances, parts.dof
    size, size_dof = 0.0, 0.0
    if 1 < by_size.count < runs and by_size.square().min() > 0:
        both = components(residual, (by_size, by_run), rows)
        if both.dof[0] >= _LEAST_DOF:
            size_dof = both.dof[0]
            if both.variances[0] > 0:  # without an effect of the sizes, all runs inform the spread between runs
                parts, (size, between, within), dof = both, both.variances, both.dof[1]
    known = dof > 0.9
    between = between if known else within
    if relative > 0:
        guess = _PRIOR_SHARE**2 * between / relative**2
        size = (_PRIOR_DOF * guess + size_dof * size) / (_PRIOR_DOF + size_dof)
    return Spread(
        between=float(np.sqrt(between)),
        within=float(np.sqrt(within)),
        size=float(np.sqrt(size)),
        dof=max(dof, 1.0),
        size_dof=max(size_dof + _PRIOR_DOF, 1.0),
        known=known,
        offset=parts.effects[-1],
        noise=parts.rest,
        gap_share=gap_share,
    )


def size_index(seen: Observations) -> np.ndarray:
    """Which of the distinct sizes each checkpoint is of, [n]."""
    return np.searchsorted(distinct(seen.x.params_before), seen.x.params_before, side="right") - 1


def pool(mine: Spread, others: Sequence[Spread]) -> tuple[Spread, str | None]:
    """A spread between runs from few degrees of freedom, joined with what other methods of the family show.

    Variances are averaged by their degrees of freedom. Returns the spread and what to say, None if it stands alone.
    """
    known = [o for o in others if o.known]
    if (mine.known and mine.dof >= FEW_DOF) or not known:
        return mine, None
    parts = [*known, mine] if mine.known else known
    dof = sum(s.dof for s in parts)
    between = float(np.sqrt(sum(s.dof * s.between**2 for s in parts) / dof))
    size_dof = sum(s.size_dof for s in parts)
    size = float(np.sqrt(sum(s.size_dof * s.size**2 for s in parts) / size_dof))
    text = "too few runs to know their spread alone: the spread between runs is shared with the family's other methods"
    return replace(mine, between=between, dof=dof, size=size, size_dof=size_dof, known=True), text
