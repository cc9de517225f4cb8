"""Runs whose pruner solved weights again close their gap more slowly, and a law tells them from the others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regrow.laws import Setting, fit
from regrow.laws.regrowth.curve import gap_and_jacobian
from regrow.laws.setting import REFITTED
from regrow.runs import RunRecord, read_runs
from regrow.runs.record import CurvePoint

STUDIES = Path(__file__).parents[2] / "studies"
TOKENS = np.geomspace(1e6, 1e9, 14)
PACE, TIMES = 2e7, 3.0


def simulated(seed: int = 0) -> list[RunRecord]:
    """Width at three sizes; half of the runs refitted, which makes their pace `TIMES` as long."""
    rng = np.random.default_rng(seed)
    runs = []
    for size in (1e8, 4e8, 1.6e9):
        for number, gap in enumerate(np.exp(rng.uniform(np.log(0.2), np.log(1.5), 6))):
            refitted = bool(number % 2)
            pace = PACE * (TIMES if refitted else 1.0) * np.exp(0.1 * rng.standard_normal())
            psi = np.array([0.0, np.log(pace), np.log(0.4), 0.0])
            closing, _ = gap_and_jacobian(psi, np.array(gap), np.array(2.5), TOKENS)
            loss = 2.5 + closing + 0.002 * rng.standard_normal(len(TOKENS))
            curve = [CurvePoint(tokens=0, loss=2.5 + gap)]
            curve += [CurvePoint(tokens=int(t), loss=float(v)) for t, v in zip(TOKENS, loss, strict=True)]
            runs.append(
                RunRecord(
                    run=f"{size:g}-{number}",
                    family="simulated",
                    method="width",
                    params_before=int(size),
                    params_after=int(0.75 * size),
                    pruning_rate=0.25,
                    loss_before=2.5,
                    curve=tuple(curve),
                    details={"scorer": "least-squares" if refitted else "activation"},
                )
            )
        flat = tuple(CurvePoint(tokens=int(t), loss=2.5) for t in (0, *TOKENS))
        runs.append(
            RunRecord(
                run=f"control-{size:g}",
                family="simulated",
                method="none",
                params_before=int(size),
                params_after=int(size),
                pruning_rate=0.0,
                loss_before=2.5,
                curve=flat,
            )
        )
    return runs


def test_how_much_slower_refitted_runs_close_is_found() -> None:
    (law,) = fit(simulated(), "regrowth", baseline="control", draws=200)
    assert law.params["pace_refitted"] == pytest.approx(np.log(TIMES), abs=0.2)
    x = Setting(params_before=4e8, pruning_rate=0.25, tokens=TOKENS, loss_before=2.5, loss_pruned=3.1)
    for refitted, pace in ((0.0, PACE), (1.0, TIMES * PACE)):
        true = 0.6 * (1 + TOKENS / (0.4 * pace)) ** -0.4
        np.testing.assert_allclose(law.loss(x.replace(refitted=refitted)) - 2.5, true, rtol=0.15)
    # what is not known counts as not refitted
    np.testing.assert_allclose(law.loss(x), law.loss(x.replace(refitted=np.nan)))
    np.testing.assert_allclose(law.loss(x), law.loss(x.replace(refitted=0.0)))


def test_the_end_of_long_refitted_runs_is_predicted_from_short_ones_of_other_sizes() -> None:
    """21 times beyond the fit, by laws of studies without a refitted run: the gap is right within 0.02 nats."""
    for study, ladder, size in (("long-llama", "ladder-llama", 188960), ("long-qwen2", "ladder-qwen2", 241072)):
        short = [r for r in read_runs(STUDIES / f"{ladder}.jsonl") if r.params_before != size and r.pruning_rate < 0.36]
        long = [r for r in read_runs(STUDIES / f"{study}.jsonl") if r.params_before == size]
        control = next(r for r in long if r.is_control)
        law = next(law for law in fit(short, "regrowth", baseline="control", draws=10) if law.method == "width")
        refitted = [r for r in long if r.method == "width" and REFITTED.read(r)[0] == 1]
        assert refitted
        for run in refitted:
            late = [
                (p.loss - c.loss, p.tokens) for p, c in zip(run.curve, control.curve, strict=True) if p.tokens > 3e6
            ]
            gap, tokens = np.array(late).T
            at = {"params_before": size, "pruning_rate": run.pruning_rate, "loss_before": run.loss_before}
            x = Setting(**at, tokens=tokens, loss_pruned=run.curve[0].loss, refitted=1.0)
            assert abs(np.mean(law.gap(x)) - gap.mean()) < 0.02


def test_a_record_says_whether_its_weights_were_solved_again() -> None:
    run = simulated()[1]
    assert REFITTED.read(run)[0] == 1.0
    assert REFITTED.read(replace(run, details={"scorer": "activation"}))[0] == 0.0
    assert REFITTED.read(replace(run, details={"refitted": 1}))[0] == 1.0
    assert np.isnan(REFITTED.read(replace(run, details={}))[0])
    asked = replace(run, details={}, spec={"prune": {"scorer": "sparsegpt"}})
    assert REFITTED.read(asked)[0] == 1.0
