"""Runs that follow a known law with a little noise, the law, and plans made with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from report_browser import BROWSER, Browser

from regrow.laws.law import Law
from regrow.laws.setting import Setting
from regrow.planning import Plan, PlanSpec, plan
from regrow.planning.frontier import CompareSpec, Comparison, compare
from regrow.runs.record import CONTROL, CurvePoint, RunRecord

P2 = {"alpha": 0.4, "beta": 0.35, "gamma": -1.3, "delta": 0.12, "N_C": 60.0, "D_C": 180.0, "E": 0.3}
PARAMS = {
    "p2": P2,
    "p2_odds": P2,
    "p2_shifted": {**P2, "D_s": 3e4},
    "p2_counts": {**P2, "E0": 1.8, "A": 30.0, "a": 0.22},
    "chinchilla": {"alpha": 0.3, "beta": 0.32, "E": 1.6, "A": 100.0, "B": 60.0},
    "compression": {"alpha": 1.02, "beta": 0.4, "gamma": 4e3},
    "regrowth": {
        "level": 0.02,
        "level_gap": 0.04,
        "pace": 2e4,
        "pace_refitted": 0.8,
        "pace_rate": -1.0,
        "pace_batch": 0.6,
        "exponent": 0.37,
        "exponent_gap": -0.1,
    }
    | {
        "exponent_size": 0.03,
        "end": 0.006,
        "end_lost": 0.03,
        "drift": 0.012,
        "drift_tokens": 2e4,
        "gap": 0.4,
        "gap_rate": 0.9,
    }
    | {"gap_size": -0.3, "usual_refitted": 0.0, "usual_rate": 3e-4, "usual_batch": 1024.0},
    "sparse": {"b_S": 0.8, "b_N": 0.25, "b_D": 0.3, "a_S": 8.0, "c_S": 20.0, "a_D": 2e4, "c": 1.4},
}
LOSS_BEFORE = {300_000: 3.72, 600_000: 3.45, 1_200_000: 3.2, 3_000_000: 2.91}
TOKENS = np.geomspace(2e4, 2e6, 9)


def make_law(**changes: object) -> Law:
    form = str(changes.get("form", "p2"))
    params = PARAMS[form]
    spread = np.random.default_rng(0).normal(0, 0.03, (40, len(params)))
    fields: dict = {
        "family": "tiny-llama",
        "method": "depth",
        "form": form,
        "params": params,
        "status": "ok",
        "warnings": (),
        "n_runs": 9,
        "n_points": 81,
        "metrics": {"r2": 0.99, "huber": 1e-5, "asd": 1e-3, "mape": None},
        "ranges": {
            "params_before": (3e5, 1.2e6),
            "pruning_rate": (0.15, 0.35),
            "tokens": (2e4, 2e6),
            "loss_before": (3.2, 3.72),
        },
        "draws": np.array(list(params.values())) * np.exp(spread),
        "run_spread": 0.004,
        "point_spread": 0.002,
        "baseline": "initial",
        "fingerprint": "ab12cd34ef56ab78",
    }
    return Law(**{**fields, **changes})


def make_run(law: Law, size: int, rate: float, *, name: str | None = None) -> RunRecord:
    before = LOSS_BEFORE[size]
    rng = np.random.default_rng(size + int(100 * rate))
    losses = law.loss(Setting(params_before=size, pruning_rate=rate, tokens=TOKENS, loss_before=before))
    losses = losses * np.exp(rng.normal(0, 0.002, len(TOKENS)))
    points = [CurvePoint(tokens=int(d), loss=float(x)) for d, x in zip(TOKENS, losses, strict=True)]
    return RunRecord(
        run=name or f"{law.method}-{size}-{rate}",
        family=law.family,
        method=law.method,
        params_before=size,
        params_after=round(size * (1 - rate)),
        pruning_rate=rate,
        loss_before=before,
        curve=(CurvePoint(tokens=0, loss=6.0), *points),
    )


def make_control(size: int) -> RunRecord:
    before = LOSS_BEFORE[size]
    return RunRecord(
        run=f"control-{size}",
        family="tiny-llama",
        method=CONTROL,
        params_before=size,
        params_after=size,
        pruning_rate=0.0,
        loss_before=before,
        curve=tuple(CurvePoint(tokens=int(d), loss=before + 0.02 * float(d) / 2e6) for d in TOKENS),
    )


@dataclass(frozen=True)
class Study:
    laws: list[Law]
    runs: list[RunRecord]
    held_out: list[RunRecord]
    plans: list[Plan]


@pytest.fixture(scope="session")
def study() -> Study:
    laws = [make_law(), make_law(method="width")]
    sizes = list(LOSS_BEFORE)
    runs = [make_run(law, size, rate) for law in laws for size in sizes[:3] for rate in (0.15, 0.25, 0.35)]
    controls = [make_control(size) for size in sizes]
    held_out = [make_run(law, sizes[3], rate) for law in laws for rate in (0.15, 0.35)]
    spec = PlanSpec(params_before=3e6, pruning_rate=0.25, loss_before=2.91, price_usd_per_hour=2.5)
    return Study(laws, runs + controls, held_out, [plan(law, spec) for law in laws])


@pytest.fixture(scope="session")
def comparison(study: Study) -> Comparison:
    base = PlanSpec(params_before=3e6, loss_before=2.91, price_usd_per_hour=2.5)
    return compare(study.laws, CompareSpec(base=base, served_tokens=1e12))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests of the room."""
    if BROWSER is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with Browser(tmp_path_factory.mktemp("chromium")) as one:
        yield one


@pytest.fixture(name="make_law")
def _make_law() -> Callable[..., Law]:
    return make_law


@pytest.fixture(name="make_run")
def _make_run() -> Callable[..., RunRecord]:
    return make_run
