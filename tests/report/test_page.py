"""The page as a file: well-formed, self-contained, escaped, complete, and small."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import Setting
from regrow.planning import PlanSpec, Target, plan
from regrow.planning.frontier import CompareSpec, compare
from regrow.report import build_report, write_report
from regrow.report.page import read
from regrow.runs.record import CurvePoint, RunRecord

VOID = {"meta", "link", "input", "br", "hr", "img"}
ENDED_BY = {"td": {"td", "th"}, "th": {"td", "th"}, "tr": {"td", "th", "tr"}, "/tbody": {"td", "th", "tr"}}
EVIL = "</script><img src=x onerror=alert(1)><script>alert(1)</script><b>&\"'"


class Parsed(HTMLParser):
    """Tags balanced or else an error; attributes, ids and visible text collected."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list) -> None:
        # the ends of cells and rows are optional in HTML, and left out
        while self.open and self.open[-1] in ENDED_BY.get(tag, ()):
            self.open.pop()
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] in ENDED_BY.get(f"/{tag}", ()):
            self.open.pop()
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def html(study, comparison) -> str:
    return build_report(
        study.runs,
        study.laws,
        study.plans,
        title="A study",
        held_out=study.held_out,
        validation_rows=[
            {
                "family": "tiny-llama",
                "method": "depth",
                "form": "p2",
                "hold_out": "size",
                "mape": 0.008,
                "asd": None,
                "baselines": {"last": 0.0123, "power": None},
            }
        ],
        notes=["one run was left out"],
        comparisons=[comparison],
    )


def test_it_is_well_formed_and_small(html: str) -> None:
    page = Parsed(html)
    assert len(html.encode()) < 5e6
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_it_loads_nothing_from_anywhere(html: str) -> None:
    page = Parsed(html)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "poster", "data"):
            assert value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", html)


def test_every_link_leads_somewhere(html: str) -> None:
    page = Parsed(html)
    ids = {value for _, name, value in page.attributes if name == "id"}
    for _, name, value in page.attributes:
        if name == "href" and value.startswith("#"):
            assert value[1:] in ids
        if name in ("aria-labelledby", "for"):
            assert set(value.split()) <= ids


def test_the_answer_comes_first_and_every_part_is_there(html: str, study) -> None:
    words = Parsed(html).words
    order = [
        "The answer",
        "Methods and rates",
        "Planner",
        "Measured and predicted",
        "Errors by run",
        "Trends",
        "Held-out errors",
        "Controls",
    ]
    places = [words.index(part, words.index("stop at") if part != "The answer" else 0) for part in order]
    assert places[1:] == sorted(places[1:])
    for sentence in (study.plans[0].sentence(), "one run was left out", "doubling the tokens buys less than 0.01 nats"):
        assert sentence in words
    assert "0.80%" in words
    assert "last 1.23%" in words
    assert "not known" in words


def test_held_out_sizes_are_marked(html: str) -> None:
    assert html.count("held out, never fitted") == 2
    assert 'class="held-out"' in html


def test_a_size_beyond_the_fitted_data_is_held_out_without_being_told(study) -> None:
    html = build_report([*study.runs, *study.held_out], study.laws)
    assert html.count("held out, never fitted") == 2


def test_charts_have_titles_descriptions_and_tables(html: str, study) -> None:
    assert html.count('role="img"') == html.count("</desc>") == html.count('<title id="')
    for run in (*study.runs, *study.held_out):
        assert f">{run.run}<" in html


def test_names_from_outside_are_escaped(study, make_law, make_run) -> None:
    law = make_law(family=EVIL, warnings=(EVIL,))
    runs = [make_run(law, 300_000, rate, name=f"{EVIL}{rate}") for rate in (0.15, 0.35)]
    answer = plan(law, PlanSpec(params_before=3e6, pruning_rate=0.25, loss_before=2.91))
    html = build_report(runs, [law], [answer], title=EVIL, validation_rows=[{"family": EVIL}], notes=[EVIL])
    assert "alert(1)" in html
    assert "<script>alert" not in html
    assert "<img" not in html
    assert html.count("<script") == 2
    assert EVIL in Parsed(html).words


@pytest.mark.parametrize("parts", ["nothing", "runs", "laws", "plans"])
def test_any_part_may_be_missing(study, parts: str) -> None:
    html = build_report(
        study.runs if parts == "runs" else [],
        study.laws if parts == "laws" else [],
        study.plans if parts == "plans" else [],
    )
    words = Parsed(html).words
    assert ("No plan was asked for" in words) == (parts != "plans")
    assert ('id="planner-form"' in html) == (parts == "laws")


def test_headings_never_skip_a_level(html: str) -> None:
    levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", html)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_comparison_is_a_picture_and_a_table(html: str, comparison) -> None:
    words = Parsed(html).words
    assert comparison.sentence() in words
    assert words.count("take this") == 2  # beside its mark and in its row
    for row in comparison.candidates:
        assert f">{row.name}<" in html
        assert f"{row.plan.loss:.3f}" in words


