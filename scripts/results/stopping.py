"""D* as the long runs measured it, beside what laws of shorter runs of other sizes predicted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from regrow.laws import Law, fit, select_law
from regrow.laws.pooled.under_way import law_under_way
from regrow.laws.regrowth.drift import smooth as smooth_control
from regrow.laws.setting import Setting
from regrow.planning import Gain
from regrow.planning.curves import Curves
from regrow.planning.measured import MeasuredTokens, measured_tokens
from regrow.planning.solve import ends, optimal_tokens
from regrow.report.page import read
from regrow.report.picture import FONTS, flat_style
from regrow.report.svg import Chart, Line, Marks, draw
from regrow.runs import RunRecord
from regrow.units import format_count
from results.regrowth import setting_of

#: Gains of a doubling at which it is time to stop, nats: few runs of 4M tokens get to the smaller one.
GAINS = (0.02, 0.01)
#: Share of a run's tokens after which it is predicted from what it has shown, together with the law.
BEGINNING = 0.05
LEVEL = 0.9
#: What counts as a good prediction: a factor from the measured D*.
FACTOR = 1.5


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """D* by a law: tokens and interval, infinity where no number of tokens is enough."""

    tokens: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One long run at one threshold.

    `by` holds the predictions: `regrowth` and `p2` from the short runs of other sizes, `under way` from the run's own
    beginning together with the law. `regret` is the loss, nats/token, lost by stopping where each said.
    """

    run: RunRecord
    min_gain: float
    measured: MeasuredTokens
    first: float
    by: dict[str, Predicted]
    regret: dict[str, float | None]

    @property
    def gap_pruned(self) -> float:
        """The gap right after pruning, nats/token."""
        return self.run.curve[0].loss - self.run.loss_before

    @property
    def passed(self) -> bool:
        """Whether the run went past a D* that lies within its readings."""
        return self.measured.tokens is not None


def stops(short: Sequence[RunRecord], long: Sequence[RunRecord]) -> list[Stop]:
    """Every finished long run that has a control, at both thresholds; `short` are the runs that laws are fitted to."""
    controls = {(r.family, r.params_before): r for r in long if r.is_control}

    @cache
    def laws(family: str, size: int, form: str) -> list[Law]:
        others = [r for r in short if r.family == family and r.params_before != size]
        return list(fit(others, form=form, baseline="control"))

    found = []
    for run in long:
        control = controls.get((run.family, run.params_before))
        if run.is_control or control is None:
            continue
        tokens, gaps = gaps_of(run, control)
        for min_gain in GAINS:
            measured = measured_tokens(tokens, gaps, min_gain=min_gain, level=LEVEL)
            by = {}
            for form in ("regrowth", "p2"):
                law = select_law(laws(run.family, run.params_before, form), method=run.method)
                by[form] = predicted(law, setting_of(run, law), min_gain)
                if form == "regrowth":
                    early = tokens <= BEGINNING * tokens[-1]
                    own, _ = law_under_way(law, setting_of(run, law), tokens[early], run.loss_before + gaps[early])
                    by["under way"] = predicted(own, setting_of(run, own), min_gain)
            regret = {name: lost(measured, one.tokens) for name, one in by.items()}
            found.append(
                Stop(run=run, min_gain=min_gain, measured=measured, first=float(tokens[0]), by=by, regret=regret)
            )
    return found


