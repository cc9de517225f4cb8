"""Scales, ticks and marks."""

from __future__ import annotations

import base64
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.report.axes import Axis, linear_ticks, log_ticks, padded, same_decimals
from regrow.report.picture import flat_style
from regrow.report.svg import MARKS, Chart, Drop, Line, Marks, draw, legend_key


def test_an_axis_maps_its_ends_and_its_middle() -> None:
    assert Axis(low=2, high=4, start=0, end=100)(3) == pytest.approx(50)
    assert Axis(low=1, high=100, start=100, end=0, log=True)(10) == pytest.approx(50)
    assert Axis(low=5, high=5, start=0, end=100)(5) == 50


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e6))
def test_linear_ticks_lie_inside_and_are_evenly_spaced(low: float, width: float) -> None:
    ticks = linear_ticks(low, low + width)
    assert 2 <= len(ticks) <= 12
    assert all(low - 1e-6 * width - 1e-9 <= t <= low + width * (1 + 1e-6) + 1e-9 for t in ticks)


@given(low=st.floats(1.0, 1e12), factor=st.floats(1.2, 1e6))
def test_log_ticks_lie_inside_and_stay_few(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert 1 <= len(ticks) <= 10
    assert all(low * (1 - 1e-6) <= t <= low * factor * (1 + 1e-6) for t in ticks)


def test_known_ticks() -> None:
    assert linear_ticks(3.71, 4.12) == [3.8, 3.9, 4.0, 4.1]
    assert log_ticks(2e4, 2e6) == [3e4, 1e5, 3e5, 1e6]
    assert padded(np.array([np.nan])) == (0.0, 1.0)


def chart(**changes: object) -> Chart:
    x = np.array([1e3, 1e4, 1e5])
    fields: dict = {
        "title": "<t>",
        "description": "a & b",
        "x_label": "tokens",
        "y_label": "loss",
        "lines": [Line(x=x, y=np.array([3.0, 2.5, 2.2]), low=x * 0 + 2, high=x * 0 + 9, style=0, name="<law>")],
        "marks": [Marks(x=x, y=np.array([3.1, 2.4, np.nan]), style=s, tips=["<1>", "2", "3"]) for s in (1, 8)],
    }
    return Chart(**{**fields, **changes})


def test_a_chart_is_xml_with_escaped_text() -> None:
    root = ElementTree.fromstring(draw(chart(marks=[]), "c"))
    assert root.find("title").text == "<t>"  # type: ignore[union-attr]
    assert root.find("desc").text == "a & b"  # type: ignore[union-attr]


def test_undefined_points_are_not_drawn() -> None:
    svg = draw(chart(), "c")
    assert "nan" not in svg
    assert svg.count("<title>&lt;1&gt;</title>") == 2
    assert "<title>3</title>" not in svg
    ElementTree.fromstring(svg)


def test_nothing_to_draw_is_nothing() -> None:
    assert draw(chart(lines=[], marks=[]), "c") == ""


@pytest.mark.parametrize("style", range(len(MARKS) + 1))
def test_every_style_has_a_key(style: int) -> None:
    ElementTree.fromstring(legend_key(style))


@given(
    ys=st.lists(st.floats(2.0, 3.0), min_size=1, max_size=9),
    xs=st.lists(st.floats(1e6, 2e6), min_size=9, max_size=9),
)
def test_labels_never_cover_each_other(ys: list[float], xs: list[float]) -> None:
    points = Marks(
        x=np.array(xs[: len(ys)]), y=np.array(ys), style=0, tips=[""] * len(ys), labels=["0.25"] * len(ys),
        sizes=np.full(len(ys), 1.5),
    )  # fmt: skip
    root = ElementTree.fromstring(draw(chart(lines=[], marks=[points], x_log=False), "c"))
    shift = {"start": 0.0, "middle": -0.5, "end": -1.0}
    boxes = [
        (float(t.get("x")) + shift[t.get("text-anchor")] * 25, float(t.get("y")))
        for t in root.iter("text")
        if t.get("class") == "mark-label"
    ]
    for i, (left, base) in enumerate(boxes):
        for other, below in boxes[i + 1 :]:
            assert abs(left - other) > 24 or abs(base - below) > 11


def test_whiskers_are_seen_and_missing_ones_are_not_drawn() -> None:
    x, y = np.array([1.0, 2.0]), np.array([2.0, 3.0])
    marks = Marks(x=x, y=y, style=0, tips=["", ""], low=np.array([1.5, np.nan]), high=np.array([2.5, np.nan]))
    svg = draw(chart(lines=[], marks=[marks], x_log=False), "c")
    assert svg.count('class="whisker') == 1
    assert "nan" not in svg


def test_whiskers_longer_than_most_are_cut_so_that_the_marks_stay_apart() -> None:
    x, y = np.arange(1.0, 6.0), np.array([2.0, 2.1, 2.2, 2.3, 2.4])
    high = np.array([2.5, 2.5, 2.5, 90.0, 90.0])
    marks = Marks(x=x, y=y, style=0, tips=[""] * 5, low=y - 0.1, high=high)
    root = ElementTree.fromstring(draw(chart(lines=[], marks=[marks], x_log=False), "c"))
    heights = [float(p.get("d").split()[1].split("a")[0]) for p in root.iter("path") if "mark" in p.get("class", "")]
    assert max(heights) - min(heights) > 100
    assert any(g.get("clip-path") and len(g.findall("path[@class='whisker c0']")) == 5 for g in root.iter("g"))


def test_ticks_of_one_axis_have_the_same_decimals() -> None:
    assert same_decimals([3.9, 4.0, 4.1]) == ["3.9", "4.0", "4.1"]
    assert same_decimals([0.0, 50.0]) == ["0", "50"]


def test_marks_without_tooltips_are_as_many_and_where_the_others_are(browser, tmp_path) -> None:
    """Every mark of a repeated marker is drawn: as many coloured spots, at the same places."""
    x = np.array([1e3, 1e4, 1e5, 3e5])
    both = [
        chart(lines=[], marks=[Marks(x=x, y=y, style=s, tips=tips, hollow=s == 1) for s, y in enumerate(heights)])
        for tips in (["a", "b", "c", "d"], [])
        for heights in [(np.array([3.1, 2.4, np.nan, 2.6]), np.array([2.9, 2.8, 2.5, 2.2]))]
    ]
    pages = [draw(one, "c") for one in both]
    assert pages[1].count('class="mark') == 2
    pictures = []
    for name, svg in zip("ab", pages, strict=True):
        path = tmp_path / f"{name}.html"
        path.write_text(f"<!doctype html><title>x</title><style>{flat_style()}</style><body>{svg}")
        browser.look(width=500)
        browser.open(path)
        pictures.append(browser.picture(tmp_path / f"{name}.png").read_bytes())
    # places are rounded at another step, so a few pixels at the edges differ
    differ = browser.run(
        "(async (...sources) => { const all = []; for (const s of sources) { const i = new Image(); "
        "i.src = 'data:image/png;base64,' + s; await i.decode(); const c = document.createElement('canvas'); "
        "[c.width, c.height] = [i.width, i.height]; const g = c.getContext('2d'); g.drawImage(i, 0, 0); "
        "all.push(g.getImageData(0, 0, i.width, i.height).data); } "
        "let inked = 0, off = 0; for (let k = 0; k < all[0].length; k += 4) { "
        "inked += all[0][k] < 240; off += Math.abs(all[0][k] - all[1][k]) > 60; } return [inked, off]; })"
        f"({', '.join(json.dumps(base64.b64encode(one).decode()) for one in pictures)})"
    )
    assert differ[0] > 500
    assert differ[1] < 0.02 * differ[0]


def test_only_a_part_of_the_chart_that_was_fitted_is_shaded() -> None:
    inside = draw(chart(shaded=(1e3, 1e4)), "c")
    assert inside.count("fitted-area") == 1
    # what is fitted throughout is shaded throughout: its legend says what the shading means
    assert "fitted-area" in draw(chart(shaded=(1.0, 1e9)), "c")
    assert "fitted-area" not in draw(chart(shaded=(1e7, 1e9)), "c")


def test_long_ticks_get_room() -> None:
    """The label of the vertical axis stands left of the longest tick, however many digits that has."""

    def left(y: np.ndarray) -> float:
        x = np.array([1e3, 1e4, 1e5])
        svg = draw(chart(marks=[], lines=[Line(x=x, y=y, style=0, name="l")]), "c")
        return float(re.search(r'<rect x="(\d+)"', svg)[1])  # type: ignore[index]

    short, long = left(np.array([3.0, 2.5, 2.0])), left(np.array([0.801, 0.802, 0.8035]))
    assert short == Chart(title="", description="", x_label="", y_label="").left
    assert long >= short + 5


def test_a_rule_is_labelled_where_the_lines_are_far_from_it() -> None:
    x = np.array([1e3, 1e4, 1e5])

    def side(y: list[float]) -> str:
        line = Line(x=x, y=np.array(y), style=0, name="l")
        svg = draw(chart(marks=[], lines=[line], rules=[(1.0, "r")]), "c")
        return re.search(r'class="rule-label"[^>]*text-anchor="(\w+)"', svg)[1]  # type: ignore[index]

    assert (side([3.0, 2.0, 1.1]), side([1.1, 2.0, 3.0])) == ("start", "end")


def test_a_place_that_is_pointed_out_has_its_interval_on_the_axis() -> None:
    def bar(**ends: float | None) -> tuple[float, float] | None:
        svg = draw(chart(drops=[Drop(x=1e4, y=2.5, label="D*", style=1, **ends)]), "c")
        found = re.search(r'class="interval c1" d="M([\d.]+) [\d.]+H([\d.]+)"', svg)
        return None if found is None else (float(found[1]), float(found[2]))

    both, open_end = bar(low=5e3, high=2e4), bar(low=5e3, high=None)
    assert both is not None
    assert open_end is not None
    assert both[0] == open_end[0] < both[1] < open_end[1] == 410.0
    assert bar() is None
    assert ">D*</text>" in draw(chart(drops=[Drop(x=1e4, y=2.5, label="D*", style=1)]), "c")