def test_what_a_comparison_refused_is_said(study) -> None:
    base = PlanSpec(params_before=3e6, loss_before=2.91, criterion=Target(loss=2.925))
    compared = compare(study.laws, CompareSpec(base=base, rates=(0.1, 0.15, 0.35)))
    assert compared.refused
    words = Parsed(build_report([], study.laws, comparisons=[compared])).words
    assert "Not planned" in words
    assert all(refusal.why in words for refusal in compared.refused)


def test_laws_that_all_failed_have_no_planner(make_law) -> None:
    html = build_report([], [make_law(status="failed", warnings=("no start converged",))])
    assert 'id="planner-form"' not in html
    assert "<script" not in html
    assert "There is no interactive planner here" in Parsed(html).words


def test_a_large_study_stays_small(make_law) -> None:
    law = make_law(draws=np.repeat(make_law().draws, 3, axis=0))
    tokens = np.geomspace(1e4, 2e6, 400)
    runs = []
    for i in range(200):
        size, rate = (300_000, 600_000, 1_200_000)[i % 3], (0.15, 0.25, 0.35)[i % 7 % 3]
        losses = law.loss(Setting(params_before=size, pruning_rate=rate, tokens=tokens, loss_before=3.5))
        points = tuple(CurvePoint(tokens=int(d), loss=float(x)) for d, x in zip(tokens, losses, strict=True))
        runs.append(
            RunRecord(
                run=f"run-{i}",
                family=law.family,
                method=law.method,
                params_before=size,
                params_after=round(size * (1 - rate)),
                pruning_rate=rate,
                loss_before=3.5,
                curve=points,
            )
        )
    html = build_report(runs, [law])
    assert len(html.encode()) < 5e6
    assert "Long runs are drawn, and listed, at evenly spaced checkpoints only" in html


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_known() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("palette", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_the_paper(palette: int) -> None:
    css = read("style.css")
    colours = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", css.split(":root {")[palette + 1].split("}")[0]))
    for name in (*(f"--c{i}" for i in range(7)), "--line"):
        assert contrast(colours[name], colours["--paper"]) >= 3.0, name
    for name in ("--ink", "--soft", "--accent", "--warn"):
        assert contrast(colours[name], colours["--paper"]) >= 4.5, name
    assert contrast(colours["--warn"], colours["--warn-wash"]) >= 4.5


def test_failed_laws_and_missing_numbers_are_shown_as_such(make_law, study) -> None:
    failed = make_law(
        status="failed", warnings=("no start converged",), params=dict.fromkeys(study.laws[0].params, np.nan)
    )
    never = plan(
        study.laws[0], PlanSpec(params_before=3e6, pruning_rate=0.25, loss_before=2.91, criterion=Target(loss=9))
    )
    words = Parsed(
        build_report(study.runs, [failed], [replace(never, tokens=None, tokens_reason=None, loss=None, flops=None)])
    ).words
    assert "Status failed" in words
    assert "no start converged" in words
    assert "No number of tokens is enough" in words
    assert "nan" not in words.lower().replace("nanochat", "")


def test_a_law_against_the_control_follows_the_control(make_law, study) -> None:
    html = build_report(study.runs, [make_law(baseline="control")], held_out=study.held_out)
    assert "baseline control" in html
    assert "left out of the charts" not in html


def test_a_control_that_is_missing_is_said_and_not_fatal(make_law, study) -> None:
    pruned = [run for run in study.runs if not run.is_control]
    assert "left out of the charts" in build_report(pruned, [make_law(baseline="control")])


def test_a_run_with_one_checkpoint_or_none(make_law, make_run) -> None:
    law = make_law()
    whole = make_run(law, 300_000, 0.25)
    one = replace(whole, run="one", curve=whole.curve[:2])
    none = replace(whole, run="none", curve=(CurvePoint(tokens=0, loss=5.0),))
    words = Parsed(build_report([one, none], [law])).words
    assert "run none has no checkpoint that the law covers" in words


def test_parameters_that_were_held_or_ran_into_a_bound_are_marked(make_law) -> None:
    words = Parsed(build_report([], [make_law(diagnostics={"fixed": ["E"], "at_bound": ["alpha"]})])).words
    assert "what stays of the gap after any number of tokens (held, not fitted)" in words
    assert "how fast the size term falls with the parameters (on its bound)" in words


def test_equal_inputs_give_equal_pages(study) -> None:
    assert build_report(study.runs, study.laws) == build_report(study.runs, study.laws)


def test_it_is_written_and_an_unwritable_place_is_one_line(study, tmp_path: Path) -> None:
    path = write_report([], study.laws, study.plans, out=tmp_path / "new" / "report.html")
    assert path.read_text().startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write here"):
        write_report([], [], out=tmp_path / "file" / "report.html")
