"""The drift of unpruned models: its law, and what is said of a model or a family without a control."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from regrow.laws.pooled.fit import law_for, pools_of
from regrow.laws.pooled.held_out import fit_kept
from regrow.laws.regrowth.drift import LEAST_SPREAD, fit_drift, spread_of
from regrow.methods import is_masked
from regrow.runs import RunRecord, read_runs

STUDIES = Path(__file__).parents[2] / "studies"
TOKENS = np.geomspace(1e3, 1e6, 20)


def curve(share: float, half: float) -> tuple[np.ndarray, np.ndarray, float]:
    return TOKENS, 3.0 * (1 + share * TOKENS / (TOKENS + half)), 3.0


def test_a_law_of_drift_is_found_and_a_model_with_a_control_keeps_its_own() -> None:
    found = fit_drift({100: curve(0.01, 1e4), 200: curve(0.03, 1e4)})
    assert found.tokens == pytest.approx(1e4, rel=0.15)
    assert found.of(100).share == pytest.approx(0.01, rel=0.02)
    assert found.of(200).share == pytest.approx(0.03, rel=0.02)
    assert found.of(300).share == pytest.approx(0.02, rel=0.02)
    assert found.of(200).spread < found.of(300).spread


def test_spread_between_models_weighs_what_is_expected_with_what_is_seen() -> None:
    # one model: the expected 0.6 of its drift; many: their own standard deviation; never without any
    assert spread_of([0.02]) == pytest.approx(0.012)
    rng = np.random.default_rng(0)
    assert spread_of(0.02 + 0.005 * rng.standard_normal(400)) == pytest.approx(0.005, rel=0.1)
    # 2 models' worth of (0.6 x 0.02)^2 and one degree of freedom of 2 x 0.01^2, over 3
    assert spread_of([0.01, 0.03]) == pytest.approx(np.sqrt((2 * 0.012**2 + 2e-4) / 3))
    assert spread_of([0.0, 0.0]) == LEAST_SPREAD


def test_a_family_held_out_drifts_as_the_others_do_and_less_surely() -> None:
    """Its own controls are held out with it: no drift at all would be a guess, too, and a worse one."""
    names = ("ladder-llama", "ladder-qwen2")
    runs: list[RunRecord] = [r for name in names for r in read_runs(STUDIES / f"{name}.jsonl")]
    small = [r for r in runs if r.params_before < 4e5 and (is_masked(r.method) or r.pruning_rate < 0.3)]
    (pool,) = pools_of([replace(r, curve=r.curve[:6]) for r in small], "all", baseline="initial", skipped=[])
    fitted = fit_kept(pool, [np.full(len(g), g.family == "tiny-llama") for g in pool.groups])
    of = partial(law_for, fitted, baseline="initial", draws=200, seed=0, pool="all")
    known, new = (
        of(next(g for g in pool.groups if (g.family, g.method) == (family, "depth")))
        for family in ("tiny-llama", "tiny-qwen2")
    )
    assert new.params["drift"] == pytest.approx(known.params["drift"])
    assert new.params["drift"] > 0.005
    column = list(new.params).index("drift")
    assert new.draws[:, column].std() > 1.2 * known.draws[:, column].std()
