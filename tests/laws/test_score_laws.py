"""Laws of benchmark scores: known curves come back, intervals cover, the mean is narrower, bad scores are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regrow.errors import InputError
from regrow.laws import fit, load_laws, save_laws, select_law, validate
from regrow.laws.pooled.scored import names_of, of_score, stderr_of
from regrow.runs import CurvePoint, RunRecord, Score

TOKENS = (0, 10_000, 30_000, 60_000, 100_000, 150_000, 200_000)
#: error of the parent and of the pruned model, by benchmark
ERRORS = {"a": (0.30, 0.60), "b": (0.40, 0.70), "c": (0.20, 0.55)}
QUESTIONS = 2000


def truth(name: str, tokens: float, size: float = 1e6) -> float:
    """The error of the simulated runs: a gap that closes as a power of the tokens, more slowly in small models."""
    before, start = ERRORS[name]
    return before + (start - before) * (1 + tokens / (4e4 * (size / 1e6) ** -0.2)) ** -0.5


def run(size: int = 1_000_000, noise: float = 0.0, seed: int = 0, method: str = "depth", **changes) -> RunRecord:
    rng = np.random.default_rng([seed, size])

    def score(name: str, tokens: int) -> Score:
        return Score(value=1 - truth(name, tokens, size) + noise * rng.standard_normal(), questions=QUESTIONS)

    plain = {
        "run": f"{method}-{size}-{seed}",
        "family": "made",
        "method": method,
        "params_before": size,
        "params_after": size // 4 * 3,
        "pruning_rate": 0.25,
        "curve": tuple(CurvePoint(tokens=t, scores={name: score(name, t) for name in ERRORS}) for t in TOKENS),
        "scores_before": {name: Score(value=1 - before, questions=QUESTIONS) for name, (before, _) in ERRORS.items()},
        "status": "imported",
    }
    return RunRecord(**{**plain, **changes})


def three(noise: float = 0.0, seed: int = 0) -> list[RunRecord]:
    return [run(size, noise, seed) for size in (500_000, 1_000_000, 2_000_000)]


def test_known_curves_come_back_at_later_tokens() -> None:
    laws = fit(three(), score="all", draws=100)
    assert [law.target for law in laws] == ["score:a", "score:b", "score:c", "score:mean"]
    for law in laws[:3]:
        before, start = ERRORS[str(law.benchmark)]
        found = law.predict(
            params_before=1e6, pruning_rate=0.25, tokens=4e5, loss_before=before, loss_pruned=start, level=0.9
        )
        expected = 1 - truth(str(law.benchmark), 4e5)
        assert found.score == pytest.approx(expected, abs=0.01)
        assert found.low <= expected <= found.high
        assert found.loss == pytest.approx(1 - found.score)
    mean = laws[3].predict(
        params_before=1e6, pruning_rate=0.25, tokens=2e5,
        loss_before=float(np.mean([b for b, _ in ERRORS.values()])),
        loss_pruned=float(np.mean([s for _, s in ERRORS.values()])),
    )  # fmt: skip
    assert mean.score == pytest.approx(1 - np.mean([truth(name, 2e5) for name in ERRORS]), abs=0.01)


def test_intervals_cover_and_the_mean_is_narrower() -> None:
    inside, widths = [], []
    for seed in range(6):
        results = validate(three(noise=0.012, seed=seed), "tokens", score="all", draws=100, seed=seed)
        singles = [r for r in results if r.target != "score:mean"]
        mean = next(r for r in results if r.target == "score:mean")
        inside += [r.coverage for r in singles]
        widths.append(mean.width / np.mean([r.width for r in singles]))
        assert max(r.mae for r in results) < 0.03
    assert 0.8 <= np.mean(inside) <= 1.0
    assert max(widths) < 0.9


@pytest.mark.parametrize("hold_out", ["size", "run"])
def test_a_model_not_seen_is_predicted(hold_out: str) -> None:
    results = validate(three(noise=0.005), hold_out, score=["a", "b"], draws=60)
    assert {r.target for r in results} == {"score:a", "score:b", "score:mean"}
    assert all(r.mae < 0.03 for r in results)
    # the errors of the guesses beside it are in the same units
    assert all(0 < r.baselines["last"] < 0.2 for r in results)


def test_a_method_not_seen_is_predicted() -> None:
    records = [*three(), *(run(size, method="width") for size in (500_000, 2_000_000))]
    results = validate(records, "method", score="all", draws=60)
    assert {r.method for r in results} == {"depth", "width"}
    assert max(r.mae for r in results) < 0.03


def test_few_questions_weigh_less() -> None:
    # one late reading is 0.1 too low; it moves the curve by how many questions stand behind it
    def fitted(questions: int, off: float) -> float:
        points = [
            CurvePoint(tokens=t, scores={"a": Score(value=1 - truth("a", t) - (off if t == TOKENS[-1] else 0.0),
                                                    stderr=0.4 / np.sqrt(questions if t == TOKENS[-1] else 20_000))})
            for t in TOKENS
        ]  # fmt: skip
        law = fit([run(curve=tuple(points))], score="a", draws=20)[0]
        return float(
            law.predict(params_before=1e6, pruning_rate=0.25, tokens=2e5, loss_before=0.3, loss_pruned=0.6).score
        )

    few, many = (fitted(n, 0.0) - fitted(n, 0.1) for n in (20, 20_000))
    assert 0 <= few < 0.5 * many


def test_a_pruned_model_that_was_seen_is_known_better_than_another() -> None:
    records = three(noise=0.003)
    law = fit(records, score="a", draws=150)[0]
    at = {"tokens": 1.2e5, "loss_before": 0.3, "loss_pruned": 0.6}
    seen, other = (law.predict(params_before=1e6, pruning_rate=rate, **at) for rate in (0.25, 0.35))
    assert seen.high - seen.low < other.high - other.low


def test_averages_are_not_fitted_beside_what_they_average() -> None:
    points = tuple(
        CurvePoint(tokens=t, scores={**p.scores, "Average": Score(value=0.5)})
        for t, p in zip(TOKENS, run().curve, strict=True)
    )
    assert names_of([run(curve=points)], "all") == ("a", "b", "c")
    assert names_of([run(curve=points)], "Average") == ("Average",)


def test_a_law_file_keeps_the_target(tmp_path) -> None:
    laws = fit(three(), score=["a", "b"], draws=10)
    save_laws(laws, tmp_path / "law.json")
    back = load_laws(tmp_path / "law.json")
    assert [law.target for law in back] == ["score:a", "score:b", "score:mean"]
    assert select_law(back, score="b").benchmark == "b"
    x = {"params_before": 1e6, "pruning_rate": 0.25, "tokens": 5e4, "loss_before": 0.3, "loss_pruned": 0.6}
    assert back[0].predict(**x).score == pytest.approx(laws[0].predict(**x).score, abs=1e-4)
    with pytest.raises(InputError, match="benchmark with --score"):
        select_law(back)
    with pytest.raises(InputError, match="did you mean"):
        select_law(back, score="means")


def test_without_the_parents_scores_later_tokens_are_predicted_and_new_runs_are_not() -> None:
    orphans = [replace(record, scores_before={}) for record in three()]
    laws = fit(orphans, score="all", draws=20)
    assert any("parent's score is not known" in warning for warning in laws[0].warnings)
    assert max(r.mae for r in validate(orphans, "tokens", score="all", draws=20)) < 0.02
    with pytest.raises(InputError, match="parent's score a is not known"):
        validate(orphans, "size", score="all", draws=20)


def _with(value: float, **known) -> RunRecord:
    points = [CurvePoint(tokens=t, scores={"a": Score(value=1 - truth("a", t), **known)}) for t in TOKENS[:-1]]
    return run(curve=(*points, CurvePoint(tokens=TOKENS[-1], scores={"a": Score(value=value, **known)})))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (_with(0.05, chance=0.25, questions=2000), "further below the 0.25 of guessing"),
        (_with(0.05, chance=0.25), "further below the 0.25 of guessing"),
        (_with(0.6, questions=1000), "readings of 1000 and 2000 questions"),
        (_with(0.6, chance=0.75), "unpruned model's score of 0.7 is not above the 0.75 of guessing"),
    ],
)
def test_scores_that_contradict_themselves_are_refused_in_one_line(record: RunRecord, words: str) -> None:
    with pytest.raises(InputError) as caught:
        of_score([record], "a")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_noise_below_guessing_is_no_contradiction() -> None:
    record = _with(0.235, chance=0.25, questions=2000)
    assert of_score([record], "a")[0].curve[-1].loss == pytest.approx(0.765)


def test_the_noise_of_a_reading_is_known_from_its_questions() -> None:
    assert stderr_of(Score(value=0.5, questions=101)) == pytest.approx(0.05)
    assert stderr_of(Score(value=0.5, questions=101, stderr=0.03)) == 0.03
    assert stderr_of(Score(value=0.5)) is None
    assert stderr_of(Score(value=0.0, questions=100)) > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"score": "d"}, "unknown benchmark 'd'"),
        ({"score": ["a", "a"]}, "named twice"),
        ({"score": "a", "form": "p2"}, "the form p2 with scores"),
        ({"score": "a", "baseline": "control"}, "the baseline control with scores"),
        ({"score": "a", "loss": "averaged"}, "averaged losses with scores"),
        ({}, "no losses are known"),
    ],
)
def test_what_cannot_be_fitted_is_said(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit(three(), **options)


def test_an_early_first_reading_does_not_hold_the_curve_up() -> None:
    # the parent is not known, and most comes back after the first reading: from 0.60 to 0.33, parents' 0.30
    tokens = (100, 20_000, 100_000, 400_000, 1_600_000, 3_000_000)
    points = tuple(CurvePoint(tokens=t, scores={"a": Score(value=1 - truth("a", t), questions=20_000)}) for t in tokens)
    (result,) = validate([run(curve=points, scores_before={})], "tokens", score="a", draws=40)
    assert result.n_points == 1
    assert result.mae < 0.015
    assert result.coverage == 1.0
