"""Which controls a run is measured against, and what they read."""

from dataclasses import replace

import numpy as np
import pytest

from regrow.laws.controls import control_curves, recipe_of
from regrow.laws.observations import observe
from regrow.laws.pooled.fit import pools_of
from regrow.runs.record import CurvePoint, RunRecord

SHORT, LONG = (1000, 2000, 4000, 8000), (1000, 2000, 4000, 8000, 16000, 32000, 64000)


def record(name: str, method: str, losses: dict[int, float], rate: float, **other: object) -> RunRecord:
    points = tuple(CurvePoint(tokens=t, loss=v) for t, v in losses.items())
    return RunRecord(
        run=name, family="toy", method=method, params_before=1000, params_after=1000 if method == "none" else 800,
        pruning_rate=0.0 if method == "none" else 0.2, loss_before=3.0, curve=points,
        spec={"train": {"learning_rate": rate, "batch_tokens": 512}}, **other,
    )  # fmt: skip


def flat(tokens: tuple[int, ...], loss: float) -> dict[int, float]:
    return {0: 3.0, **dict.fromkeys(tokens, loss)}


def test_a_long_control_goes_on_where_a_short_one_ends() -> None:
    controls = [record("short", "none", flat(SHORT, 3.1), 1e-3), record("long", "none", flat(LONG, 3.2), 1e-3)]
    tokens, loss, before = control_curves(controls, "toy")[1000]
    assert before == 3.0
    assert dict(zip(tokens, loss, strict=True)) == pytest.approx(
        {0: 3.0, **dict.fromkeys(SHORT, 3.15), **dict.fromkeys(LONG[4:], 3.2)}
    )
    run = record("pruned", "depth", {0: 4.0, **dict.fromkeys(LONG, 3.5)}, 1e-3)
    (seen,) = observe([run, *controls], baseline="control")
    assert len(seen) == len(LONG) + 1  # no reading is lost past the short control


def test_a_run_is_measured_against_controls_of_its_own_recipe() -> None:
    slow, fast = (
        record(f"control-{rate}", "none", flat(LONG, loss), rate) for rate, loss in ((1e-4, 3.0), (1e-3, 3.3))
    )
    runs = [record(f"run-{rate}", "depth", {0: 4.0, **dict.fromkeys(LONG, 3.5)}, rate) for rate in (1e-4, 1e-3)]
    (seen,) = observe([*runs, slow, fast], baseline="control")
    later = seen.x.tokens > 0
    for number, expected in enumerate((3.0, 3.3)):
        np.testing.assert_allclose(seen.x.loss_before[later & (seen.run == number)], expected)
    (pool,) = pools_of([*runs, slow, fast], "family", baseline="initial", skipped=[])
    for run, expected in zip(pool.all_runs, (3.0, 3.3), strict=True):
        np.testing.assert_allclose(run.baseline, expected, atol=1e-9)
    # a recipe without a control of its own takes those that the size has
    (seen,) = observe(
        [record("other", "depth", {0: 4.0, **dict.fromkeys(LONG, 3.5)}, 5e-4), slow, fast], baseline="control"
    )
    np.testing.assert_allclose(seen.x.loss_before[seen.x.tokens > 0], 3.15)


def test_a_recipe_is_read_from_what_the_record_has() -> None:
    asked = recipe_of(record("a", "none", flat(SHORT, 3.0), 1e-3))
    assert (asked.learning_rate, asked.batch_tokens, asked.text) == (1e-3, 512, None)
    imported = replace(
        record("b", "none", flat(SHORT, 3.0), 1e-3), spec={}, details={"batch_tokens": 256, "train_fingerprint": "x"}
    )
    assert recipe_of(imported).learning_rate is None
    curve = tuple(replace(p, lr=2e-4) for p in imported.curve)
    found = recipe_of(replace(imported, curve=curve))
    assert (found.learning_rate, found.batch_tokens, found.text) == (2e-4, 256, "x")
