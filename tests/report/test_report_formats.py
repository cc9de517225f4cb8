"""Markdown for a pull request, a picture for a slide, and which format a file name asks for."""

from __future__ import annotations

import base64
import json
import re
import struct
import sys
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from regrow.errors import InputError
from regrow.planning import PlanSpec, plan
from regrow.report import build_markdown, build_picture, format_of, write_report
from regrow.report.content import gather
from regrow.report.markdown import escape
from regrow.report.picture import flat_style, picture_svg

EVIL = "</td><img src=x onerror=alert(1)> | a | *b* `c` [d](http://e) @team #1 \n# heading"


@pytest.fixture(scope="module")
def markdown(study, comparison) -> str:
    rows = [{"family": "tiny-llama", "method": "depth", "form": "p2", "hold_out": "size", "mape": 0.008}]
    return build_markdown(
        study.runs, study.laws, study.plans, held_out=study.held_out, validation_rows=rows, comparisons=[comparison]
    )


def rendered(text: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


def test_markdown_says_the_plan_its_warnings_and_the_held_out_errors(markdown: str, study, comparison) -> None:
    for answer in study.plans:
        assert escape(answer.judgement()) in markdown
        for name, text in answer.facts():
            assert f"| {name} | {escape(text)} |" in markdown
    for warning in study.plans[0].warnings:
        assert f"- :warning: {escape(warning)}" in markdown
    assert escape(comparison.sentence()) in markdown
    order = ["## The answer", "### Methods and rates", "## Held-out errors", "## Laws", "## Controls"]
    places = [markdown.index(heading) for heading in order]
    assert places == sorted(places)
    assert "0.80%" in markdown


def test_every_table_is_a_table_to_a_reader_of_markdown(markdown: str, study) -> None:
    html = rendered(markdown)
    assert html.count("<table>") == markdown.count("\n| :-- |")
    for run in study.runs:
        if not run.is_control:
            assert f'<td style="text-align:left">{run.run}</td>' in html
    assert "|" not in re.sub(r"<[^>]*>", "", html)


def test_markdown_shows_names_as_they_are(make_law, make_run) -> None:
    law = make_law(family=EVIL)
    runs = [make_run(law, 300_000, rate, name=f"{EVIL}{rate}") for rate in (0.15, 0.35)]
    answer = plan(law, PlanSpec(params_before=3e6, pruning_rate=0.25, loss_before=2.91))
    text = build_markdown(runs, [law], [answer], title=EVIL, notes=[EVIL])
    assert "<img" not in text
    assert "@team" not in text
    html = rendered(text)
    assert "<a " not in html
    assert "<em>b" not in html
    assert html.count("<h1>") == 1
    assert html.count("<table>") == text.count("\n| :-- |")
    plain = " ".join(EVIL.split())
    assert plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in html


def test_markdown_of_nothing_is_a_heading() -> None:
    assert build_markdown([], []).startswith("# Post-training after pruning\n")


@pytest.fixture(scope="module")
def png(study, tmp_path_factory) -> bytes:
    out = tmp_path_factory.mktemp("slide") / "slide.png"
    return write_report(study.runs, study.laws, study.plans, out=out, held_out=study.held_out).read_bytes()


def test_the_picture_is_a_png_of_a_slides_shape(png: bytes) -> None:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", png[16:24]) == (2400, 1350)
    assert len(png) > 50_000


def test_the_picture_says_the_answer_and_shows_its_law(study) -> None:
    content = gather(study.runs, study.laws, study.plans[1:], title="A <study> & more", held_out=study.held_out)
    root = ElementTree.fromstring(picture_svg(content))
    words = " ".join("".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "A <study> & more" in words
    assert "625k tokens" in words
    assert "tiny-llama, width" in words
    assert "held out, never fitted" in words


def test_a_picture_without_plans_or_runs_still_is_one(study) -> None:
    for content in (gather([], []), gather([], study.laws), gather(study.runs, study.laws[:1])):
        ElementTree.fromstring(picture_svg(content))


def test_names_cannot_break_the_picture(make_law, make_run) -> None:
    law = make_law(family=EVIL)
    runs = [make_run(law, 300_000, 0.15, name=EVIL)]
    answer = plan(law, PlanSpec(params_before=3e6, pruning_rate=0.25, loss_before=2.91))
    root = ElementTree.fromstring(picture_svg(gather(runs, [law], [answer], title=EVIL)))
    assert not list(root.iter("{http://www.w3.org/2000/svg}img"))


def test_the_pictures_style_has_no_variables_left() -> None:
    css = flat_style()
    assert "var(" not in css
    assert css.count(".line.c") == 7
    assert ".mark.c1{fill: #d55e00" in css


def test_colours_and_text_reach_the_picture(png: bytes, browser) -> None:
    count = """(async (png, colours) => {
      const image = new Image();
      image.src = "data:image/png;base64," + png;
      await image.decode();
      const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
      const brush = canvas.getContext("2d");
      brush.drawImage(image, 0, 0);
      const { data } = brush.getImageData(0, 0, image.width, image.height), seen = colours.map(() => 0);
      for (let i = 0; i < data.length; i += 4)
        colours.forEach((c, k) => { if (c.every((v, j) => Math.abs(v - data[i + j]) < 3)) seen[k]++; });
      return seen;
    })(%s)"""
    # three series, ink and soft grey: the words
    colours = [[0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00], [0x00, 0x9E, 0x73], [0x1B, 0x1F, 0x24], [0x57, 0x60, 0x6A]]
    arguments = f"{json.dumps(base64.b64encode(png).decode())}, {json.dumps(colours)}"
    assert all(n > 1000 for n in browser.run(count % arguments))


def test_without_resvg_the_error_says_what_to_install(study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(InputError, match=r"resvg-py; pip install 'regrow\[png\]'"):
        build_picture([], study.laws)


@pytest.mark.parametrize(
    ("out", "given", "expected"),
    [
        ("a.html", None, "html"),
        ("a.HTM", None, "html"),
        ("a.md", None, "md"),
        ("a.b.png", None, "png"),
        ("a.txt", "md", "md"),
        ("page", "html", "html"),
    ],
)
def test_the_format_is_that_of_the_name_or_the_one_given(out: str, given: str | None, expected: str) -> None:
    assert format_of(out, given) == expected


@pytest.mark.parametrize(
    ("out", "given", "says"), [("a.pdf", None, "'.pdf'"), ("a", None, "--format"), ("a.md", "htlm", "'html'")]
)
def test_an_unknown_format_is_one_line(out: str, given: str | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        format_of(out, given)


def test_equal_inputs_give_equal_reports(study) -> None:
    assert build_markdown(study.runs, study.laws) == build_markdown(study.runs, study.laws)
    assert picture_svg(gather(study.runs, study.laws)) == picture_svg(gather(study.runs, study.laws))
