"""What a report shows beside its plans: pruning in turns, training from scratch, and benchmarks side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from regrow.laws.law import Law
from regrow.planning.alternatives import Alternatives
from regrow.planning.answer import Plan
from regrow.planning.scratch import ScratchComparison
from regrow.planning.stages import COST, StageComparison
from regrow.report.card import plan_heading
from regrow.report.figures import Key, Panel, fitted_key
from regrow.report.planned import (
    interval_at,
    law_of,
    reading_tokens,
    score_chart,
    scratch_chart,
    scratch_span,
    setting_of,
    stage_chart,
)
from regrow.report.present import Row, Table, count, number
from regrow.report.svg import legend_key

#: Rows of a table of curves, beside those that the plan asks for.
_ROWS = 5


@dataclass(frozen=True, kw_only=True)
class AlternativeSection:
    """One comparison of a plan: in sentences, as a chart with its legend and caption, and as a table.

    Without the plan's law there is no chart.
    """

    heading: str
    sentences: tuple[str, ...]
    chart: Markup
    legend: tuple[Key, ...]
    caption: str
    table: Table
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScoreSection:
    """The benchmarks of one model and method: a panel for each, and their scores by tokens as a table."""

    heading: str
    panels: tuple[Panel, ...]
    legend: tuple[Key, ...]
    table: Table


def stage_sections(found: Sequence[Alternatives], laws: Sequence[Law]) -> tuple[AlternativeSection, ...]:
    """One step against turns, for each plan that was compared so."""
    asked = [(one.plan, one.stages) for one in found if one.stages is not None]
    return tuple(_stages(plan, turns, law_of(plan, laws), f"stages-{i}") for i, (plan, turns) in enumerate(asked))


def scratch_sections(found: Sequence[Alternatives], laws: Sequence[Law]) -> tuple[AlternativeSection, ...]:
    """Pruning against training from scratch, for each plan that was compared so."""
    asked = [(one.plan, one.scratch) for one in found if one.scratch is not None]
    return tuple(_scratch(plan, other, law_of(plan, laws), f"scratch-{i}") for i, (plan, other) in enumerate(asked))


def score_sections(plans: Sequence[Plan], laws: Sequence[Law]) -> tuple[ScoreSection, ...]:
    """The expected scores by tokens, benchmarks of one model and method together."""
    groups: dict[tuple[str, str, float, float], list[tuple[Plan, Law]]] = {}
    for plan in plans:
        law = None if plan.scored is None else law_of(plan, laws)
        if law is not None:
            key = (plan.family, plan.method, plan.params_before, plan.pruning_rate)
            groups.setdefault(key, []).append((plan, law))
    return tuple(_scores(own, f"scores-{i}") for i, own in enumerate(groups.values()))


def _stages(plan: Plan, found: StageComparison, law: Law | None, ident: str) -> AlternativeSection:
    chart, keys = (Markup(""), []) if law is None else stage_chart(plan, found, law, ident)
    steps = [("one step", found.one), *((f"turn {i}", step) for i, step in enumerate(found.turns, start=1))]
    rows = tuple(
        Row(
            cells=(
                name,
                f"{step.pruning_rate:.3g}",
                count(step.tokens),
                *(number(loss, ".3f") for loss in (step.loss_start, step.loss_pruned, step.loss)),
            )
        )
        for name, step in steps
    )
    table = Table(
        caption=f"One step and {len(found.turns)} turns with as many tokens in all; losses in nats/token.",
        head=("", "To a rate of", "Tokens", "Before", "Right after", "At the end"),
        rows=rows,
        label="One step, or in turns",
    )
    return AlternativeSection(
        heading=plan_heading(plan),
        sentences=(f"{_capital(found.sentence())}.",),
        chart=chart,
        legend=tuple(keys),
        caption=f"What the law expects. A later pruning is taken to cost {COST:g} times what the rates differ by in "
        "one step; the interval of the difference allows for other costs.",
        table=table,
    )


def _scratch(plan: Plan, found: ScratchComparison, law: Law | None, ident: str) -> AlternativeSection:
    chart, keys = (Markup(""), []) if law is None else scratch_chart(plan, found, law, ident)
    return AlternativeSection(
        heading=plan_heading(plan),
        sentences=tuple(f"{_capital(line)}." for line in found.lines()),
        chart=chart,
        legend=tuple(keys),
        caption=f"Bands: {plan.level:.0%} of the draws of each curve; a stated curve has none. The bar on the axis is "
        "the interval of the tokens at which the two are even.",
        table=_scratch_table(plan, found, law),
        warnings=found.warnings,
    )


def _scratch_table(plan: Plan, found: ScratchComparison, law: Law | None) -> Table:
    """Both losses by tokens: at the plan's, where the two are even, and between."""
    marked = {}
    if found.break_even is not None:
        marked[found.break_even] = "even"
    if found.tokens is not None:
        marked[found.tokens] = "D*"
    rows = []
    if law is not None:
        tokens = np.array(sorted({*marked, *np.geomspace(*scratch_span(plan, found, law), _ROWS).tolist()}))
        pruned = np.asarray(law.loss(setting_of(plan).at(tokens)), dtype=float)
        scratch = found.curve.loss(found.params, tokens)[0]
        for at, one, other in zip(tokens.tolist(), pruned, scratch, strict=True):
            name = count(at) + (f" ({marked[at]})" if at in marked else "")
            cells = (name, number(one, ".3f"), number(other, ".3f"), number(round(other - one, 3) + 0.0, "+.3f"))
            rows.append(Row(cells=cells, strong=at in marked))
    return Table(
        caption="Losses of the pruned model and of one trained from scratch, nats/token; above 0 pruning leads.",
        head=("Tokens", "Pruned", "From scratch", "Pruning leads by"),
        rows=tuple(rows),
        label="Pruned, or trained from scratch",
    )


