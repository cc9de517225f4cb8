"""The curve that a plan stands on, drawn from its law: of a score, against training from scratch, and in turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from regrow.errors import InputError
from regrow.laws.law import Law
from regrow.laws.prediction import LOSS
from regrow.laws.setting import Setting
from regrow.planning.answer import Plan
from regrow.planning.curves import Curves
from regrow.planning.recipe import in_recipe
from regrow.planning.scratch import ScratchComparison
from regrow.planning.stages import StageComparison, Step
from regrow.planning.support import supported_tokens, too_far
from regrow.report.curves import thinned
from regrow.report.figures import Key, fitted_key
from regrow.report.scored import shown, unit
from regrow.report.svg import Chart, Drop, Line, draw, legend_key
from regrow.units import format_count

#: Draws that a band is drawn by, at most, and points of a curve.
_DRAWS, _POINTS = 400, 60
_WIDE, _HIGH = 560, 320
#: How far beside what has to be seen a chart goes, as a ratio of tokens.
_ROOM = 3.0
#: Two losses this far apart, in nats, are left out of a chart of where they meet.
_FAR = 2.0


def law_of(plan: Plan, laws: Sequence[Law]) -> Law | None:
    """The law that a plan was made with, in its recipe; None where it is not among these, or says nothing of the model
    as that is too far outside its runs."""
    target = LOSS if plan.scored is None else plan.scored.target
    named = (plan.family, plan.method, plan.form, target)
    found = next((law for law in laws if (law.family, law.method, law.form, law.target) == named), None)
    if found is None or found.status == "failed":
        return None
    try:
        law = in_recipe(found, plan.others)
    except InputError:
        return None
    return None if too_far(law, plan.extrapolates) else law


def setting_of(plan: Plan) -> Setting:
    """Where the law was read for a plan, without tokens."""
    given = plan.criterion_options.get("loss_pruned") if plan.loss_pruned is None else plan.loss_pruned
    return Setting(
        params_before=plan.params_before,
        pruning_rate=plan.pruning_rate,
        loss_before=plan.loss_before,
        loss_pruned=given,
        **plan.others,
    )


def reading_tokens(plan: Plan, law: Law, count: int) -> np.ndarray:
    """Tokens [count], even on a log scale, from the first reading of the law's runs to beyond D* and its interval."""
    bounds = supported_tokens(law)
    seen = [end for end in (plan.tokens, plan.tokens_low, plan.tokens_high) if end is not None]
    low, high = min([bounds.first, *seen]), max([law.ranges["tokens"][1], *seen])
    return np.geomspace(max(low, 1.0), min(_ROOM * high, max(bounds.most, high)), count)


