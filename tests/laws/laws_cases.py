"""A known law and its runs, shared by the tests of this folder."""

import numpy as np

from regrow.laws.simulate import simulate
from regrow.runs.record import CurvePoint, RunRecord

#: natural units; at 1e9 parameters, rate 0.25 and 1e9 tokens the gap is 0.8 nats, of which tokens close 0.4
TRUTH = {"alpha": 0.0, "beta": 0.45, "gamma": -1.3, "delta": 0.2, "N_C": 0.0}
TRUTH |= {"D_C": 0.4 * 0.25**-1.3 * 1e9**0.2 * 1e9**0.45, "E": 0.4 * 0.25**-1.3 * 1e9**0.2}
SIZES, RATES = (0.5e9, 1e9, 2e9), (0.15, 0.25, 0.35)
TOKENS = np.geomspace(1e8, 1e10, 12)


def loss_before(size: float) -> float:
    return 1.8 + 0.9 * (size / 1e9) ** -0.25


def runs(
    seed: int = 0,
    *,
    sizes=SIZES,
    rates=RATES,
    tokens=TOKENS,
    run_noise=0.004,
    point_noise=0.002,
    params=TRUTH,
    **more,
) -> list[RunRecord]:
    return simulate(
        params, sizes=sizes, rates=rates, tokens=tokens, loss_before=loss_before, run_noise=run_noise,
        point_noise=point_noise, seed=seed, **more,
    )  # fmt: skip


def control(size: float, losses: dict[int, float], family: str = "simulated") -> RunRecord:
    return RunRecord(
        run=f"control-{size:.0f}",
        family=family,
        method="none",
        params_before=round(size),
        params_after=round(size),
        pruning_rate=0.0,
        loss_before=loss_before(size),
        curve=tuple(CurvePoint(tokens=t, loss=loss) for t, loss in losses.items()),
    )
