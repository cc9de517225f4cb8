"""A plan as the card that a report opens with, in the words and numbers of `regrow plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regrow.laws.law import Law
from regrow.laws.prediction import LOSS
from regrow.planning.answer import Plan, say_perplexity
from regrow.planning.cost import say_gpu_time, say_usd
from regrow.planning.criteria import Budget
from regrow.planning.score_plan import ScoreAnswer
from regrow.planning.support import NO_INTERVAL
from regrow.planning.verdict import CANNOT_SAY
from regrow.report.present import MISSING, Row, Table, bound, count, number, per_cent
from regrow.units import plural

#: The headline where the runs support no answer.
NO_ANSWER = "Cannot say yet"
#: What each interval covers, for the note beside it.
OF_DRAWS = "refits of the law on resampled runs: how well the runs pin this number down"
OF_RUNS = "where the loss of a new run would be read, with the scatter between runs"
_HELD_OUT = {"size": "largest sizes", "rate": "highest rates", "tokens": "last tokens"}


@dataclass(frozen=True, kw_only=True)
class Card:
    """A plan in words: what to run, how long, what it costs, how sure.

    `law` is the heading of the law that it was made with, `facts` the lines of `regrow plan` by name. `headline` is the
    number of tokens. Where the runs do not support one, it says so, `instead` gives the law's own figure, and
    `next_run` the run that would settle it. `points` is how far a score ends from the parent's. `losses` has a row for
    each of before pruning, right after it and at the end. `sure` gives the held-out errors of the law.
    """

    heading: str
    law: str
    verdict: str
    because: str
    headline: str
    instead: str
    interval: str
    why: str
    points: str
    facts: Mapping[str, str]
    losses: Table
    loss_interval: str
    cost: str
    time: str
    compute: str
    sure: str
    next_run: str
    warnings: tuple[str, ...]
    judgement: str
    sentence: str


def plan_card(plan: Plan, laws: Sequence[Law] = (), validation_rows: Sequence[Mapping[str, Any]] = ()) -> Card:
    """A plan as a card; the held-out errors of its law come from `laws` and `validation_rows`."""
    refused = plan.verdict == CANNOT_SAY
    law = next((one for one in laws if _made_with(plan, one)), None)
    benchmark = None if plan.scored is None else plan.scored.benchmark
    return Card(
        heading=plan_heading(plan) + ("" if benchmark is None else f", {benchmark}"),
        law=f"{plan.family}, {plan.method}" + ("" if benchmark is None else f", {benchmark}"),
        verdict=plan.verdict,
        because=_sentence(plan.verdict_because),
        headline=NO_ANSWER if refused else f"{count(plan.tokens)} tokens",
        instead=_instead(plan) if refused else "",
        interval=_interval(plan),
        why="" if plan.tokens is None else f"Criterion {plan.criterion}: from there {plan.because}.",
        points="" if plan.scored is None else _sentence(plan.scored.gap()),
        facts=dict(plan.facts()),
        losses=_losses(plan),
        loss_interval=_loss_interval(plan),
        cost="no price given" if plan.cost_usd is None and plan.gpu_hours is not None else _usd(plan),
        time=MISSING if plan.gpu_hours is None else say_gpu_time(plan.gpu_hours),
        compute="" if plan.flops is None else f"{plan.flops:.2e} FLOPs, {plan.flops_how}",
        sure=held_out_words(law, validation_rows),
        next_run=_sentence(plan.next_run or ""),
        warnings=_own_warnings(plan),
        judgement=plan.judgement(),
        sentence=plan.sentence(),
    )


def plan_heading(plan: Plan) -> str:
    """Which model, and how it is pruned."""
    model = plan.model or f"{plan.family} of {count(plan.params_before)}"
    return f"{model}, {plan.method} at a rate of {plan.pruning_rate:.3g}"


def plans_table(plans: Sequence[Plan]) -> Table:
    """Every plan of the report in a row, the recommended one first."""
    several = len({plan.family for plan in plans}) > 1
    priced = any(plan.cost_usd is not None for plan in plans)
    kinds = {plan.scored is None for plan in plans}
    what = "Loss or score" if len(kinds) > 1 else "Loss" if True in kinds else "Score"

    def cells(plan: Plan) -> tuple[str, ...]:
        ends = "fixed" if plan.criterion == Budget.name else plan.interval().rsplit(", ", 1)[0]
        bare = ends == NO_INTERVAL or (plan.tokens is None and plan.tokens_low is None and plan.tokens_high is None)
        interval = "" if bare else f" ({ends})"
        return (
            f"{plan.family + ', ' if several else ''}{plan.method} at {plan.pruning_rate:.3g}"
            + ("" if plan.scored is None else f", {plan.scored.benchmark}"),
            plan.verdict,
            count(plan.params_after),
            (bound(plan) if plan.tokens is None else count(plan.tokens)) + interval,
            _ends(plan),
            number(plan.gap, "+.3f") if plan.scored is None else plan.scored.gap().split(" from", 1)[0] or MISSING,
            MISSING if plan.gpu_hours is None else say_gpu_time(plan.gpu_hours),
            *((_usd(plan),) if priced else ()),
        )

    return Table(
        caption="All plans of this report, the recommended one first; in brackets the intervals, as above.",
        head=("Plan", "Verdict", "Left", "D*", what, "Gap", "GPU time") + (("Cost",) if priced else ()),
        rows=tuple(Row(cells=cells(plan), strong=i == 0) for i, plan in enumerate(plans)),
        label="Plans",
        wraps=True,
    )


def _ends(plan: Plan) -> str:
    """The loss or the score at the end, with its interval."""
    if plan.scored is not None:
        return number(plan.scored.score, ".3f") + plan.scored.between(plan.level).replace(f", {plan.level:.0%}", "")
    known = plan.loss_low is not None and plan.loss_high is not None
    return number(plan.loss, ".3f") + (f" ({plan.loss_low:.3f} to {plan.loss_high:.3f})" if known else "")


def _made_with(plan: Plan, law: Law) -> bool:
    of = LOSS if plan.scored is None else plan.scored.target
    return (plan.family, plan.method, plan.form, of) == (law.family, law.method, law.form, law.target)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _instead(plan: Plan) -> str:
    """The law's own figure, for a plan whose answer the runs do not support."""
    if plan.tokens_reason is not None:
        return ""  # the reason of the verdict says it
    if plan.tokens is None:
        return f"No number of tokens is enough that {plan.because}."
    return f"The law's own figure is {count(plan.tokens)} tokens ({plan.interval()})."


