"""The link from loss to score: known curves come back, and that route holds out what the direct one holds out."""

from __future__ import annotations

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import fit_link, validate
from regrow.runs import CurvePoint, RunRecord, Score

LOW, HIGH, MIDDLE, WIDTH = 0.25, 0.9, 3.0, 0.5


def truth(loss: float) -> float:
    return LOW + (HIGH - LOW) / (1 + np.exp((loss - MIDDLE) / WIDTH))


def run(size: int, start: float, *, chance: float | None = LOW, noise: float = 0.0, method: str = "depth") -> RunRecord:
    rng = np.random.default_rng(size)
    before = 2.6 - 0.2 * np.log(size / 1e6)

    def point(tokens: int) -> CurvePoint:
        loss = before + start * (1 + tokens / 2e4) ** -0.4
        score = truth(loss) + noise * rng.standard_normal()
        return CurvePoint(tokens=tokens, loss=loss, scores={"a": Score(value=score, questions=1000, chance=chance)})

    return RunRecord(
        run=f"{method}-{size}", family="made", method=method, params_before=size, params_after=size // 2,
        pruning_rate=0.5, loss_before=before, scores_before={"a": Score(value=truth(before), questions=1000)},
        curve=tuple(point(t) for t in (0, 10_000, 30_000, 60_000, 100_000, 150_000, 200_000)), status="imported",
    )  # fmt: skip


def runs(**more) -> list[RunRecord]:
    return [run(size, 2.0, **more) for size in (500_000, 1_000_000, 2_000_000)]


@pytest.mark.parametrize("chance", [LOW, None])
def test_a_known_link_comes_back_and_falls(chance) -> None:
    link = fit_link(runs(chance=chance), "a")
    losses = np.linspace(2.6, 4.6, 30)
    np.testing.assert_allclose(link.score(losses), [truth(loss) for loss in losses], atol=0.01)
    assert (np.diff(link.score(np.linspace(0.5, 12, 200))) <= 0).all()
    assert link.pairs == 3 * 7 + 3
    if chance is not None:
        assert link.low == chance


def test_noise_is_what_the_readings_scatter() -> None:
    assert fit_link(runs(noise=0.02), "a").noise == pytest.approx(0.02, rel=0.4)


@pytest.mark.parametrize("hold_out", ["size", "tokens", "run"])
def test_the_route_over_the_loss_stands_beside_the_direct_one(hold_out: str) -> None:
    results = validate(runs(), hold_out, score="a", draws=20)
    (result,) = results
    assert result.baselines["from_loss"] == pytest.approx(0, abs=0.03)


def test_what_is_held_out_is_not_in_the_link() -> None:
    # the largest model's scores are of another kind: a link that had seen them would meet them
    odd = runs()
    points = [CurvePoint(tokens=p.tokens, loss=p.loss, scores={"a": Score(value=0.3)}) for p in odd[2].curve]
    from dataclasses import replace

    odd[2] = replace(odd[2], curve=tuple(points))
    (result,) = validate(odd, "size", score="a", draws=20)
    expected = np.mean([truth(p.loss) - 0.3 for p in odd[2].curve[1:]])
    assert result.baselines["from_loss"] == pytest.approx(expected, abs=0.05)


def test_without_losses_there_is_the_direct_route_only() -> None:
    from dataclasses import replace

    bare = [
        replace(r, loss_before=None, curve=tuple(replace(p, loss=None) for p in r.curve), loss_pruned=None)
        for r in runs()
    ]
    (result,) = validate(bare, "size", score="a", draws=20)
    assert result.baselines["from_loss"] is None


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (lambda: [run(1_000_000, 2.0), run(1_000_000, 2.0)][:0] or [], "0 families"),
        (lambda: [run(1_000_000, 1e-6)], "all alike"),
    ],
)
def test_too_little_is_said(records, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit_link(records(), "a")


def test_few_pairs_are_refused() -> None:
    from dataclasses import replace

    short = [replace(r, curve=r.curve[:1]) for r in runs()[:2]]
    with pytest.raises(InputError, match="4 checkpoints with a loss and a score"):
        fit_link(short, "a")
