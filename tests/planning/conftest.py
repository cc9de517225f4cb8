"""A law with known coefficients, in natural units: parameters, tokens, nats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from regrow.laws.law import Law

P2 = {"alpha": 0.5, "beta": 0.35, "gamma": -1.4, "delta": 0.12, "N_C": 2000.0, "D_C": 9000.0, "E": 1.2}


@pytest.fixture
def make_law() -> Callable[..., Law]:
    def make(**changes: object) -> Law:
        params = dict(changes.get("params", P2))  # type: ignore[call-overload]
        spread = np.random.default_rng(0).normal(0, 0.02, (300, len(params)))
        fields: dict = {
            "family": "llama",
            "method": "depth",
            "form": "p2",
            "params": params,
            "status": "ok",
            "warnings": (),
            "n_runs": 6,
            "n_points": 60,
            "metrics": {"r2": 0.99, "huber": 1e-5, "asd": 1e-3, "mape": 0.004},
            "ranges": {
                "params_before": (1e8, 1e9),
                "pruning_rate": (0.15, 0.35),
                "tokens": (1e6, 1e10),
                "loss_before": (2.0, 3.0),
            },
            "draws": np.array(list(params.values())) * np.exp(spread),
            "run_spread": 0.01,
            "point_spread": 0.002,
            "baseline": "initial",
            "fingerprint": "0" * 16,
        }
        return Law(**{**fields, **changes})

    return make
