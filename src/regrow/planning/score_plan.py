"""A plan by a benchmark's score: the question in errors, as the law has them, and the answer in scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regrow.errors import InputError
from regrow.laws.prediction import as_score
from regrow.planning.criteria import Budget, Gain, Recovery, Slope, Target
from regrow.planning.score_criteria import ScoreGain, ScoreRecovery, ScoreTarget
from regrow.runs.scores import check_fraction

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.planning.plan_spec import PlanSpec

#: how far below guessing a pruned model may score
_BAD_LUCK = 0.05
_SCORE_CRITERIA = (ScoreGain, ScoreRecovery, ScoreTarget)


@dataclass(frozen=True, kw_only=True)
class ScoreAnswer:
    """What a plan says of a score; fractions, None where it is not known.

    Attributes:
        target: `score:NAME`.
        before, start: of the parent and right after pruning; `start_guessed` where the law guesses it.
        score, low, high: at the planned tokens, with its interval.
        end: what the score approaches with endless tokens.
    """

    target: str
    before: float | None
    start: float | None
    start_guessed: bool
    score: float | None
    low: float | None
    high: float | None
    end: float | None

    @property
    def benchmark(self) -> str:
        """The name of the benchmark, or `mean`."""
        return self.target.removeprefix("score:")

    def words(self, level: float) -> str:
        """The score before pruning, right after it, and at the end."""
        before = "parent not known" if self.before is None else f"{self.before:.3f} before"
        start, end = "not known right after pruning", "not known at the end"
        if self.start is not None:
            start = f"{self.start:.3f} right after pruning{' (guessed)' if self.start_guessed else ''}"
        if self.score is not None:
            end = f"{self.score:.3f} at the end{self.between(level)}"
        return f"{before} -> {start} -> {end}"

    def between(self, level: float) -> str:
        """The interval in brackets; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f" ({self.low:.3f} to {self.high:.3f}, {level:.0%})"

    def gap(self) -> str:
        """How far from the parent's score the run ends, in points."""
        if self.score is None or self.before is None:
            return ""
        return f"{100 * (self.score - self.before):+.1f} points from the parent's score"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "target": self.target,
            "score": self.score,
            # as in a prediction, and as a plan calls the ends of its loss
            "low": self.low,
            "high": self.high,
            "score_low": self.low,
            "score_high": self.high,
            "score_before": self.before,
            "score_start": self.start,
            "score_end": self.end,
        }


def in_errors(law: Law, spec: PlanSpec) -> PlanSpec:
    """The question to a law of scores as its errors: scores become losses, and the criterion one of scores.

    A law of losses takes the question as it is. Raises `InputError` for scores asked of a law of losses and the other
    way round, a parent's score that is missing where the law counts from it, and scores below guessing.
    """
    given = [name for name in ("score_before", "score_pruned") if getattr(spec, name) is not None]
    if law.benchmark is None:
        if given or isinstance(spec.criterion, _SCORE_CRITERIA):
            raise InputError(
                "scores asked of a law of losses", where="plan", hint="fit a law of scores: `regrow fit --score NAME`"
            )
        if spec.loss_before is None:
            raise InputError("no loss before pruning", where="plan", hint="give --loss-before, nats/token")
        return spec
    if spec.loss_before is not None or spec.loss_pruned is not None:
        raise InputError(
            f"losses asked of a law of {law.target}", where="plan", hint="give --score-before and --score-pruned"
        )
    _check_scores(law, spec)
    before, pruned = errors_of(law, spec.score_before, spec.score_pruned)
    return replace(spec, loss_before=before, loss_pruned=pruned, criterion=_criterion(spec))


def usual_model(law: Law, size: float | None = None) -> tuple[int, float]:
    """The model of a plan by score that names none: the largest of the law's runs, or the `size` given, and the rate
    at which that size was pruned; of another size, the middle of the law's rates."""
    known = law.diagnostics.get("rates_of_sizes") or {}
    largest = max((int(one) for one in known), default=round(law.ranges["params_before"][1]))
    of = largest if size is None else round(size)
    return of, float(known.get(str(of), sum(law.ranges["pruning_rate"]) / 2))


def errors_of(law: Law, score_before: float | None, score_pruned: float | None) -> tuple[float, float | None]:
    """What a law of scores is asked with in the place of the losses before and right after pruning.

    Raises `InputError` where the parent's score is missing and the law counts from it.
    """
    if score_before is None and law.diagnostics.get("parents_known", True):
        raise InputError(
            "the parent's score is missing", where=law.target, hint="the law counts from it: give --score-before"
        )
    if law.diagnostics.get("parents_known", True):
        before = 1 - float(score_before or 0.0)
    else:  # what stood for it in the fit
        before = float(law.middle.loss_before)
    # a law of runs that were not read right after pruning counts from their first reading
    pruned = None if score_pruned is None or "loss_pruned" not in law.ranges else 1 - score_pruned
    return max(before, 1e-3), None if pruned is None else max(pruned, 1e-3)


def _check_scores(law: Law, spec: PlanSpec) -> None:
    chance = law.diagnostics.get("chance")
    asked = {"--score-before": spec.score_before, "--score-pruned": spec.score_pruned}
    if isinstance(spec.criterion, ScoreTarget):
        asked["--target"] = spec.criterion.score
    for name, value in asked.items():
        if value is None:
            continue
        check_fraction(value, what=name, where=law.target)
        # a pruned model that guesses scores a little less by bad luck
        slack = _BAD_LUCK if name == "--score-pruned" else 0.0
        if chance is not None and value < float(chance) - slack:
            raise InputError(
                f"{name} is {value:g}, below the {float(chance):g} of guessing",
                where=law.target,
                hint="guessing alone scores that: check the benchmark and the number",
            )


def _criterion(spec: PlanSpec) -> Any:
    """The criterion as one of scores."""
    asked = spec.criterion
    if isinstance(asked, (Budget, ScoreGain, ScoreTarget)):
        return asked
    if asked == Gain():
        return ScoreGain()
    if isinstance(asked, ScoreRecovery) or asked == Recovery():
        if spec.score_before is None:
            raise InputError(
                "the parent's score is missing", where="criterion recovery", hint="give it with --score-before"
            )
        share = asked.share if isinstance(asked, (ScoreRecovery, Recovery)) else ScoreRecovery.share
        return ScoreRecovery(share=share, score_before=spec.score_before)
    assert isinstance(asked, (Gain, Slope, Recovery, Target))
    raise InputError(
        f"the criterion {asked.name} in nats with a law of scores",
        where="criterion",
        hint="use ScoreGain, ScoreTarget or ScoreRecovery",
    )


def score_answer(law: Law, spec: PlanSpec, fields: dict[str, Any]) -> ScoreAnswer | None:
    """What a plan's losses, which are errors, say of the score; None for a law of losses.

    Args:
        fields: `loss`, `loss_low`, `loss_high`, `loss_start`, `loss_start_guessed` and `floor` of the plan.
    """
    if law.benchmark is None:
        return None
    known = {name: None if (v := fields[name]) is None else as_score(float(v)) for name in _READ}
    start = known["loss_start"] if spec.score_pruned is None else spec.score_pruned
    return ScoreAnswer(
        target=law.target,
        before=spec.score_before,
        start=start,
        start_guessed=spec.score_pruned is None and start is not None,
        score=known["loss"],
        low=known["loss_high"],
        high=known["loss_low"],
        end=known["floor"],
    )


_READ = ("loss", "loss_low", "loss_high", "loss_start", "floor")
