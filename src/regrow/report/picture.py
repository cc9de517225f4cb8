"""A report as one picture for a slide: the answer on the left, the curves behind it on the right.

The charts are the page's own SVG; resvg, a Rust renderer that comes as one wheel (the extra `png`), makes them a PNG.
It knows no CSS variables, so the style sheet of the charts is written out with the colours of the light palette.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from regrow.errors import InputError
from regrow.report.card import Card
from regrow.report.content import Content, LawSection
from regrow.report.figures import Key
from regrow.report.page import read
from regrow.report.present import MISSING

WIDTH, HEIGHT = 1600, 900
_SCALE = 1.5
FONTS = "DejaVu Sans, Liberation Sans, Noto Sans, Arial, Helvetica, Segoe UI, sans-serif"
_COLOURS = 7
_MARGIN, _LEFT = 64, 560
_MOST_PANELS, _MOST_CARDS = 4, 3
_WARN = "#8a4b00"


def render_picture(content: Content) -> bytes:
    """The content's first answers and the curves of their law as PNG, 2400 x 1350 pixels.

    Raises `InputError` where resvg or every font is missing.
    """
    return _rasterise(picture_svg(content))


def picture_svg(content: Content) -> str:
    """The picture as a self-contained SVG."""
    charts = _charts_shown(content)
    body = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(_MARGIN, 78, _shorten(content.title, 78), size=34, bold=True),
        *_answers(content.cards, _beside(content)),
        *(_charts(charts, content) if charts else ()),
        _text(_MARGIN, HEIGHT - 28, _shorten(content.provenance, 170), size=14, soft=True),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{FONTS}">'
        f"<style>{flat_style()}</style>{''.join(body)}</svg>"
    )


def flat_style() -> str:
    """The charts' style sheet without variables: one rule for each colour where a rule takes a series' colour."""
    palette = dict(re.findall(r"(--[\w]+): (#[0-9a-f]{6});", read("style.css").split("@media", 1)[0]))
    rules = []
    for selector, declarations in re.findall(r"^([^{}@/\n]+) \{ ([^}]*) \}$", read("chart.css"), re.MULTILINE):
        if declarations.startswith("--c"):
            continue
        for i in range(_COLOURS) if "var(--c)" in declarations else (None,):
            names = selector.split(", ") if i is None else [f"{name}.c{i}" for name in selector.split(", ")]
            with_colour = declarations.replace("var(--c)", f"var(--c{i})")
            flat = re.sub(r"var\((--\w+)\)", lambda found: palette[found[1]], with_colour)
            rules.append(f"{','.join(names)}{{{flat.replace('font-family: inherit;', '')}}}")
    # a hollow mark is filled with paper whatever its colour; its rule must outweigh the coloured one
    paper = palette["--paper"]
    return "".join(rules) + "".join(f".mark.hollow.c{i}{{fill:{paper}}}" for i in range(_COLOURS))


def _law_shown(content: Content) -> LawSection | None:
    """The law of the first answer, or the first with runs."""
    shown = [law for law in content.laws if law.panels]
    first = content.cards[0].law if content.cards else ""
    named = [law for law in shown if law.heading == first]
    found = named or shown
    return found[0] if found else None


@dataclass(frozen=True)
class _Shown:
    """A chart of the picture, with its heading; `keys` are its own legend, beside the one that law panels share."""

    heading: str
    svg: Markup
    keys: Sequence[Key] = ()


def _charts_shown(content: Content) -> list[_Shown]:
    """What was asked for beside the first plan, then the law's largest sizes, as many as there is room for."""
    first = [
        _Shown(title, section.chart, section.legend)
        for title, sections in (("In turns", content.stages), ("Or from scratch", content.scratch))
        for section in sections[:1]
        if section.chart
    ]
    if content.scores:
        panels = content.scores[0].panels
        return [_Shown(panel.heading, panel.svg) for panel in panels[:_MOST_PANELS]]
    law = _law_shown(content)
    room = _MOST_PANELS - len(first)
    own = [] if law is None else [
        _Shown(panel.heading + (", held out, never fitted" if panel.held_out else ""), panel.svg)
        for panel in law.panels[-room:]
    ]  # fmt: skip
    return [*first, *own]


def _beside(content: Content) -> list[str]:
    """The sentences on turns and on training from scratch."""
    return [sentence for section in (*content.stages[:1], *content.scratch[:1]) for sentence in section.sentences[:2]]


