"""A report of laws of benchmark scores speaks of scores: cards, charts, tables; losses stay what they are."""

from __future__ import annotations

import numpy as np
import pytest

from regrow.laws import fit
from regrow.report import write_report
from regrow.report.answers import Question, answer
from regrow.runs import CurvePoint, RunRecord, Score

TOKENS = (0, 10_000, 30_000, 60_000, 100_000, 150_000, 200_000)
NAMES = ("mmlu", "gsm8k")


def run(size: int, *, losses: bool) -> RunRecord:
    rng = np.random.default_rng(size)

    def error(tokens: float) -> float:
        return 0.3 + 0.35 * (1 + tokens / 3e4) ** -0.5 + 0.003 * rng.standard_normal()

    points = tuple(
        CurvePoint(
            tokens=t,
            loss=2.0 + (1 + t / 2e4) ** -0.4 if losses else None,
            scores={name: Score(value=1 - error(t), questions=2000) for name in NAMES},
        )
        for t in TOKENS
    )
    return RunRecord(
        run=f"r{size}", family="made", method="depth", params_before=size, params_after=size // 4 * 3,
        pruning_rate=0.25, loss_before=2.0 if losses else None, curve=points, status="imported",
        scores_before={name: Score(value=0.7, questions=2000) for name in NAMES},
    )  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["with losses", "scores alone"])
def runs(request) -> list[RunRecord]:
    return [run(size, losses=request.param) for size in (500_000, 1_000_000, 2_000_000)]


def test_the_plan_asks_with_the_scores_of_the_runs(runs) -> None:
    laws = fit(runs, score="all", draws=40)
    answers = answer(laws, runs, Question())
    assert {one.scored.target for one in answers.plans} == {"score:mmlu", "score:gsm8k", "score:mean"}
    for one in answers.plans:
        assert one.scored.before == pytest.approx(0.7)
        assert one.scored.start == pytest.approx(0.35, abs=0.02)
    assert not answers.comparisons


@pytest.mark.parametrize("kind", ["md", "html", "png"])
def test_every_format_speaks_of_scores(runs, tmp_path, kind: str) -> None:
    laws = fit(runs, score=list(NAMES), draws=40)
    out = tmp_path / f"report.{kind}"
    answers = answer(laws, runs, Question())
    write_report(runs, laws, answers.plans, out=out, form=kind, notes=answers.notes)
    assert out.stat().st_size > 1000
    if kind == "png":
        return
    text = out.read_text()
    assert "made, depth, mmlu" in text
    assert ("score:mmlu | 0.700 before" if kind == "md" else "Of the parent") in text
    if kind == "html":
        # the axis of the charts of a law of scores
        assert "score:mmlu, a fraction" in text
        assert "loss, nats/token" not in text


def test_charts_show_scores_and_errors_in_points(runs, tmp_path) -> None:
    (law,) = fit(runs, score="mmlu", draws=40)
    write_report(runs, [law], (), out=tmp_path / "r.md", form="md")
    text = (tmp_path / "r.md").read_text()
    last = runs[-1].curve[-1].scores["mmlu"].value
    assert f"{last:.4f}" in text
    assert "Last score" in text
