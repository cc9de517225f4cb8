"""Small charts as inline SVG.

One drawing serves the page, the PNG and notebooks, of which two run no script; colours come from the page's style
sheet, so that dark mode and print work. docs/report.md says why no chart library does this. All text is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape

from regrow.report.axes import Axis, padded, same_decimals
from regrow.units import format_count

#: Series differ by colour (classes c0 to c6: Okabe-Ito), by mark and by dash, so that no one of them is needed.
MARKS = ("circle", "square", "diamond", "up", "down", "cross", "plus")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "1 2", "12 4")
#: Pixels of the vertical axis: its label with the gaps beside it, and a character of a tick.
_AXIS_LABEL, _CHARACTER = 24, 7


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """A curve: `x` and `y` [n], with a band `low` to `high` [n] if known. `style` picks colour and dash."""

    x: np.ndarray
    y: np.ndarray
    style: int
    name: str
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    css: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """Points `x`, `y` [n] with a tooltip each, or without any where `tips` is empty: a mark then weighs a tenth.

    `hollow` is for what was never fitted, or what something else beats.

    They are drawn `shift` pixels to the right, so that series at one place stand side by side. Where given, `low` to
    `high` [n] are drawn as whiskers, `sizes` [n] multiply the marks, and `labels` [n] stand
    beside them as far as there is room.
    """

    x: np.ndarray
    y: np.ndarray
    style: int
    tips: list[str]
    hollow: bool = False
    shift: float = 0.0
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    sizes: np.ndarray | None = None
    labels: list[str] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Drop:
    """A place on a curve that is pointed out: a line from (`x`, `y`) down to the axis, and its `label`.

    Its interval, `low` to `high`, is a bar on the axis; an end that is None is open and runs to the chart's edge. With
    neither there is no bar.
    """

    x: float
    y: float
    label: str
    style: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Chart:
    """What to draw. `rules` are horizontal lines with a label; `title` and `description` are for screen readers."""

    title: str
    description: str
    x_label: str
    y_label: str
    lines: list[Line] = field(default_factory=list)
    marks: list[Marks] = field(default_factory=list)
    rules: list[tuple[float, str]] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    #: where along x a law was fitted; shaded
    shaded: tuple[float, float] | None = None
    x_log: bool = True
    x_format: Callable[[float], str] = format_count
    #: None writes all ticks of the axis with as many decimals as they need
    y_format: Callable[[float], str] | None = None
    #: where the ticks go, if not at round numbers, and the room for their labels
    y_ticks: tuple[float, ...] | None = None
    left: int = 52
    width: int = 420
    height: int = 280


def draw(chart: Chart, ident: str) -> Markup:
    """The chart as an SVG element; `ident` must be unique on the page. Empty markup if there is nothing to draw."""
    xs = [line.x for line in chart.lines] + [marks.x for marks in chart.marks]
    if not any(len(x) for x in xs):
        return Markup("")
    all_x = np.concatenate(xs)
    low, high = padded(_heights(chart))
    right, top, bottom = chart.width - 10, 10, chart.height - 40
    y = Axis(low=low, high=high, start=bottom, end=top)
    ticks = _y_ticks(chart, y)
    # room for the axis label and the longest tick
    left = max(chart.left, _AXIS_LABEL + _CHARACTER * max(len(text) for _, text in ticks))
    if chart.x_log:
        x = Axis(low=float(all_x.min()) / 1.15, high=float(all_x.max()) * 1.15, start=left, end=right, log=True)
    else:
        low, high = padded(all_x)
        x = Axis(low=low, high=high, start=left, end=right)
    clip = f"{ident}-clip"
    css = "chart wide" if chart.width > 420 else "chart"
    parts = [
        f'<svg class="{css}" viewBox="0 0 {chart.width} {chart.height}" role="img" '
        f'aria-labelledby="{ident}-t {ident}-d">',
        f'<title id="{ident}-t">{escape(chart.title)}</title><desc id="{ident}-d">{escape(chart.description)}</desc>',
        f'<clipPath id="{clip}"><rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/></clipPath>',
        *_grid(chart, x, ticks, (left, right, top, bottom)),
        f'<g clip-path="url(#{clip})">',
        _shade(chart.shaded, x, (top, bottom)) if chart.shaded is not None else "",
        *(_rule(value, label, y, (left, right), _rule_side(chart, value)) for value, label in chart.rules),
        *(_band(line, x, y) for line in chart.lines if line.low is not None and line.high is not None),
        *(_path(line, x, y) for line in chart.lines),
        *(whisker for marks in chart.marks for whisker in _whiskers(marks, x, y)),
        *(_drop(drop, x, y) for drop in chart.drops),
        "</g>",
        *(_drop_label(drop, x, y, number) for number, drop in enumerate(chart.drops)),
        *(mark for marks in chart.marks if marks.tips for mark in _marks(marks, x, y)),
        *_repeated([marks for marks in chart.marks if not marks.tips], x, y, ident),
        *_labels(chart.marks, x, y),
        "</svg>",
    ]
    return Markup("".join(parts))


def _heights(chart: Chart) -> np.ndarray:
    """Every y that must be seen.

    A band that is wide against the data is cut, and of whiskers the longer half, so that the data stay readable.
    """
    shown = [*(marks.y for marks in chart.marks), *(line.y for line in chart.lines)]
    for ends in ([marks.low for marks in chart.marks], [marks.high for marks in chart.marks]):
        known = [end[np.isfinite(end)] for end in ends if end is not None]
        if known and (flat := np.concatenate(known)).size:
            shown.append(np.array([np.median(flat)]))
    seen = np.concatenate([*shown, np.array([value for value, _ in chart.rules])])
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return seen
    room = 0.35 * (seen.max() - seen.min())
    bands = [end for line in chart.lines for end in (line.low, line.high) if end is not None]
    return np.concatenate([seen, *(np.clip(band, seen.min() - room, seen.max() + room) for band in bands)])


def legend_key(style: int, *, hollow: bool = False, line: bool = True, mark: bool = True) -> Markup:
    """A small sample of a series: its line and dash (if `line`) and its mark (if `mark`)."""
    shape = _mark(style, 16.0, 7.0, hollow) if mark else ""
    dash = DASHES[style % len(DASHES)]
    path = f'<path class="line c{style % 7}" d="M1 7H31" stroke-dasharray="{dash}"/>' if line else ""
    css, box = ("key", "0 0 32 14") if line else ("key bare", "8 0 16 14")
    return Markup(f'<svg class="{css}" viewBox="{box}" aria-hidden="true">{path}{shape}</svg>')


def shade_key() -> Markup:
    """A small sample of the shading of what was fitted."""
    area = '<rect class="fitted-area" x="1" y="1" width="30" height="12"/><path class="fitted-edge" d="M1 1H31V13H1Z"/>'
    return Markup(f'<svg class="key" viewBox="0 0 32 14" aria-hidden="true">{area}</svg>')


def _y_ticks(chart: Chart, y: Axis) -> list[tuple[float, str]]:
    """The ticks of the vertical axis: where they stand, and their text."""
    ticks = chart.y_ticks if chart.y_ticks is not None else y.ticks(5)
    texts = map(chart.y_format, ticks) if chart.y_format is not None else same_decimals(ticks)
    return [(y(value), text) for value, text in zip(ticks, texts, strict=True)]


def _grid(chart: Chart, x: Axis, rows: Sequence[tuple[float, str]], box: tuple[int, int, int, int]) -> Iterable[str]:
    left, right, top, bottom = box
    yield '<g class="axis" aria-hidden="true">'
    columns = x.ticks(5)
    lines, marks = (f"M{left} {at:.1f}H{right}" for at, _ in rows), (f"M{x(value):.1f} {bottom}v4" for value in columns)
    yield f'<path class="gridline" d="{"".join(lines)}"/><g text-anchor="end">'
    for at, text in rows:
        yield f'<text x="{left - 6}" y="{at + 3.5:.1f}">{escape(text)}</text>'
    yield f'</g><path class="tick" d="{"".join(marks)}"/><g text-anchor="middle">'
    for value in columns:
        yield f'<text x="{x(value):.1f}" y="{bottom + 16}">{escape(chart.x_format(value))}</text>'
    yield f'</g><path class="frame" d="M{left} {bottom}H{right}"/>'
    middle = (left + right) / 2
    yield f'<text class="label" x="{middle}" y="{chart.height - 6}" text-anchor="middle">{escape(chart.x_label)}</text>'
    turn = f"rotate(-90 12 {(top + bottom) / 2})"
    yield (
        f'<text class="label" x="12" y="{(top + bottom) / 2}" text-anchor="middle" transform="{turn}">'
        f"{escape(chart.y_label)}</text></g>"
    )


def _shade(span: tuple[float, float], x: Axis, box: tuple[int, int]) -> str:
    """The part of the chart that was fitted; nothing where all of the chart lies outside."""
    top, bottom = box
    left, right = (x(float(np.clip(end, x.low, x.high))) for end in span)
    if right - left < 1:
        return ""
    where = f'x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{bottom - top}"'
    return f'<rect class="fitted-area" {where}/>'


def _drop(drop: Drop, x: Axis, y: Axis) -> str:
    """The line down to the axis, and the interval on it."""
    line = f'<path class="drop c{drop.style % 7}" d="M{x(drop.x):.1f} {y(drop.y):.1f}V{y.start}"/>'
    if drop.low is None and drop.high is None:
        return line
    low = x.start if drop.low is None else x(max(drop.low, x.low))
    high = x.end if drop.high is None else x(min(drop.high, x.high))
    return f'{line}<path class="interval c{drop.style % 7}" d="M{low:.1f} {y.start - 2.5:g}H{high:.1f}"/>'


def _drop_label(drop: Drop, x: Axis, y: Axis, number: int) -> str:
    """The label beside the line, above the bars; each further one stands higher."""
    at, left = x(drop.x), x(drop.x) < (x.start + x.end) / 2
    anchor, shift = ("start", 5) if left else ("end", -5)
    place = f'x="{at + shift:.1f}" y="{y.start - 10 - 15 * number:.1f}" text-anchor="{anchor}"'
    return f'<text class="mark-label" {place}>{escape(drop.label)}</text>'


def _rule_side(chart: Chart, value: float) -> str:
    """The end of a horizontal rule that is farther from the lines, for its label: `start` or `end`."""
    off = [np.abs(line.y[[0, -1]] - value) for line in chart.lines if len(line.y) and not line.css]
    if not off:
        return "start"
    first, last = np.min(off, axis=0)
    return "start" if first >= last else "end"


def _rule(value: float, label: str, y: Axis, ends: tuple[int, int], side: str) -> str:
    at, (left, right) = y(value), ends
    x = left + 4 if side == "start" else right - 4
    return (
        f'<path class="rule" d="M{left} {at:.1f}H{right}"><title>{escape(label)}</title></path>'
        f'<text class="rule-label" x="{x}" y="{at - 4:.1f}" text-anchor="{side}">{escape(label)}</text>'
    )


def _points(xs: np.ndarray, ys: np.ndarray, x: Axis, y: Axis) -> list[tuple[float, float]]:
    return [(x(float(a)), y(float(b))) for a, b in zip(xs, ys, strict=True) if np.isfinite(b)]


def _trace(points: list[tuple[float, float]]) -> str:
    """The points as a path of steps between rounded places: half as long as their places, and as exact."""
    places = [(round(10 * a), round(10 * b)) for a, b in points]
    steps = [f"{(c - a) / 10:g} {(d - b) / 10:g}" for (a, b), (c, d) in pairwise(places)]
    first = f"M{places[0][0] / 10:g} {places[0][1] / 10:g}"
    return first + ("l" + " ".join(steps).replace(" -", "-") if steps else "")


def _band(line: Line, x: Axis, y: Axis) -> str:
    assert line.low is not None
    assert line.high is not None
    around = _points(line.x, line.high, x, y) + _points(line.x, line.low, x, y)[::-1]
    return f'<path class="band c{line.style % 7}" d="{_trace(around)}Z"/>' if around else ""


def _path(line: Line, x: Axis, y: Axis) -> str:
    points = _points(line.x, line.y, x, y)
    dashes = DASHES[line.style % len(DASHES)]
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    css = f"line c{line.style % 7} {line.css}".rstrip()
    return f'<path class="{css}" d="{_trace(points)}"{dash}><title>{escape(line.name)}</title></path>' if points else ""


def _marks(marks: Marks, x: Axis, y: Axis) -> Iterable[str]:
    for i, (a, b, tip) in enumerate(zip(marks.x, marks.y, marks.tips, strict=True)):
        if not np.isfinite(b):
            continue
        size = 1.0 if marks.sizes is None else float(marks.sizes[i])
        shape = _mark(marks.style, x(float(a)) + marks.shift, y(float(b)), marks.hollow, size)
        yield shape.replace("/>", f"><title>{escape(tip)}</title></path>", 1)


def _repeated(groups: Sequence[Marks], x: Axis, y: Axis, ident: str) -> Iterable[str]:
    """Marks without tooltips: one path for all that look alike, which repeats one marker."""
    alike: dict[tuple[int, bool, float], list[str]] = {}
    for marks in groups:
        points = _points(marks.x, marks.y, x, y)
        if points:
            size = 1.0 if marks.sizes is None else float(marks.sizes[0])
            alike.setdefault((marks.style, marks.hollow, size), []).append(_trace(points))
    for number, ((style, hollow, size), traces) in enumerate(alike.items()):
        name = f"{ident}-m{number}"
        shape = _mark(style, 0.0, 0.0, hollow, size)
        # a last step of no length, so that start and mid reach every point once
        yield (
            f'<marker id="{name}" markerUnits="userSpaceOnUse" overflow="visible">{shape}</marker><path class="dots" '
            f'd="{"".join(traces)}h0" marker-start="url(#{name})" marker-mid="url(#{name})"/>'
        )


def _whiskers(marks: Marks, x: Axis, y: Axis) -> Iterable[str]:
    if marks.low is None or marks.high is None:
        return
    for a, low, high in zip(marks.x, marks.low, marks.high, strict=True):
        if np.isfinite(low) and np.isfinite(high):
            at = x(float(a)) + marks.shift
            ends = f"M{at:.1f} {y(float(low)):.1f}V{y(float(high)):.1f}"
            yield f'<path class="whisker c{marks.style % 7}" d="{ends}"/>'


def _labels(groups: Iterable[Marks], x: Axis, y: Axis) -> Iterable[str]:
    """Labels beside their marks, else above or below, else none: none covers another or a mark. Full marks first."""
    groups = sorted((marks for marks in groups if marks.labels is not None), key=lambda marks: marks.hollow)
    spots = [
        (x(float(a)) + marks.shift, y(float(b)), 4.0 * (1.0 if marks.sizes is None else float(marks.sizes[i])), text)
        for marks in groups
        for i, (a, b, text) in enumerate(zip(marks.x, marks.y, marks.labels or (), strict=True))
        if np.isfinite(b)
    ]
    taken = [(cx - r, cy - r, cx + r, cy + r) for cx, cy, r, _ in spots]
    for cx, cy, r, text in spots:
        wide = 6.4 * len(text)
        places = (
            (cx + r + 4, cy + 3.5, "start", (cx + r + 3, cy - 6, cx + r + 4 + wide, cy + 6)),
            (cx - r - 4, cy + 3.5, "end", (cx - r - 4 - wide, cy - 6, cx - r - 3, cy + 6)),
            (cx, cy - r - 5, "middle", (cx - wide / 2, cy - r - 16, cx + wide / 2, cy - r - 3)),
            (cx, cy + r + 13, "middle", (cx - wide / 2, cy + r + 3, cx + wide / 2, cy + r + 16)),
        )
        for at_x, at_y, anchor, box in places:
            clear = all(box[2] <= t[0] or t[2] <= box[0] or box[3] <= t[1] or t[3] <= box[1] for t in taken)
            if clear and box[0] >= x.start and box[2] <= x.end + 8:
                taken.append(box)
                place = f'x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}"'
                yield f'<text class="mark-label" {place}>{escape(text)}</text>'
                break


def _mark(style: int, cx: float, cy: float, hollow: bool, size: float = 1.0) -> str:
    css = f"mark c{style % 7}{' hollow' if hollow else ''}"
    r, q, e, h, w = (round(size * v, 2) for v in (3.4, 3.0, 4.2, 4.0, 7.0))
    shapes = {
        "circle": f"M{cx - r:.1f} {cy:.1f}a{r} {r} 0 1 0 {2 * r:g} 0a{r} {r} 0 1 0 {-2 * r:g} 0Z",
        "square": f"M{cx - q:.1f} {cy - q:.1f}h{2 * q:g}v{2 * q:g}h{-2 * q:g}Z",
        "diamond": f"M{cx:.1f} {cy - e:.1f}l{e} {e}l{-e} {e}l{-e} {-e}Z",
        "up": f"M{cx:.1f} {cy - h:.1f}l{h} {w}h{-2 * h:g}Z",
        "down": f"M{cx:.1f} {cy + h:.1f}l{h} {-w}h{-2 * h:g}Z",
        "cross": f"M{cx - q:.1f} {cy - q:.1f}l{2 * q:g} {2 * q:g}m0 {-2 * q:g}l{-2 * q:g} {2 * q:g}",
        "plus": f"M{cx - h:.1f} {cy:.1f}h{2 * h:g}m{-h} {-h}v{2 * h:g}",
    }
    return f'<path class="{css}" d="{shapes[MARKS[style % len(MARKS)]]}"/>'
