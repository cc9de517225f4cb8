"""What differs between runs: terms that every run shares, and effects with a spread.

psi of a run (`regrow.laws.regrowth.curve`) is a sum of fixed terms (an intercept and the covariates in `TERMS`) and
random effects of its family, its model, its method, its cell (one pruned model) and itself (one order of the data),
normal, independent, with a standard deviation of their own for each of the four numbers. Runs that recover slowly at
first also start lower: the level counts from `LEVEL_BY_PACE` times the log pace, which leaves it nearly independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regrow.laws.regrowth import noise

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
    # solving weights again mends at once what training mends first: what is left closes as a curve does that has come
    # down to it, which at the losses seen (2/3 of the gap left, b near 0.45) takes (2/3)^(-1/b), 2.3 times the tokens
    Term("pace_refitted", 1, "refitted", 0.8, 0.3),
    Term("exponent", 2, "one", float(np.log(1 / 3)), 0.5),
    Term("exponent_gap", 2, "log_gap", 0.0, 0.3),
    Term("exponent_size", 2, "log_size", 0.02, 0.04),
    Term("end", 3, "one", 0.0, 0.01),
    # what is left is worse by its size, as models of that size are: about a third of the exponent of Kaplan et al. 2020
    # (0.076, arXiv 2001.08361). From the runs of 4M tokens; short runs can't tell it
    Term("end_lost", 3, "lost", 0.027, 0.01),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What is expected of runs before they are seen.

    Attributes:
        effects: standard deviations (level, log pace, log exponent, end) of each level: medians of log-normal priors.
        width, end_width: standard deviations of the logarithm of those spreads, and of the end's.
        noise: the three standard deviations of the noise (`regrow.laws.regrowth.noise`), medians as well.
        terms: the fixed terms.
    """

    effects: Mapping[str, tuple[float, float, float, float]]
    width: float
    end_width: float
    noise: tuple[float, float, float]
    terms: tuple[Term, ...]


#: of losses, nats/token
LOSSES = Expected(effects=EXPECTED, width=PRIOR_WIDTH, end_width=END_WIDTH, noise=noise.EXPECTED, terms=TERMS)
#: of the errors of benchmarks, 1 - score: the level `family` is a family's benchmark, `model` a pruned model, whose
#: pace all of its benchmarks share. Scores come back at once for the most part and then slowly, so that where a curve
#: starts says little of it: the level is free. So few and so noisy readings tell no covariates
_SCORE_TERMS = {"level": (0.0, 1.0), "pace": (0.0, 2.0), "exponent": (float(np.log(0.15)), 0.7), "end": (0.0, 0.01)}
_NO_TERM = 1e-4
SCORES = Expected(
    effects={
        "family": (0.3, 0.4, 0.15, 1.0),
        "model": (0.3, 0.4, 0.15, 0.7),
        "method": (0.03, 0.3, 0.1, 0.3),
        "cell": (0.3, 0.4, 0.15, 0.5),
        "run": (0.003, 0.02, 0.01, 0.05),
    },
    width=1.0,
    end_width=0.25,
    noise=(0.002, 0.002, 0.002),
    terms=tuple(
        Term(term.name, term.number, term.covariate, *_SCORE_TERMS.get(term.name, (term.mean, _NO_TERM)))
        for term in TERMS
    ),
)
#: sizes are counted in millions of parameters: where intercepts are read
SIZE = 1e6
#: the smallest gap that a covariate tells from others, in nats
_SMALL = 0.02


def covariates(
    gap_pruned: np.ndarray,
    params_before: np.ndarray,
    pruning_rate: np.ndarray,
    refitted: np.ndarray | float = 0.0,
) -> dict[str, np.ndarray]:
    """The covariates of the terms by name, each of the shape of the gap (nats, parameters, a fraction).

    `lost` is the logarithm of the parameters before pruning over those after it. `refitted` is 1 where the pruner
    solved the weights that stay again, else 0, counted from what is usual.
    """
    gap = np.maximum(gap_pruned, _SMALL)
    return {
        "one": np.ones_like(gap),
        "gap": gap - 1.0,
        "log_gap": np.log(gap),
        "log_size": np.log(params_before / SIZE),
        "lost": -np.log1p(-pruning_rate),
        "refitted": np.broadcast_to(refitted, gap.shape),
    }


def design(known: dict[str, np.ndarray], terms: Sequence[Term] = TERMS) -> np.ndarray:
    """Rows [R, 4, terms] that turn the coefficients of the terms into psi, for `covariates` of shape [R].

    A term of the pace says nothing of the level: what the level's count from the pace would take from it is put back.
    """
    rows = np.zeros((len(known["one"]), 4, len(terms)))
    for column, term in enumerate(terms):
        rows[:, term.number, column] = known[term.covariate]
        if term.number == 1 and term.covariate != "one":
            rows[:, 0, column] -= LEVEL_BY_PACE * known[term.covariate]
    return rows
