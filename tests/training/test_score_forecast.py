"""A live forecast by a law of scores: the run's own readings correct it, and its sentence speaks of scores."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import fit, save_laws
from regrow.planning import ScoreTarget
from regrow.planning.forecast import forecast
from regrow.runs import CurvePoint, RunRecord, Score
from regrow.training.forecast import log_values, parse_stop, watch_for
from regrow.training.spec import TrainSpec

BEFORE = 0.3
TOKENS = (0, 10_000, 30_000, 60_000, 100_000, 150_000, 200_000)


SPEC = TrainSpec(tokens=200_192, batch_tokens=1024, tasks=("a", "b"))


def error(tokens: float, end: float = BEFORE) -> float:
    return end + (0.65 - end) * (1 + tokens / 3e4) ** -0.5


def run(size: int, end: float = BEFORE) -> RunRecord:
    rng = np.random.default_rng(size)
    points = tuple(
        CurvePoint(
            tokens=t,
            loss=3.0,
            scores={
                name: Score(value=1 - error(t, end) + 0.004 * rng.standard_normal(), questions=2000)
                for name in ("a", "b")
            },
        )
        for t in TOKENS
    )
    return RunRecord(
        run=f"r{size}", family="made", method="depth", params_before=size, params_after=size // 2, pruning_rate=0.5,
        loss_before=2.5, scores_before={n: Score(value=1 - BEFORE, questions=2000) for n in ("a", "b")}, curve=points,
        status="imported",
    )  # fmt: skip


@pytest.fixture(scope="module")
def laws():
    return fit([run(size) for size in (500_000, 1_000_000, 2_000_000)], score="all", draws=100)


def test_readings_move_and_narrow_the_forecast(laws) -> None:
    from regrow.laws import Setting

    law = laws[0]
    setting = Setting(params_before=3e6, pruning_rate=0.5, loss_before=BEFORE, loss_pruned=0.65)
    # this run comes back less than the law's do
    read = [error(t, 0.36) for t in TOKENS[:5]]
    first = forecast([0], read[:1], final_tokens=200_000, law=law, setting=setting)
    later = forecast(list(TOKENS[:5]), read, final_tokens=200_000, law=law, setting=setting)
    assert later.final_high - later.final_low < first.final_high - first.final_low
    assert abs(later.final_loss - error(2e5, 0.36)) < abs(first.final_loss - error(2e5, 0.36))
    assert later.target == "score:a"
    assert f"score:a {1 - read[-1]:.4f}" in later.sentence()
    assert f"{1 - later.final_loss:.4f}" in later.sentence()
    values = log_values(later)
    assert values["eval_forecast_low"] < values["eval_forecast_score"] < values["eval_forecast_high"]


def test_stopping_rules_of_scores_are_in_points_and_fractions() -> None:
    assert parse_stop("target:0.7", scores=True) == ScoreTarget(score=0.7)
    assert parse_stop("gain", scores=True).min_gain == 0.5
    with pytest.raises(InputError, match="divide by 100"):
        parse_stop("target:70", scores=True)
    with pytest.raises(InputError, match="unknown criterion"):
        parse_stop("slope:0.1", scores=True)


def test_a_run_is_watched_by_the_mean_of_its_benchmarks(laws, tmp_path) -> None:
    save_laws(laws, tmp_path / "law.json")
    said: list[str] = []
    watch = watch_for(tmp_path / "law.json", "target:0.55", said.append)
    at_milestone = watch(replace(run(3_000_000), curve=()), SPEC)
    curve = run(3_000_000).curve
    stops = [at_milestone(curve[:count]) for count in range(1, len(curve) + 1)]
    assert stops[0] is None
    assert any(stop and "the score is at least 0.55" in stop for stop in stops)
    mean = np.mean([score.value for score in curve[-1].scores.values()])
    assert any(f"score:mean {mean:.4f}" in line for line in said)


def test_a_run_without_the_benchmark_is_refused(laws, tmp_path) -> None:
    save_laws(laws, tmp_path / "law.json")
    watch = watch_for(tmp_path / "law.json", None, None)
    with pytest.raises(InputError, match="this run asks no benchmark"):
        watch(run(3_000_000), replace(SPEC, tasks=()))
    bare = replace(run(3_000_000), scores_before={"a": Score(value=0.7)})
    with pytest.raises(InputError, match="the unpruned model has no score of b"):
        watch(bare, SPEC)


def test_a_loss_forecast_says_loss() -> None:
    found = forecast(list(TOKENS[1:]), [3 + (t / 1e4) ** -0.3 for t in TOKENS[1:]], final_tokens=400_000)
    assert ", loss " in found.sentence()
    assert math.isfinite(log_values(found)["eval_forecast_loss"])
