"""A plan as the card that a report opens with, in the words and numbers of `regrow plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regrow.laws.law import Law
from regrow.planning.answer import NO_INTERVAL, Plan, say_perplexity
from regrow.planning.cost import say_gpu_time, say_usd
from regrow.planning.criteria import Budget
from regrow.planning.verdict import CANNOT_SAY
from regrow.report.present import MISSING, Row, Table, bound, count, number, per_cent

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
    `next_run` the run that would settle it. `losses` has a row for each of before pruning, right after it and at the
    end. `sure` gives the held-out errors of the law.
    """

    heading: str
    law: str
    verdict: str
    because: str
    headline: str
    instead: str
    interval: str
    why: str
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
    return Card(
        heading=f"{plan.model or plan.family + ' of ' + count(plan.params_before)}, {plan.method} at a rate of "
        f"{plan.pruning_rate:.3g}",
        law=f"{plan.family}, {plan.method}",
        verdict=plan.verdict,
        because=_sentence(plan.verdict_because),
        headline=NO_ANSWER if refused else f"{count(plan.tokens)} tokens",
        instead=_instead(plan) if refused else "",
        interval=_interval(plan),
        why="" if plan.tokens is None else f"Criterion {plan.criterion}: from there {plan.because}.",
        facts=dict(plan.facts()),
        losses=_losses(plan),
        loss_interval=_loss_interval(plan),
        cost="no price given (--price)" if plan.cost_usd is None and plan.gpu_hours is not None else _usd(plan),
        time=MISSING if plan.gpu_hours is None else say_gpu_time(plan.gpu_hours),
        compute="" if plan.flops is None else f"{plan.flops:.2e} FLOPs, {plan.flops_how}",
        sure=held_out_words(law, validation_rows),
        next_run=_sentence(plan.next_run or ""),
        warnings=_own_warnings(plan),
        judgement=plan.judgement(),
        sentence=plan.sentence(),
    )


def plans_table(plans: Sequence[Plan]) -> Table:
    """Every plan of the report in a row, the recommended one first."""
    several = len({plan.family for plan in plans}) > 1
    priced = any(plan.cost_usd is not None for plan in plans)

    def cells(plan: Plan) -> tuple[str, ...]:
        known = plan.loss_low is not None and plan.loss_high is not None
        ends = "fixed" if plan.criterion == Budget.name else plan.interval().rsplit(", ", 1)[0]
        interval = "" if ends == NO_INTERVAL else f" ({ends})"
        return (
            f"{plan.family + ', ' if several else ''}{plan.method} at {plan.pruning_rate:.3g}",
            plan.verdict,
            count(plan.params_after),
            (bound(plan) if plan.tokens is None else count(plan.tokens)) + interval,
            number(plan.loss, ".3f") + (f" ({plan.loss_low:.3f} to {plan.loss_high:.3f})" if known else ""),
            number(plan.gap, "+.3f"),
            MISSING if plan.gpu_hours is None else say_gpu_time(plan.gpu_hours),
            *((_usd(plan),) if priced else ()),
        )

    return Table(
        caption="All plans of this report, the recommended one first; in brackets the intervals, as above.",
        head=("Plan", "Verdict", "Left", "D*", "Loss", "Gap", "GPU time") + (("Cost",) if priced else ()),
        rows=tuple(Row(cells=cells(plan), strong=i == 0) for i, plan in enumerate(plans)),
        label="Plans",
    )


def _made_with(plan: Plan, law: Law) -> bool:
    return (plan.family, plan.method, plan.form) == (law.family, law.method, law.form)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _instead(plan: Plan) -> str:
    """The law's own figure, for a plan whose answer the runs do not support."""
    if plan.tokens_reason is not None:
        return ""  # the reason of the verdict says it
    if plan.tokens is None:
        return f"No number of tokens is enough that {plan.because}."
    return f"The law's own figure is {count(plan.tokens)} tokens, with {_article(plan)}."


def _article(plan: Plan) -> str:
    words = plan.interval()
    return words if words == NO_INTERVAL else f"an interval of {words}"


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


def _loss_interval(plan: Plan) -> str:
    if plan.loss_low is None or plan.loss_high is None:
        return ""
    return f"{plan.loss_low:.3f} to {plan.loss_high:.3f}, {plan.level:.0%} of new runs"


def held_out_words(law: Law | None, validation_rows: Sequence[Mapping[str, Any]]) -> str:
    """The held-out error of the law's form in a sentence: measured here, or else as the law file says."""
    mine = [row for row in validation_rows if law is not None and _is_of(row, law) and row.get("mape") is not None]
    if mine:
        names = [_HELD_OUT.get(str(row.get("hold_out")), str(row.get("hold_out"))) for row in mine]
        errors = ", ".join(f"{name} {per_cent(row['mape'])}" for name, row in zip(names, mine, strict=True))
        inside = [number(row.get("coverage"), ".0%") for row in mine]
        return f"Held out, it was off by: {errors} of the loss. Inside its 90% band: {', '.join(inside)}."
    error = None if law is None else law.diagnostics.get("held_out_error")
    if error is not None:
        return f"On held-out runs it was off by {per_cent(error)} of the loss."
    return "Its error on held-out runs is not known: `regrow validate` tells it."


def _is_of(row: Mapping[str, Any], law: Law) -> bool:
    return (row.get("family"), row.get("method"), row.get("form")) == (law.family, law.method, law.form)


def _own_warnings(plan: Plan) -> tuple[str, ...]:
    """The plan's own warnings, and how many its law has: these are listed once, with the law."""
    own = [warning for warning in plan.warnings if not warning.startswith("the law: ")]
    of_law = len(plan.warnings) - len(own)
    if of_law:
        own.append(f"the law carries {of_law} warning{'' if of_law == 1 else 's'} of its own: see the law")
    return tuple(own)
