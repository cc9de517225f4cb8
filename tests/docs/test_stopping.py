"""The tables of D* measured and predicted, on runs whose D* is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from regrow.planning.measured import measured_tokens
from regrow.runs import CurvePoint, RunRecord
from results.stopping import NAMES, Predicted, Stop, covers, factor_off, gaps_of, lost, picture, span, stops

TOKENS = [0, *(int(t) for t in np.geomspace(6144, 4_194_304, 34))]
SHORT = [t for t in TOKENS if t < 200_000]


def run(name: str, size: int, rate: float, curve: list[float], tokens: list[int], method: str = "depth") -> RunRecord:
    points = tuple(CurvePoint(tokens=t, loss=loss) for t, loss in zip(tokens, curve, strict=True))
    after = round(size * (1 - rate))
    return RunRecord(
        run=name, family="f", method=method, params_before=size, params_after=after, pruning_rate=rate,
        loss_before=3.0, curve=points, spec={"prune": {"scorer": "block-influence"}, "name": name},
    )  # fmt: skip


def gap(start: float, tokens: list[int]) -> list[float]:
    """A gap that closes as the law says: start (1 + D / 2e4)^-0.6."""
    noise = np.random.default_rng(round(1e6 * start)).standard_normal(len(tokens))
    return [start * (1 + t / 2e4) ** -0.6 + 5e-4 * e * (t > 0) for t, e in zip(tokens, noise, strict=True)]


def unpruned(size: int, tokens: list[int]) -> RunRecord:
    return run(f"control-{size}", size, 0.0, [3.0 + 1e-5 * (i % 3) for i in range(len(tokens))], tokens, "none")


@pytest.fixture(scope="module")
def found() -> list[Stop]:
    short, starts = [], {0.15: 0.25, 0.25: 0.5, 0.35: 0.9}
    for factor, size in enumerate((100_000, 200_000, 400_000), start=1):
        short.append(unpruned(size, SHORT))
        for rate, start in starts.items():
            lossy = start / factor**0.3
            curve = [3.0 + g for g in gap(lossy, SHORT)]
            short.append(run(f"{size}-{rate}", size, rate, curve, SHORT))
    long = [
        unpruned(300_000, TOKENS),
        *(run(f"long-{r}", 300_000, r, [3 + g for g in gap(s, TOKENS)], TOKENS) for r, s in ((0.15, 0.2), (0.25, 0.4))),
    ]
    return stops(short, long)


def truth(start: float, min_gain: float) -> float:
    grid = np.geomspace(1e3, 1e8, 20_000)
    gain = start * ((1 + grid / 2e4) ** -0.6 - (1 + 2 * grid / 2e4) ** -0.6)
    return float(grid[np.flatnonzero(gain > min_gain)[-1]])


def test_measured_and_predicted_are_the_truth_where_the_law_is_right(found):
    assert [(s.run.run, s.min_gain) for s in found] == [
        (name, gain) for name in ("long-0.15", "long-0.25") for gain in (0.02, 0.01)
    ]
    for stop in found:
        right = truth({0.15: 0.2, 0.25: 0.4}[stop.run.pruning_rate], stop.min_gain)
        assert stop.measured.tokens == pytest.approx(right, rel=0.3)
        assert stop.by["regrowth"].tokens == pytest.approx(right, rel=0.5)
        assert stop.by["under way"].tokens == pytest.approx(right, rel=0.5)
        assert set(stop.by) == set(stop.regret) == set(NAMES)
        assert stop.regret["regrowth"] < 0.02


def test_the_loss_lost_is_that_of_the_curve_and_nothing_for_stopping_late(found):
    stop = next(s for s in found if s.min_gain == 0.01 and s.run.pruning_rate == 0.25)
    at = stop.measured.tokens
    expected = 0.4 * ((1 + at / 2 / 2e4) ** -0.6 - (1 + at / 2e4) ** -0.6)
    assert lost(stop.measured, at / 2) == pytest.approx(expected, abs=1e-3)
    assert lost(stop.measured, 3 * at) == 0
    nowhere = measured_tokens(np.array(TOKENS[1:]), 100 * np.array(TOKENS[1:], dtype=float) ** -0.1)
    assert nowhere.tokens is None
    assert lost(nowhere, 1e5) is None


def test_what_lies_below_the_first_reading_counts_as_one_place(found):
    stop = found[0]
    early = Predicted(tokens=10.0, low=1.0, high=stop.first)
    one = Stop(run=stop.run, min_gain=0.02, measured=stop.measured, first=stop.first, by={"p2": early}, regret={})
    assert factor_off(one, "p2") == pytest.approx(stop.measured.tokens / stop.first)
    assert not covers(one, "p2")
    assert span(10.0, 1.0, np.inf, stop.first) == "< 6.14k (< 6.14k to no end)"


def test_gaps_are_above_the_smoothed_control():
    control = unpruned(1000, SHORT)
    tokens, gaps = gaps_of(run("a", 1000, 0.2, [3.5 for _ in SHORT], SHORT), control)
    assert list(tokens) == SHORT[1:]
    # the control's readings are off by up to 2e-5, each its own way: smoothed it is the same for all
    assert gaps == pytest.approx([0.5 - 1e-5] * len(gaps), abs=1e-5)
    assert np.ptp(gaps) < 1e-5


def test_the_picture_has_a_mark_for_each_prediction(found):
    drawn = picture(found, 0.02)
    assert drawn.startswith("<svg xmlns")
    assert drawn.count("<title>") >= len(NAMES) * sum(s.passed for s in found if s.min_gain == 0.02)
