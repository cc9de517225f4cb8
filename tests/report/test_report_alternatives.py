"""A report beside its plans: turns, training from scratch, and benchmarks, in charts, tables and Markdown."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import fit, load_laws, select_law
from regrow.planning import ScoreTarget
from regrow.planning.scratch import stated_curve
from regrow.report import build_markdown, build_report
from regrow.report.alternatives import score_sections, scratch_sections, stage_sections
from regrow.report.answers import Answers, Question, answer, asked_laws
from regrow.report.planned import law_of, setting_of
from regrow.runs import CurvePoint, RunRecord, Score

CURVE = stated_curve("E=1.5,A=40,alpha=0.3,B=400,beta=0.4")
#: the reference law asked of a model of its own size, so that it answers
ASKED = {"params_before": 1e6, "loss_before": 3.0, "method": "depth"}


@pytest.fixture(scope="module")
def law():
    return select_law(load_laws("reference"), method="depth")


@pytest.fixture(scope="module")
def turned(law) -> Answers:
    return answer([law], [], Question(**ASKED, stages=(0.25, 0.5), stage_tokens=4e5))


@pytest.fixture(scope="module")
def against(law) -> Answers:
    return answer([law], [], Question(**ASKED, pruning_rates=(0.5,), loss_pruned=4.0, scratch=CURVE))


def last_points(svg: str) -> list[tuple[float, float]]:
    """Where each line of a chart ends, in pixels."""
    ends = []
    for path in ElementTree.fromstring(svg).iter("path"):
        if path.get("class", "").startswith("line "):
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d", ""))]
            ends.append((sum(numbers[::2]), sum(numbers[1::2])))
    return ends


def test_turns_end_where_the_comparison_says(law, turned) -> None:
    (found,) = turned.alternatives
    (section,) = stage_sections(turned.alternatives, [law])
    assert [row.cells[-1] for row in section.table.rows] == [
        f"{step.loss:.3f}" for step in (found.stages.one, *found.stages.turns)
    ]
    # of two lines on one axis the one that ends lower stands lower: pixels count downwards
    (_, one), (_, turns) = last_points(str(section.chart))
    assert np.sign(turns - one) == -np.sign(found.stages.difference)
    assert abs(turns - one) > 1
    assert [key.text for key in section.legend] == ["one step", "in turns", "tokens of the fitted runs"]


def test_where_the_two_are_even_they_are_equal(law, against) -> None:
    (found,) = against.alternatives
    assert found.scratch.break_even is not None
    (section,) = scratch_sections(against.alternatives, [law])
    (even,) = [row for row in section.table.rows if "even" in row.cells[0]]
    assert even.cells[1] == even.cells[2]
    assert even.cells[3] == "+0.000"
    for row in section.table.rows:
        pruned, scratch, lead = (float(cell) for cell in row.cells[1:])
        assert lead == pytest.approx(scratch - pruned, abs=1.1e-3)
    chart = str(section.chart)
    assert "even at" in chart
    assert 'class="interval' in chart  # the interval of the crossing is a bar on the axis
    assert "fitted-area" in chart
    assert any("is as good after" in sentence for sentence in section.sentences)


def test_without_the_law_there_is_no_chart_and_the_sentences_stay(against) -> None:
    (section,) = scratch_sections(against.alternatives, [])
    assert section.chart == ""
    assert not section.table.rows
    assert section.sentences


def test_page_and_markdown_hold_both(law, turned, against) -> None:
    found = (*turned.alternatives, *against.alternatives)
    plans = [one.plan for one in found]
    page = build_report([], [law], plans, alternatives=found)
    text = build_markdown([], [law], plans, alternatives=found)
    assert 'id="stages"' in page
    assert 'id="scratch"' in page
    for word in ("One step, or in turns", "Pruned, or from scratch", "Pruning leads by", "To a rate of"):
        assert word in text
    assert 'id="stages"' not in build_report([], [law], plans)


def test_what_no_plan_can_be_compared_with_is_an_error(law, make_law) -> None:
    with pytest.raises(InputError, match="does not know what a pruning costs"):
        answer([make_law()], [], Question(params_before=1e6, loss_before=3.2, stages=(0.2, 0.3), stage_tokens=1e6))
    far = {"params_before": 1e13, "loss_before": 1.5, "method": "depth"}
    with pytest.raises(InputError, match="times outside what was fitted"):
        answer([law], [], Question(**far, stages=(0.25, 0.5), stage_tokens=1e6))
    # and of such a model no break-even, and no chart, is made up
    found = answer([law], [], Question(**far, pruning_rates=(0.5,), scratch=CURVE))
    assert found.alternatives[0].scratch.break_even is None
    assert "times outside what was fitted" in found.alternatives[0].scratch.reason
    assert scratch_sections(found.alternatives, [law])[0].chart == ""


def test_a_law_that_can_not_be_compared_is_a_note_beside_one_that_can(law, make_law) -> None:
    laws = [law, make_law(family="reference", method="width")]
    asked = Question(params_before=1e6, loss_before=3.3, stages=(0.2, 0.3), stage_tokens=1e6)
    found = answer(laws, [], asked)
    assert [one.stages is not None for one in found.alternatives].count(True) == 1
    assert any(note.startswith("not compared: ") for note in found.notes)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"stages": (0.5, 0.25)}, "must rise"),
        ({"stages": (0.25, 0.5), "pruning_rates": (0.3,)}, "stages beside a rate"),
        ({"stage_tokens": 1e6}, "without stages"),
    ],
)
def test_a_question_refuses_what_contradicts_itself(fields, says) -> None:
    with pytest.raises(InputError, match=says):
        Question(**fields)


NAMES = ("mmlu", "gsm8k")


def scored_run(size: int) -> RunRecord:
    rng = np.random.default_rng(size)
    tokens = (0, 10_000, 30_000, 60_000, 100_000, 150_000, 200_000)

    def score(t: float, top: float) -> Score:
        return Score(value=top - 0.35 * (1 + t / 3e4) ** -0.5 + 0.003 * rng.standard_normal(), questions=2000)

    points = [CurvePoint(tokens=t, loss=None, scores={n: score(t, 0.7) for n in NAMES}) for t in tokens]
    return RunRecord(
        run=f"r{size}", family="made", method="depth", params_before=size, params_after=size // 4 * 3,
        pruning_rate=0.25, loss_before=None, curve=tuple(points), status="imported",
        scores_before={name: Score(value=0.7, questions=2000) for name in NAMES},
    )  # fmt: skip


@pytest.fixture(scope="module")
def scored():
    runs = [scored_run(size) for size in (500_000, 1_000_000, 2_000_000)]
    return runs, fit(runs, score="all", draws=40)


def test_every_benchmark_and_the_mean_has_a_curve(scored) -> None:
    runs, laws = scored
    found = answer(laws, runs)
    assert found.plans[0].scored.benchmark == "mean"
    (section,) = score_sections(found.plans, laws)
    names = [panel.heading.split(":")[0] for panel in section.panels]
    assert sorted(names) == ["gsm8k", "mean", "mmlu"]
    assert section.table.head == ("Tokens", *names)
    for plan, panel in zip(found.plans, section.panels, strict=True):
        if plan.tokens is not None:
            gap = 100 * (plan.scored.score - plan.scored.before)
            assert panel.heading.endswith(f"{plan.scored.score:.3f} after {_count(panel)} tokens, {gap:+.1f} points")
        svg = str(panel.svg)
        assert "parent 0.700" in svg
        assert 'class="band' in svg
    # the table is the law's
    law, setting = law_of(found.plans[0], laws), setting_of(found.plans[0])
    first = section.table.rows[0].cells
    assert float(first[1].split()[0]) == pytest.approx(1 - float(law.loss(setting.at(1e4))), abs=2e-3)


def _count(panel) -> str:
    return re.search(r"after (\S+) tokens", panel.heading)[1]


def test_measured_marks_of_the_mean_are_the_means_of_the_benchmarks(scored) -> None:
    runs, laws = scored
    found = answer(laws, runs, Question(criterion=ScoreTarget(score=0.5)))
    page = build_report(runs, laws, found.plans)
    first = found.plans[0].scored
    assert f"<b>{100 * (first.score - first.before):+.1f} points from the parent&#39;s score.</b>" in page
    assert "made, depth, mean" in page
    assert "left out of the charts" not in page
    last = runs[-1].curve[-1].scores
    mean = np.mean([last[name].value for name in NAMES])
    assert f"{mean:.4f}" in build_markdown(runs, laws)


def test_scores_given_are_asked_of_one_benchmark(scored) -> None:
    runs, laws = scored
    given = {"score_before": 0.7, "score_pruned": 0.3}
    with pytest.raises(InputError, match="3 benchmarks that it may be of"):
        answer(laws, runs, Question(**given))
    question = Question(**given, scores=("mmlu",))
    (plan,) = answer(laws, runs, question).plans
    assert (plan.scored.benchmark, plan.scored.start) == ("mmlu", 0.3)
    assert [law.benchmark for law in asked_laws(laws, question)] == ["mmlu"]
    with pytest.raises(InputError, match="did you mean 'mmlu'"):
        answer(laws, runs, Question(scores=("mmul",)))
    with pytest.raises(InputError, match="losses asked of laws of scores"):
        answer(laws, runs, Question(loss_before=2.0))


def test_without_runs_a_law_of_scores_plans_the_largest_of_its_own(scored) -> None:
    _, laws = scored
    plans = answer(laws, [], Question(scores=("mmlu",), score_before=0.7, score_pruned=0.3)).plans
    assert [(plan.params_before, plan.pruning_rate) for plan in plans] == [(2e6, 0.25)]


def test_a_method_that_has_no_turns_is_still_compared_with_training_from_scratch(law) -> None:
    pattern = select_law(load_laws("reference"), method="2:4")
    asked = Question(params_before=1e6, loss_before=3.0, stages=(0.25, 0.5), stage_tokens=4e5, scratch=CURVE)
    found = answer([law, pattern], [], asked)
    assert {one.plan.method: (one.stages is not None, one.scratch is not None) for one in found.alternatives} == {
        "depth": (True, True),
        "2:4": (False, True),
    }
    assert [note for note in found.notes if "2:4 sparsity has one rate" in note]


def test_scores_are_not_compared_by_losses(scored) -> None:
    runs, laws = scored
    for fields in ({"stages": (0.2, 0.3), "stage_tokens": 1e6}, {"scratch": CURVE}):
        with pytest.raises(InputError, match="compared by losses"):
            answer(laws, runs, Question(**fields))
