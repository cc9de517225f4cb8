"""Pruning in one step against pruning and training in turns, with as many tokens in all.

A law that starts from the gap right after pruning (`regrowth`) is read once for each stage: from the loss right after
the stage's own pruning, with the stage's tokens. What a later pruning costs at once is not known before it is done. It
is taken to be `COST` times what the rates differ by in one step, start(second rate) - start(first rate), and is added
to the loss that the first stage ended with. The law assumes that a model that was trained in between recovers as one
that was not; docs/study.md shows how far that held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.pooled.unseen import METHODS
from regrow.laws.setting import Setting
from regrow.methods import is_masked
from regrow.planning.cost import pruned_model
from regrow.planning.measuring import expected_start
from regrow.planning.recipe import in_recipe
from regrow.planning.support import too_far
from regrow.planning.unseen import no_runs
from regrow.units import check_rate, format_count

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.planning.answer import Plan
    from regrow.planning.plan_spec import PlanSpec
    from regrow.runs.record import RunRecord


#: A later pruning cost 1.29 (depth) and 1.21 times (width) what the rates differ by in one step, in the six runs of
#: `studies/turns/stages-llama.jsonl`, and 1.07 and 1.13 times in those of `stages-qwen2.jsonl`, which were predicted
#: with these numbers. Four cells of two tiny models say little of others: hence the spread of the logarithm.
COST, COST_SPREAD = 1.25, 0.35


@dataclass(frozen=True, kw_only=True)
class Step:
    """One pruning and the training after it. Losses in nats/token, of held-out text.

    Attributes:
        pruning_rate: as a share of the unpruned model.
        tokens: of the training after it.
        loss_start, loss_pruned, loss: just before the pruning, right after it, and at the end of the training.
    """

    pruning_rate: float
    tokens: float
    loss_start: float
    loss_pruned: float
    loss: float

    def sentence(self) -> str:
        """In a few words."""
        return (
            f"to {self.pruning_rate:.3g}: {self.loss_start:.3f} -> {self.loss_pruned:.3f} right after -> "
            f"{self.loss:.3f} after {format_count(self.tokens)} tokens"
        )


@dataclass(frozen=True, kw_only=True)
class StageComparison:
    """One step to a rate against several, with equal tokens.

    `difference` is the loss of the turns less that of the one step, with the interval that the law's draws leave.
    """

    one: Step
    turns: tuple[Step, ...]
    difference: float
    low: float | None
    high: float | None
    level: float

    def sentence(self) -> str:
        """Which ends lower, and how sure the law is of it."""
        better = "pruning in turns ends" if self.difference < 0 else "one step ends"
        text = f"{better} {abs(self.difference):.3f} nats lower"
        if self.low is None or self.high is None:
            return text
        sure = "" if self.low > 0 or self.high < 0 else ", but the law can't tell the two apart"
        return f"{text}{sure} (turns minus one step: {self.low:+.3f} to {self.high:+.3f} nats, {self.level:.0%})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "one": vars(self.one),
            "turns": [vars(step) for step in self.turns],
            "difference": self.difference,
            "difference_low": self.low,
            "difference_high": self.high,
            "level": self.level,
        }


def check_rising(rates: Sequence[float]) -> tuple[float, ...]:
    """The rates of stages. Raises `InputError` for fewer than two, and for rates that do not rise."""
    if len(rates) < 2:
        raise InputError(f"{len(rates)} stage", where="--stages", hint="give at least two rates, e.g. 0.25,0.5")
    for rate in rates:
        check_rate(rate, where="--stages")
    for one, two in pairwise(rates):
        if two <= one:
            raise InputError(f"{two:g} follows {one:g}", where="--stages", hint="the rates of stages must rise")
    return tuple(rates)


def compare_stages(
    law: Law, setting: Setting, rates: Sequence[float], tokens: float, *, level: float = 0.9
) -> StageComparison:
    """Compare one step to the last of `rates` with a step to each, with `tokens` in all, shared out equally.

    Args:
        setting: the model and its loss before pruning; `loss_pruned`, where given, is that of the one step.

    Raises `InputError` for rates that do not rise, and for a law that does not start from the loss right after pruning.
    """
    rates = check_rising(rates)
    if expected_start(law, setting.replace(pruning_rate=rates[-1])) is None:
        raise InputError(
            f"a law of the form {law.form} does not know what a pruning costs at once",
            where="--stages",
            hint="fit one of the form regrowth: regrow fit RUNS --form regrowth",
        )
    count = 1 + len(law.draws)
    before = np.full(count, setting.point()["loss_before"])
    starts = [_start(law, setting, rate, given=rate == rates[-1]) for rate in rates]
    one_end = _end(law, setting, rates[-1], np.full(count, starts[-1]), tokens)
    share, costs = tokens / len(rates), cost_factors(count)
    turns, loss = [], before
    for number, rate in enumerate(rates):
        first = number == 0
        pruned = np.full(count, starts[0]) if first else loss + costs * (starts[number] - starts[number - 1])
        end = _end(law, setting, rate, pruned, share)
        turns.append(_step(rate, share, loss, pruned, end))
        loss = end
    off = loss - one_end
    known = off[1:][np.isfinite(off[1:])]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if len(known) else (None, None)
    return StageComparison(
        one=_step(rates[-1], tokens, before, np.full(count, starts[-1]), one_end),
        turns=tuple(turns),
        difference=float(off[0]),
        low=None if low is None else float(low),
        high=None if high is None else float(high),
        level=level,
    )


def against_turns(
    law: Law, spec: PlanSpec, answer: Plan, rates: Sequence[float], tokens: float | None = None
) -> StageComparison:
    """A plan against pruning to each of `rates` in turn, with `tokens` in all, or else those of the plan.

    Args:
        law, spec: what the plan was made with; the plan is for the last of `rates`.

    Raises `InputError` for a law of scores, a method without runs, a plan without tokens, rates that a shape can't tell
    apart, and as `compare_stages` does.
    """
    rates = check_rising(rates)
    if law.benchmark is not None:
        hint = "plan with a law of losses of the form regrowth"
        raise InputError("a law of scores can't compare one step with turns", where="--stages", hint=hint)
    if is_masked(law.method):
        hint = "depth and width are pruned in turns"
        raise InputError(f"{law.method} sparsity has one rate, and no turns", where="--stages", hint=hint)
    if METHODS in law.diagnostics:
        # the loss after the first pruning would be a guess of the law over other methods
        raise InputError(
            f"{no_runs(law)}, so what its first pruning costs at once is not known",
            where="--stages",
            hint="plan one step, or name a method that the law has runs of",
        )
    total = answer.tokens if tokens is None else tokens
    if total is None:
        raise InputError("the plan has no number of tokens", where="--stages", hint="give them with --stage-tokens")
    reached = [
        pruned_model(
            method=law.method, pruning_rate=rate, params_before=spec.size, architecture=spec.shape
        ).pruning_rate
        for rate in rates
    ]
    law, setting = in_recipe(law, spec.others), spec.setting(answer.pruning_rate)
    refused = too_far(law, law.extrapolates(setting.at(law.ranges["tokens"][0])))
    if refused:
        raise InputError(refused, where="--stages", hint="add runs of larger models and fit again")
    return compare_stages(law, setting, reached, total, level=spec.level)


def predicted_ends(law: Law, record: RunRecord) -> list[float]:
    """The loss at the end of each stage of a run, as a law expects it from the stage's own loss right after pruning."""
    from regrow.runs.turns import stage_runs

    ends = []
    for run in stage_runs(record):
        start, last = run.start_loss, run.curve[-1]
        if start is None:
            raise InputError("no loss right after pruning", where=f"run {run.run}", hint="read it at 0 tokens")
        setting = Setting(
            params_before=float(run.params_before),
            pruning_rate=run.pruning_rate,
            loss_before=run.known_loss_before,
            loss_pruned=start,
            tokens=float(last.tokens),
        )
        ends.append(float(law.loss(setting)))
    return ends