def _answers(cards: Sequence[Card], beside: Sequence[str]) -> Iterable[str]:
    """One answer in full with its warnings; several as short blocks, as many as fit.

    `beside` is said after the facts of one answer.
    """
    if not cards:
        yield _text(_MARGIN, 190, "No plan was asked for.", size=22)
        return
    y = 150.0
    for card in cards[:_MOST_CARDS]:
        yield _text(_MARGIN, y, _shorten(card.heading, 52), size=19, bold=True)
        yield _text(_MARGIN, y + 52, _shorten(card.headline, 24), size=40, bold=True)
        y += 82
        verdict = f"{card.verdict}: {card.because}"
        for line in (*textwrap.wrap(verdict, 60), *textwrap.wrap(card.interval or card.instead, 60)):
            yield _text(_MARGIN, y, line, size=17, soft=True)
            y += 25
        facts = _facts(card)
        if len(cards) > 1:
            what = card.losses.head[1]
            if card.time != MISSING:
                short = [f"{what.lower()} {facts[f'{what} at the end']}", facts["GPU time"], facts["Cost"]]
                yield _text(_MARGIN, y, _shorten(", ".join(short), 62), size=17)
            y += 66
            continue
        y += 12
        for name, value in facts.items():
            yield _text(_MARGIN, y, name, size=17, soft=True)
            yield _text(_LEFT - 20, y, value, size=17, anchor="end")
            y += 26
        y += 14
        notes = [(text, None) for text in beside] + [(text, _WARN) for text in (card.next_run, *card.warnings)]
        for text, colour in notes:
            lines = textwrap.wrap(text, 62)
            if y + 22 * len(lines) > HEIGHT - 60:
                break
            for line in lines:
                yield _text(_MARGIN, y, line, size=15, colour=colour)
                y += 22
            y += 6
    if len(cards) > _MOST_CARDS:
        yield _text(_MARGIN, y - 24, f"and {len(cards) - _MOST_CARDS} more answers", size=15, soft=True)


def _facts(card: Card) -> dict[str, str]:
    """Names and values, short enough to stand in two columns."""
    before, start, end = card.losses.rows
    what, beside, gap = card.losses.head[1:]
    facts = {
        "Parameters": card.facts["parameters"],
        f"{what} before pruning": before.cells[1],
        start.cells[0].capitalize(): start.cells[1],
        f"{what} at the end": end.cells[1],
        "Its interval": card.loss_interval.split(",", 1)[0],
        "Gap, nats" if gap == "Gap" else gap: end.cells[3],
        beside: end.cells[2],
        "GPU time": card.time,
        "Cost": card.cost,
    }
    return {name: value for name, value in facts.items() if value}


def _charts(shown: Sequence[_Shown], content: Content) -> Iterable[str]:
    """The charts, two by two, under the legend that they share."""
    left, top, gap = _LEFT + 60, 168, 30
    columns = 1 if len(shown) == 1 else 2
    wide = (WIDTH - left - _MARGIN - gap * (columns - 1)) / columns
    high = min((HEIGHT - top - 60) / (1 if len(shown) <= 2 else 2) - 40, wide * 280 / 420)
    title, keys = _shared_legend(content)
    yield _text(left, 128, title, size=17)
    yield from _legend(keys, left, 140)
    for i, chart in enumerate(shown):
        at_x = left + (i % columns) * (wide + gap)
        at_y = top + (i // columns) * (high + 46)
        heading = _shorten(chart.heading, int(wide / 9.5))
        yield _text(at_x + 4, at_y + 20, heading, size=16, bold=True)
        if chart.keys:
            yield from _legend(chart.keys, at_x + 24 + 9.5 * len(heading), at_y + 6, limit=at_x + wide)
        yield _nested(str(chart.svg), at_x, at_y + 28, wide, high)


def _shared_legend(content: Content) -> tuple[str, Sequence[Key]]:
    """What the charts show, and the legend of those that have none of their own."""
    if content.scores:
        return f"Expected scores: {_shorten(content.scores[0].heading, 60)}", content.scores[0].legend
    law = _law_shown(content)
    if law is None:
        return "Expected losses", ()
    return f"Measured (marks) and predicted (lines, with bands): {_shorten(law.heading, 40)}", law.legend


def _legend(keys: Sequence[Key], x: float, y: float, *, limit: float = WIDTH - 20) -> Iterable[str]:
    """A legend in one line, as far as there is room."""
    for key in keys:
        wide = 56 + 7.8 * len(key.text)
        if x + wide > limit:
            return
        yield _nested(str(key.svg), x, y, 40, 18)
        yield _text(x + 46, y + 14, key.text, size=15, soft=True)
        x += wide


def _nested(svg: str, x: float, y: float, width: float, height: float) -> str:
    """A chart placed in the picture; the page sizes it by its style sheet, here by attributes."""
    place = f'<svg x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" font-size="11" '
    return svg.replace("<svg ", place, 1)


def _text(
    x: float, y: float, text: str, *, size: int, bold: bool = False, soft: bool = False, anchor: str = "start",
    colour: str | None = None,
) -> str:  # fmt: skip
    # inline, as the charts' rule for text gives it their soft grey
    fill = colour or ("#57606a" if soft else "#1b1f24")
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight} style="fill:{fill}">'
        f"{escape(text)}</text>"
    )


def _shorten(text: str, most: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "…"


def _rasterise(svg: str) -> bytes:
    try:
        import resvg_py
    except ImportError:
        raise InputError(
            "a PNG needs the package resvg-py", where="report", hint="pip install 'regrow[png]', or write .html or .md"
        ) from None

    def draw(text: str) -> bytes:
        return bytes(resvg_py.svg_to_bytes(svg_string=text, width=round(WIDTH * _SCALE), height=round(HEIGHT * _SCALE)))

    probe = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9" fill="#fff"/>{}</svg>'
    if draw(probe.format(f'<text y="8" font-family="{FONTS}">x</text>')) == draw(probe.format("")):
        raise InputError(
            "no font was found to write the picture's text with", where="report",
            hint="install one, e.g. fonts-dejavu-core, or write .html or .md",
        )  # fmt: skip
    return draw(svg)