def interval_at(plan: Plan, law: Law, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where new runs are expected at tokens [n], lower and upper losses [n]; None without draws."""
    if not len(law.draws):
        return None
    low, high = thinned(law, _DRAWS).interval(setting_of(plan).at(tokens), level=plan.level)
    return np.asarray(low), np.asarray(high)


def score_chart(plan: Plan, law: Law, ident: str) -> Markup:
    """The score against tokens, with the interval of new runs, the parent's score and D*."""
    assert plan.scored is not None
    tokens = reading_tokens(plan, law, _POINTS)
    loss, band = law.loss(setting_of(plan).at(tokens)), interval_at(plan, law, tokens)
    parent = plan.scored.before
    drops = []
    if plan.tokens is not None and plan.scored.score is not None:
        label = f"D* {format_count(plan.tokens)}"
        ends = {} if plan.criterion == "budget" else {"low": plan.tokens_low, "high": plan.tokens_high}
        drops = [Drop(x=plan.tokens, y=plan.scored.score, label=label, style=1, **ends)]
    low, high = (None, None) if band is None else (shown(law, band[1]), shown(law, band[0]))
    chart = Chart(
        title=f"{plan.scored.target} of the plan against tokens",
        description=f"The expected score with {plan.level:.0%} of new runs; the numbers are in the table below.",
        x_label="post-training tokens",
        y_label=unit(law),
        lines=[Line(x=tokens, y=shown(law, loss), low=low, high=high, style=0, name="expected score")],
        rules=[] if parent is None else [(parent, f"parent {parent:.3f}")],
        drops=drops,
        shaded=law.ranges["tokens"],
    )
    return draw(chart, ident)


def scratch_chart(plan: Plan, found: ScratchComparison, law: Law, ident: str) -> tuple[Markup, list[Key]]:
    """Both losses against tokens, with the interval that the draws leave, the crossing and the plan's tokens."""
    tokens = np.geomspace(*scratch_span(plan, found, law), _POINTS)
    lines, names = [], ("pruned", "from scratch")
    both = (Curves(thinned(law, _DRAWS), setting_of(plan)).loss(tokens), found.curve.loss(found.params, tokens))
    for style, (name, losses) in enumerate(zip(names, both, strict=True)):
        low, high = _drawn(losses[1:], plan.level)
        lines.append(Line(x=tokens, y=losses[0], low=low, high=high, style=style, name=name))
    pruned = both[0][0]
    drops = []
    if found.break_even is not None:
        at = float(np.interp(np.log(found.break_even), np.log(tokens), pruned))
        label = f"even at {format_count(found.break_even)}"
        drops.append(Drop(x=found.break_even, y=at, label=label, style=2, low=found.low, high=found.high))
    if found.tokens is not None and plan.loss is not None:
        drops.append(Drop(x=found.tokens, y=plan.loss, label=f"D* {format_count(found.tokens)}", style=0))
    chart = Chart(
        title="Pruned, or trained from scratch",
        description=f"Loss against tokens of the pruned model and of one of {format_count(found.params)} parameters "
        "that is trained from scratch. The numbers are in the table below.",
        x_label="training tokens",
        y_label="loss, nats/token",
        lines=lines,
        drops=drops,
        shaded=law.ranges["tokens"],
        width=_WIDE,
        height=_HIGH,
    )
    keys = [Key(svg=legend_key(i, mark=False), text=name) for i, name in enumerate(names)]
    return draw(chart, ident), [*keys, fitted_key()]


def scratch_span(plan: Plan, found: ScratchComparison, law: Law) -> tuple[float, float]:
    """The tokens between which pruning and training from scratch are compared, near the crossing and the plan."""
    bounds = supported_tokens(law)
    first, most = max(bounds.first, 1.0), min(bounds.most, found.curve.most)
    seen = [end for end in (found.break_even, found.low, found.high, found.tokens) if end is not None]
    if seen:
        return max(first, min(seen) / _ROOM**2), max(min(most, max(seen) * _ROOM**2), max(seen))
    # without a crossing, from where the two are near enough to be told apart in one chart
    tokens = np.geomspace(first, most, _POINTS)
    leads = found.curve.loss(found.params, tokens)[0] - np.asarray(law.loss(setting_of(plan).at(tokens)), dtype=float)
    near = np.flatnonzero(np.abs(leads) < _FAR)
    return (first if not near.size or near[0] > _POINTS // 2 else float(tokens[near[0]])), most


def stage_chart(plan: Plan, found: StageComparison, law: Law, ident: str) -> tuple[Markup, list[Key]]:
    """The loss of one step and of turns against the tokens spent, jumps at each pruning included."""
    ways = {"one step": (found.one,), "in turns": found.turns}
    lines = []
    for style, (name, steps) in enumerate(ways.items()):
        parts, spent = [], 0.0
        for step in steps:
            tokens, loss = _step_curve(plan, step, law)
            parts.append((spent + tokens, loss))
            spent += step.tokens
        x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
        lines.append(Line(x=x, y=y, style=style, name=name))
    chart = Chart(
        title="One step, or in turns",
        description=f"Expected loss against tokens of one step to {found.one.pruning_rate:.3g} and of "
        f"{len(found.turns)} turns. The numbers are in the table below.",
        x_label="post-training tokens, all turns together",
        y_label="loss, nats/token",
        lines=lines,
        rules=[(plan.loss_before, f"before pruning {plan.loss_before:.3f}")],
        shaded=(0.0, law.ranges["tokens"][1]),
        x_log=False,
        width=_WIDE,
        height=_HIGH,
    )
    keys = [Key(svg=legend_key(i, mark=False), text=name) for i, name in enumerate(ways)]
    return draw(chart, ident), [*keys, fitted_key()]


def _step_curve(plan: Plan, step: Step, law: Law) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [n] from 0 to the step's and the loss after them [n], from the step's own loss right after pruning."""
    # no run was read before the first reading: there the curve is a straight line from the start
    first = min(supported_tokens(law).first, step.tokens)
    tokens = np.geomspace(max(first, 1.0), step.tokens, _POINTS)
    at = setting_of(plan).replace(pruning_rate=step.pruning_rate, loss_pruned=step.loss_pruned)
    loss = np.asarray(law.loss(at.at(tokens)), dtype=float)
    return np.concatenate([[0.0], tokens]), np.concatenate([[step.loss_pruned], loss])


def _drawn(losses: np.ndarray, level: float) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The interval of probability `level` over draws [draws, n], lower and upper ends [n]; None without draws."""
    if not len(losses):
        return None, None
    low, high = np.nanquantile(losses, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
