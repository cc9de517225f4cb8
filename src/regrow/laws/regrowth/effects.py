"""What differs between runs: terms that every run shares, and effects with a spread.

psi of a run (`regrow.laws.regrowth.curve`) is a sum of fixed terms (an intercept and the covariates in `TERMS`) and
random effects of its family, its model, its method, its cell (one pruned model) and itself (one order of the data),
normal, independent, with a standard deviation of their own for each of the four numbers. Runs that recover slowly at
first also start lower: the level counts from `LEVEL_BY_PACE` times the log pace, which leaves it nearly independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: levels of effects, from the widest to the narrowest; a cell lies within a model, a run within a cell
LEVELS = ("family", "model", "method", "cell", "run")
#: how the level goes with the log pace; the marginal likelihood of the runs of studies/ladder-* is highest here among
#: -0.3, -0.2, -0.1, 0 and 0.1
LEVEL_BY_PACE = -0.1
#: levels that cut across each other, and those that lie within one another
CROSSED, NESTED = LEVELS[:3], LEVELS[3:]
#: standard deviations (level, log pace, log exponent, end) expected of each level before the runs are seen: the median
#: of a log-normal prior of which `PRIOR_WIDTH` is the standard deviation. From the runs of studies/, rounded
EXPECTED = {
    "family": (0.02, 0.15, 0.05, 0.003),
    "model": (0.02, 0.20, 0.06, 0.0024),
    "method": (0.025, 0.25, 0.12, 0.0018),
    "cell": (0.025, 0.40, 0.10, 0.0018),
    "run": (0.003, 0.015, 0.006, 0.0006),
}
PRIOR_WIDTH = 0.7
#: the same for the end: few runs come near theirs, and an end and an exponent can stand for each other. Its spreads are
#: those that the runs of 4M tokens allow (docs/results.md, the tail); short runs can't tell them
END_WIDTH = 0.25
#: standard deviation of the level of a run whose loss right after pruning was not read
UNMEASURED = 0.7
#: degrees of freedom of the t distribution that effects are drawn from: families and methods are few, and some are odd
TAILS = 5.0


class Term:
    """A fixed term: the number of psi that it belongs to, its covariate, and its normal prior (mean, standard
    deviation)."""

    def __init__(self, name: str, number: int, covariate: str, mean: float, deviation: float) -> None:
        self.name, self.number, self.covariate = name, number, covariate
        self.mean, self.deviation = mean, deviation


#: chosen by held-out error on studies/ladder-* (docs/laws.md says what else was tried and did not earn its place)
TERMS = (
    Term("level", 0, "one", 0.0, 0.05),
    Term("level_gap", 0, "gap", 0.0, 0.1),
    # counted from the typical pace of the runs, whatever the scale of their tokens
    Term("pace", 1, "one", 0.0, 2.0),
    Term("exponent", 2, "one", float(np.log(1 / 3)), 0.5),
    Term("exponent_gap", 2, "log_gap", 0.0, 0.3),
    Term("exponent_size", 2, "log_size", 0.02, 0.04),
    Term("end", 3, "one", 0.0, 0.01),
)
#: sizes are counted in millions of parameters: where intercepts are read
SIZE = 1e6
#: the smallest gap that a covariate tells from others, in nats
_SMALL = 0.02


def covariates(gap_pruned: np.ndarray, params_before: np.ndarray) -> dict[str, np.ndarray]:
    """The covariates of the terms by name, each of the shape of the inputs (nats, parameters)."""
    gap = np.maximum(gap_pruned, _SMALL)
    return {
        "one": np.ones_like(gap),
        "gap": gap - 1.0,
        "log_gap": np.log(gap),
        "log_size": np.log(params_before / SIZE),
    }


def design(
    gap_pruned: np.ndarray, params_before: np.ndarray, pruning_rate: np.ndarray, terms: Sequence[Term] = TERMS
) -> np.ndarray:
    """Rows [R, 4, terms] that turn the coefficients of the terms into psi.

    Beside `covariates` a term may read `log_left`, the logarithm of the share of the parameters that is left: the law's
    own terms don't, the search for terms tries it.
    """
    known = {**covariates(gap_pruned, params_before), "log_left": np.log1p(-pruning_rate)}
    rows = np.zeros((len(gap_pruned), 4, len(terms)))
    for column, term in enumerate(terms):
        rows[:, term.number, column] = known[term.covariate]
    return rows