def _scores(own: Sequence[tuple[Plan, Law]], ident: str) -> ScoreSection:
    panels = []
    for i, (plan, law) in enumerate(own):
        panels.append(Panel(heading=_in_points(plan, law), held_out=False, svg=score_chart(plan, law, f"{ident}-{i}")))
    level = f"{own[0][0].level:.0%}"
    keys = [Key(svg=legend_key(0, mark=False), text=f"expected score, with {level} of new runs"), fitted_key()]
    return ScoreSection(
        heading=plan_heading(own[0][0]), panels=tuple(panels), legend=tuple(keys), table=_score_table(own, level)
    )


def _in_points(plan: Plan, law: Law) -> str:
    """The verdict on a benchmark: the score at the end of the plan, and how far that is from its parent's."""
    scored = plan.scored
    assert scored is not None
    if scored.score is None or plan.tokens is None:
        return f"{law.benchmark}: {plan.tokens_reason or 'no number of tokens is enough'}"
    gap = "" if scored.before is None else f", {100 * (scored.score - scored.before):+.1f} points"
    return f"{law.benchmark}: {scored.score:.3f} after {count(plan.tokens)} tokens{gap}"


def _score_table(own: Sequence[tuple[Plan, Law]], level: str) -> Table:
    first, law = own[0]
    tokens = reading_tokens(first, law, _ROWS)
    columns = []
    for plan, its in own:
        score = 1 - np.asarray(its.loss(setting_of(plan).at(tokens)), dtype=float)
        band = interval_at(plan, its, tokens)
        columns.append(
            [
                number(score[i], ".3f") + ("" if band is None else f" ({1 - band[1][i]:.3f} to {1 - band[0][i]:.3f})")
                for i in range(len(tokens))
            ]
        )
    return Table(
        caption=f"Expected scores by tokens, fractions; in brackets {level} of new runs.",
        head=("Tokens", *(str(its.benchmark) for _, its in own)),
        rows=tuple(Row(cells=(count(float(at)), *cells)) for at, *cells in zip(tokens, *columns, strict=True)),
        label="Scores by tokens",
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