def _interval(plan: Plan) -> str:
    if plan.tokens is None and plan.tokens_low is None and plan.tokens_high is None:
        return ""
    if plan.criterion == Budget.name:
        return "what the budget pays for"
    words = plan.interval()
    return f"{words} of the law's draws" if words != NO_INTERVAL else words


def _usd(plan: Plan) -> str:
    return MISSING if plan.cost_usd is None else say_usd(plan.cost_usd)


def _losses(plan: Plan) -> Table:
    """Loss, perplexity and gap before pruning, right after it and at the end."""
    if plan.scored is not None:
        return _scores(plan.scored)
    start, end = plan.loss_start, plan.loss
    guessed = " (guessed)" if plan.loss_start_guessed else ""
    rows = [
        ("before pruning", number(plan.loss_before, ".3f"), say_perplexity(plan.loss_before), ""),
        (
            f"right after pruning{guessed}",
            number(start, ".3f"),
            MISSING if start is None else say_perplexity(start),
            MISSING if start is None else f"{start - plan.loss_before:+.3f}",
        ),
        (
            "at the end",
            number(end, ".3f"),
            MISSING if end is None else say_perplexity(end),
            number(plan.gap, "+.3f"),
        ),
    ]
    return Table(
        caption="Held-out loss and its gap to the loss before pruning, nats/token",
        head=("", "Loss", "Perplexity", "Gap"),
        rows=tuple(Row(cells=cells, strong=i == 2) for i, cells in enumerate(rows)),
        label="Losses",
    )


def _scores(scored: ScoreAnswer) -> Table:
    """The score, as a share of the parent's and its gap to it, before pruning, right after it and at the end."""
    before, guessed = scored.before, " (guessed)" if scored.start_guessed else ""
    names = ("before pruning", f"right after pruning{guessed}", "at the end")
    rows: list[tuple[str, ...]] = []
    for name, score in zip(names, (before, scored.start, scored.score), strict=True):
        known = score is not None and before is not None and before > 0
        share = f"{score / before:.2f}" if known and score is not None and before is not None else MISSING
        gap = f"{100 * (score - before):+.1f}" if score is not None and before is not None else MISSING
        rows.append((name, number(score, ".3f"), share, gap if rows else ""))
    return Table(
        caption=f"{scored.target}, a fraction, and its gap to the parent's in points",
        head=("", "Score", "Of the parent's", "Gap, points"),
        rows=tuple(Row(cells=cells, strong=i == 2) for i, cells in enumerate(rows)),
        label="Scores",
    )


def _loss_interval(plan: Plan) -> str:
    if plan.scored is not None:
        words = plan.scored.between(plan.level)
        return f"{words.strip(' ()')} of new runs" if words else ""
    if plan.loss_low is None or plan.loss_high is None:
        return ""
    return f"{plan.loss_low:.3f} to {plan.loss_high:.3f}, {plan.level:.0%} of new runs"


def held_out_words(law: Law | None, validation_rows: Sequence[Mapping[str, Any]]) -> str:
    """The held-out error of the law's form in a sentence: measured here, or else as the law file says."""
    mine = [row for row in validation_rows if law is not None and _is_of(row, law) and row.get("mape") is not None]
    if mine:
        names = [_HELD_OUT.get(str(row.get("hold_out")), str(row.get("hold_out"))) for row in mine]
        inside = [number(row.get("coverage"), ".0%") for row in mine]
        if law is not None and law.benchmark is not None:
            points = ", ".join(f"{name} {100 * row['mae']:.1f}" for name, row in zip(names, mine, strict=True))
            return f"Held out, it was off by: {points} points. Inside its 90% band: {', '.join(inside)}."
        errors = ", ".join(f"{name} {per_cent(row['mape'])}" for name, row in zip(names, mine, strict=True))
        return f"Held out, it was off by: {errors} of the loss. Inside its 90% band: {', '.join(inside)}."
    error = None if law is None else law.diagnostics.get("held_out_error")
    if error is not None:
        return f"On held-out runs it was off by {per_cent(error)} of the loss."
    return "Its error on held-out runs is not known: `regrow validate` tells it."


def _is_of(row: Mapping[str, Any], law: Law) -> bool:
    named = (row.get("family"), row.get("method"), row.get("form"), row.get("target", LOSS))
    return named == (law.family, law.method, law.form, law.target)


def _own_warnings(plan: Plan) -> tuple[str, ...]:
    """The plan's own warnings, and how many its law has: these are listed once, with the law."""
    own = [warning for warning in plan.warnings if not warning.startswith("the law: ")]
    of_law = len(plan.warnings) - len(own)
    if of_law:
        own.append(f"the law carries {plural(of_law, 'warning')} of its own: see the law")
    return tuple(own)
