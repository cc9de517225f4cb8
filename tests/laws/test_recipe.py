"""What a token is worth under another learning rate and batch: counted in one law, and read from its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regrow.laws import Setting, fit, load_laws, save_laws, validate
from regrow.laws.regrowth.curve import gap_and_jacobian
from regrow.laws.regrowth.recipe import log_longer, log_over
from regrow.laws.setting import REFITTED
from regrow.runs import RunRecord, read_runs
from regrow.runs.record import CurvePoint
from regrow.runs.table import to_table

STUDIES = Path(__file__).parents[2] / "studies"
TOKENS = np.geomspace(1e6, 1e9, 14)
PACE, EXPONENT = 2e7, 0.4
#: a usual recipe that most runs have, and one with twice the rate and 16 times the batch: 16^0.6 / 2 the tokens
USUAL, OTHER = (1e-4, 2.5e5), (2e-4, 4e6)
LONGER = 16**0.6 / 2


def simulated(*, say: bool = True) -> list[RunRecord]:
    """Three sizes of one method; every third run has the other recipe. `say`: whether the runs tell theirs."""
    rng = np.random.default_rng(0)
    runs = []
    for size in (1e8, 4e8, 1.6e9):
        for number, gap in enumerate(np.exp(rng.uniform(np.log(0.2), np.log(1.5), 6))):
            rate, batch = OTHER if number % 3 == 2 else USUAL
            pace = PACE * (LONGER if (rate, batch) == OTHER else 1.0) * np.exp(0.05 * rng.standard_normal())
            psi = np.array([0.0, np.log(pace), np.log(EXPONENT), 0.0])
            closing, _ = gap_and_jacobian(psi, np.array(gap), np.array(2.5), TOKENS)
            losses = 2.5 + closing + 0.001 * rng.standard_normal(len(TOKENS))
            curve = [CurvePoint(tokens=0, loss=2.5 + gap)]
            curve += [CurvePoint(tokens=int(t), loss=float(v)) for t, v in zip(TOKENS, losses, strict=True)]
            said = {"learning_rate": rate, "batch_tokens": batch} if say else {}
            runs.append(record(f"{size:g}-{number}", size, "width", curve, said))
        flat = [CurvePoint(tokens=int(t), loss=2.5) for t in (0, *TOKENS)]
        runs.append(record(f"control-{size:g}", size, "none", flat, {}))
    return runs


def record(name: str, size: float, method: str, curve: list[CurvePoint], details: dict[str, float]) -> RunRecord:
    return RunRecord(
        run=name,
        family="simulated",
        method=method,
        params_before=int(size),
        params_after=int(size if method == "none" else 0.75 * size),
        pruning_rate=0.0 if method == "none" else 0.25,
        loss_before=2.5,
        curve=tuple(curve),
        details=dict(details),
    )


def test_the_powers_are_those_that_the_docs_say() -> None:
    assert log_longer(log_over(2e-4, 1e-4), log_over(4e6, 2.5e5)) == pytest.approx(np.log(LONGER))
    assert log_longer(log_over(None, 1e-4), log_over(4e6, None)) == 0.0


def test_runs_of_two_recipes_join_one_law_that_predicts_both() -> None:
    (law,) = fit(simulated(), "regrowth", baseline="control", draws=100)
    assert (law.params["usual_rate"], law.params["usual_batch"]) == USUAL
    assert law.params["pace"] == pytest.approx(PACE, rel=0.25)
    assert "the runs' recipes differ" in " ".join(law.warnings)
    x = Setting(params_before=4e8, pruning_rate=0.25, tokens=TOKENS, loss_before=2.5, loss_pruned=3.1)
    for (rate, batch), pace in ((USUAL, PACE), (OTHER, LONGER * PACE)):
        true = 0.6 * (1 + TOKENS / (EXPONENT * pace)) ** -EXPONENT
        at = x.replace(learning_rate=rate, batch_tokens=batch)
        np.testing.assert_allclose(law.loss(at) - 2.5, true, atol=0.02)
    # what is not said, or not known, is as usual
    usual = law.loss(x.replace(learning_rate=USUAL[0], batch_tokens=USUAL[1]))
    np.testing.assert_allclose(law.loss(x), usual)
    np.testing.assert_allclose(law.loss(x.replace(learning_rate=np.nan, batch_tokens=np.nan)), usual)


def test_runs_that_do_not_say_their_recipe_fit_worse_and_have_no_usual_one() -> None:
    (said,) = fit(simulated(), "regrowth", baseline="control", draws=10)
    (silent,) = fit(simulated(say=False), "regrowth", baseline="control", draws=10)
    assert silent.params["usual_rate"] == silent.params["usual_batch"] == 0.0
    x = Setting(params_before=4e8, pruning_rate=0.25, tokens=1e8, loss_before=2.5, loss_pruned=3.1)
    assert silent.loss(x.replace(learning_rate=1.0, batch_tokens=1.0)) == silent.loss(x)
    assert said.diagnostics["log_evidence"] > silent.diagnostics["log_evidence"] + 5


def test_a_run_of_another_recipe_is_predicted_from_what_the_fit_knows_of_it() -> None:
    """The last fifth of each run: a law in the tokens of the usual recipe gives each its own again."""
    (result,) = validate(simulated(), "tokens", "regrowth", baseline="control")
    assert result.mape < 1.5e-3


def test_a_form_that_does_not_read_the_recipe_says_what_that_costs() -> None:
    (law,) = fit(simulated(), "chinchilla", draws=4)
    note = next(w for w in law.warnings if "recipes differ" in w)
    assert f"about {LONGER:.2g} times" in note
    alike = [replace(r, details={"learning_rate": 1e-4}) for r in simulated()]
    assert not any("recipes differ" in w for law in fit(alike, "chinchilla", draws=4) for w in law.warnings)


def test_our_own_recipes_are_predicted_from_the_one_of_the_ladder() -> None:
    """Seven recipes of a model, by a law of runs of one: counted as they are, the error is twice as large."""
    ladder = [r for r in read_runs(STUDIES / "ladder-llama.jsonl") if r.pruning_rate < 0.36]
    laws = {law.method: law for law in fit(ladder, "regrowth", baseline="control", draws=10)}
    runs = read_runs(STUDIES / "recipe-llama.jsonl")
    controls = {(r.spec["train"]["learning_rate"], r.spec["train"]["batch_tokens"]): r for r in runs if r.is_control}
    errors, blind = [], []
    for run in (r for r in runs if not r.is_control):
        law = laws[run.method]
        recipe = run.spec["train"]["learning_rate"], run.spec["train"]["batch_tokens"]
        points = [(p.tokens, p.loss, c.loss) for p, c in zip(run.curve, controls[recipe].curve, strict=True)][1:]
        tokens, loss, unpruned = np.array(points).T
        x = Setting(params_before=run.params_before, pruning_rate=run.pruning_rate, tokens=tokens, loss_before=unpruned)
        x = x.replace(loss_pruned=run.start_loss - run.loss_before + unpruned, refitted=REFITTED.read(run)[0])
        asked = x.replace(learning_rate=recipe[0], batch_tokens=recipe[1])
        errors.append(np.mean(np.abs(law.loss(asked) / loss - 1)))
        blind.append(np.mean(np.abs(law.loss(x) / loss - 1)))
    assert np.mean(errors) < 0.012
    assert np.mean(blind) > 1.7 * np.mean(errors)


def test_law_files_from_before_the_recipe_are_read(tmp_path: Path) -> None:
    new = ("pace_refitted", "pace_rate", "pace_batch", "end_lost", "usual_refitted", "usual_rate", "usual_batch")
    (law,) = fit(simulated(say=False), "regrowth", baseline="control", draws=10)
    names = list(law.params)
    kept = [i for i, name in enumerate(names) if name not in new]
    path = tmp_path / "law.json"
    save_laws([law], path)
    data = json.loads(path.read_text())
    (old,) = data["laws"]
    old["params"] = {names[i]: old["params"][names[i]] for i in kept}
    old["draws"] = [[row[i] for i in kept] for row in old["draws"]]
    old["sizes"] = {size: [[row[i] for i in kept] for row in rows] for size, rows in old["sizes"].items()}
    path.write_text(json.dumps(data))
    (read,) = load_laws(path)
    assert list(read.params) == names
    assert all(read.params[name] == 0.0 for name in new)
    assert read.draws.shape == law.draws.shape
    np.testing.assert_allclose(read.draws[:, kept], law.draws[:, kept], rtol=1e-5)
    x = Setting(params_before=2e8, pruning_rate=0.25, tokens=1e8, loss_before=2.5, loss_pruned=3.1)
    end = 2.5 * law.params["end_lost"] * -np.log(0.75)
    assert 0 < float(law.loss(x) - read.loss(x)) < end


def test_a_table_of_the_runs_gives_the_law_that_their_records_give() -> None:
    """The recipe, the warm-up and the scorer are columns of an export."""
    runs = [r for r in read_runs(STUDIES / "recipe-llama.jsonl") if r.method in ("2:4", "none")]
    (one,) = fit(runs, "regrowth", draws=2)
    (other,) = fit(to_table(runs), "regrowth", draws=2)
    assert other.params == pytest.approx(one.params)
    assert {"scorer", "learning_rate", "batch_tokens", "warmup_tokens"} <= set(to_table(runs).columns)
    assert "scorer" not in to_table(simulated()).columns