def gaps_of(run: RunRecord, control: RunRecord) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [n] and the gaps [n] above the smoothed control, nats/token, of the weights as they are.

    The laws predict these. Averaged weights are less noisy, but lag: by 50 steps for `ema:0.98`, and a D* below a few
    hundred steps would be read too late.
    """
    at, moved = np.array([(p.tokens, p.loss) for p in control.curve if p.tokens > 0]).T
    points = [p for p in run.curve if 0 < p.tokens <= at.max()]
    tokens = np.array([float(p.tokens) for p in points])
    return tokens, np.array([p.loss for p in points]) - smooth_control(at, moved, tokens)


def predicted(law: Law, setting: Setting, min_gain: float) -> Predicted:
    """D* of a law at a setting, with its interval."""
    every = optimal_tokens(Gain(min_gain=min_gain), Curves(law, setting))
    low, high = ends(every[1:], LEVEL)
    return Predicted(tokens=float(every[0]), low=low, high=high)


def lost(measured: MeasuredTokens, tokens: float) -> float | None:
    """Loss, nats/token, that stopping at `tokens` instead of the measured D* loses; 0 where it is later."""
    if measured.tokens is None:
        return None
    if tokens >= measured.tokens:
        return 0.0
    ends = np.array([max(tokens, float(np.exp(measured.curve.x[0]))), measured.tokens])
    early, right = measured.curve.mean(ends)
    return max(float(early - right), 0.0)


def stops_table(found: Sequence[Stop], min_gain: float) -> Iterator[list[str]]:
    """Each run that passed its D* at this threshold: measured, predicted, and the loss lost by the prediction."""
    yield [
        "family", "method", "scorer", "size", "rate", "G0", "measured D*", "`regrowth`", "its first 5% too", "`p2`",
        "loss lost: `regrowth`, with 5%, `p2`",
    ]  # fmt: skip
    for stop in found:
        if stop.min_gain != min_gain or not stop.passed:
            continue
        run, m = stop.run, stop.measured
        yield [
            run.family, run.method, scorer_of(run), format_count(run.params_before), f"{run.pruning_rate:.3f}",
            f"{stop.gap_pruned:.3f}", span(m.tokens, m.low, m.high, stop.first),
            *(span(p.tokens, p.low, p.high, stop.first) for p in (stop.by[k] for k in NAMES)),
            ", ".join("-" if stop.regret[k] is None else f"{stop.regret[k]:.4f}" for k in NAMES),
        ]  # fmt: skip


NAMES = ("regrowth", "under way", "p2")


def summary_table(found: Sequence[Stop]) -> Iterator[list[str]]:
    """Over all runs that passed their D*: how near, how sure, and what it cost."""
    yield [
        "threshold, nats", "predicted by", "runs past D*", f"within a factor {FACTOR:g}", "median factor off",
        "median loss lost", "coverage of the 90% interval", "median width of the interval, a factor",
    ]  # fmt: skip
    for min_gain in GAINS:
        passed = [s for s in found if s.min_gain == min_gain and s.passed]
        for name in NAMES:
            if not passed:
                continue
            off = np.array([factor_off(s, name) for s in passed])
            widths = [s.by[name].high / max(s.by[name].low, s.first) for s in passed]
            regrets = [r for s in passed if (r := s.regret[name]) is not None]
            yield [
                f"{min_gain:g}", f"`{name}`" if name != "under way" else "`regrowth` and the first 5%",
                str(len(passed)), f"{np.mean(off <= FACTOR):.2f}", f"{np.median(off):.2f}",
                f"{np.median(regrets):.4f}", f"{np.mean([covers(s, name) for s in passed]):.2f}",
                "no end" if not np.isfinite(np.median(widths)) else f"{np.median(widths):.3g}",
            ]  # fmt: skip


def factor_off(stop: Stop, name: str) -> float:
    """How far, as a factor above 1, a prediction lies from the measured D*; both at least the first reading."""
    one, two = max(stop.by[name].tokens, stop.first), max(stop.measured.tokens or stop.first, stop.first)
    return max(one / two, two / one)


def covers(stop: Stop, name: str) -> bool:
    """Whether the interval holds the measured D*; at or below the first reading counts as one place."""
    by, at = stop.by[name], max(stop.measured.tokens or 0.0, stop.first)
    return max(by.low, stop.first) <= at <= max(by.high, stop.first)


def scorer_of(run: RunRecord) -> str:
    return str((run.spec.get("prune") or {}).get("scorer", "-"))


def span(tokens: float | None, low: float, high: float | None, first: float) -> str:
    """Tokens with an interval; what lies below the first reading is said to."""

    def say(value: float | None) -> str:
        if value is None or not np.isfinite(value):
            return "no end"
        return f"< {format_count(first)}" if value <= first else format_count(value)

    return f"{say(tokens)} ({say(low)} to {say(high)})"


def picture(found: Sequence[Stop], min_gain: float) -> str:
    """Predicted against measured D*, both logarithmic, as an SVG that stands alone."""
    passed = [s for s in found if s.min_gain == min_gain and s.passed]
    measured = np.array([max(s.measured.tokens or 0.0, s.first) for s in passed])
    ends = np.array([measured.min() / 2, measured.max() * 2])
    marks = []
    for style, name in enumerate(NAMES):
        at, low, high = (
            np.log10([float(np.clip(getattr(s.by[name], k), s.first, MOST_SHOWN)) for s in passed])
            for k in ("tokens", "low", "high")
        )
        tips = [f"{s.run.run}: {name}, {span(p.tokens, p.low, p.high, s.first)}" for s in passed for p in (s.by[name],)]
        marks.append(
            Marks(x=measured, y=at, style=style, tips=tips, hollow=name == "p2", shift=6.0 * style, low=low, high=high)
        )
    chart = Chart(
        title="D*: predicted against measured",
        description="Each mark is a run: across where it passed D*, up where laws of shorter runs put it.",
        x_label="measured D*, tokens",
        y_label="predicted D*, tokens",
        lines=[Line(x=ends, y=np.log10(ends), style=6, name="equal")],
        marks=marks,
        y_format=lambda v: format_count(10.0**v),
        y_ticks=tuple(range(4, 10)),
        left=58,
        width=560,
        height=380,
    )
    keys = "".join(
        f'<text x="{120 + 150 * i}" y="16" class="c{i}" font-size="12" style="fill:var(--c{i})">{LEGEND[name]}</text>'
        for i, name in enumerate(NAMES)
    )
    for i, colour in enumerate(re.findall(r"--c\d: (#[0-9a-f]{6});", read("style.css").split("@media", 1)[0])):
        keys = keys.replace(f"var(--c{i})", colour)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 580 410" font-size="11" '
        f'font-family="{FONTS}"><style>{flat_style()}</style><rect width="580" height="410" fill="#ffffff"/>{keys}'
        f'<g transform="translate(10 24)">{str(draw(chart, "stops")).replace("<svg ", SIZED, 1)}</g></svg>'
    )


#: Predictions beyond this are drawn at the edge.
MOST_SHOWN = 1e9
SIZED = '<svg width="560" height="380" '
LEGEND = {"regrowth": "● regrowth", "under way": "■ and its first 5%", "p2": "◇ p2"}