def cost_factors(count: int) -> np.ndarray:
    """By what a later pruning's cost at once is multiplied, of the law itself and of each of its draws, [1 + draws]."""
    numbers = np.random.default_rng(0).standard_normal(count - 1)
    return COST * np.exp(COST_SPREAD * np.concatenate([[0.0], numbers]))


def _start(law: Law, setting: Setting, rate: float, *, given: bool) -> float:
    """The loss right after pruning to a rate in one step: the one given, or the law's guess."""
    if given and "loss_pruned" in setting:
        return setting.point()["loss_pruned"]
    bare = Setting(**{name: value for name, value in setting.items() if name != "loss_pruned"})
    found = expected_start(law, bare.replace(pruning_rate=rate))
    assert found is not None
    return found


def _end(law: Law, setting: Setting, rate: float, pruned: np.ndarray, tokens: float) -> np.ndarray:
    """The loss after `tokens`, of the law itself and of each of its draws, each from its own start, [1 + draws]."""
    at = setting.replace(pruning_rate=rate, tokens=tokens)
    with np.errstate(all="ignore"):
        point = law.loss(at.replace(loss_pruned=pruned[0]))
        if len(pruned) == 1:
            return np.atleast_1d(np.asarray(point, dtype=float))
        drawn = law.loss_draws(at.replace(loss_pruned=pruned[1:]))
    # every draw was read at every start: its own is on the diagonal
    return np.concatenate([[float(point)], np.diagonal(drawn)])


def _step(rate: float, tokens: float, start: np.ndarray, pruned: np.ndarray, end: np.ndarray) -> Step:
    return Step(
        pruning_rate=rate,
        tokens=tokens,
        loss_start=float(start[0]),
        loss_pruned=float(pruned[0]),
        loss=float(end[0]),
    )
