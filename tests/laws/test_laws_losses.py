"""Which of a run's losses a law is fitted to: raw, averaged or cooled, the same for runs and controls."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from laws_cases import runs
from typer.testing import CliRunner

from regrow.cli.main import build_app
from regrow.errors import InputError
from regrow.laws import fit, load_laws, save_laws, validate, validate_law
from regrow.laws.observations import observe, of_loss
from regrow.runs import CONTROL, CurvePoint, RunRecord, to_table

COOLED = 0.05


def losses(runs_: list[RunRecord]) -> dict[str, list[tuple[int, float]]]:
    return {r.run: [(p.tokens, p.loss) for p in r.curve] for r in runs_}


@pytest.fixture(scope="module")
def annealed() -> list[RunRecord]:
    """Runs whose cooled losses lie a constant under the raw ones, and are not known at the first checkpoint."""
    return [
        replace(
            run,
            curve=tuple(
                replace(p, loss_cooled=p.loss - COOLED if i else None, loss_averaged=p.loss - 0.01)
                for i, p in enumerate(run.curve)
            ),
            spec={"of": run.run},
        )
        for run in runs()
    ]


def test_a_law_of_cooled_losses_is_the_law_of_runs_that_have_those_alone(annealed):
    plain = [replace(r, curve=tuple(replace(p, loss=p.loss - COOLED) for p in r.curve[1:])) for r in annealed]
    (cooled,), (same,), (raw,) = fit(annealed, loss="cooled", draws=4), fit(plain, draws=4), fit(annealed, draws=4)
    assert (cooled.params, cooled.fingerprint) == (same.params, same.fingerprint)
    assert [law.loss_kind for law in (cooled, same, raw)] == ["cooled", "raw", "raw"]
    assert cooled.n_points == raw.n_points - raw.n_runs
    asked = {"params_before": 1e9, "pruning_rate": 0.25, "tokens": 1e9, "loss_before": 2.0}
    assert cooled.predict(**asked).loss < raw.predict(**asked).loss


def test_held_out_losses_are_of_the_same_kind(annealed):
    (cooled,) = validate(annealed, "size", "p2", loss="cooled", draws=4)
    plain = [replace(r, curve=tuple(replace(p, loss=p.loss - COOLED) for p in r.curve[1:])) for r in annealed]
    (same,) = validate(plain, "size", "p2", draws=4)
    assert (cooled.mape, cooled.coverage) == (same.mape, same.coverage)
    law = fit(annealed, loss="cooled", draws=4)[0]
    assert validate_law(law, annealed, "size", draws=4).mape == cooled.mape


def test_a_run_that_has_none_of_them_is_refused_in_one_line(annealed):
    without = replace(annealed[0], curve=tuple(replace(p, loss_cooled=None) for p in annealed[0].curve))
    with pytest.raises(InputError, match=rf"run {without.run}: no cooled loss in its curve; .*--cooldown") as caught:
        fit([without, *annealed[1:]], loss="cooled")
    assert "\n" not in str(caught.value)
    failed = replace(without, status="failed")
    assert len(observe(of_loss([failed, *annealed[1:]], "cooled"))[0].runs) == len(annealed) - 1
    with pytest.raises(InputError, match=r"unknown loss 'coold'.*did you mean 'cooled'"):
        validate(annealed, loss="coold")


def test_a_control_is_read_as_the_runs_are(annealed):
    control = replace(annealed[0], run="control", method=CONTROL, params_after=annealed[0].params_before)
    (seen,) = observe(of_loss([annealed[0], control], "cooled", controls=True), baseline="control")
    assert seen.x.loss_before == pytest.approx(seen.loss)  # the same curve
    bare = replace(control, curve=tuple(replace(p, loss_cooled=None) for p in control.curve))
    assert observe(of_loss([annealed[0], bare], "cooled"))  # from the initial loss no control is needed
    with pytest.raises(InputError, match="run control: no cooled loss"):
        fit([annealed[0], bare], loss="cooled", baseline="control")


def test_a_cool_down_branched_off_later_is_a_loss_of_the_run_it_left(annealed):
    parent = annealed[0]
    end = parent.curve[-1].tokens + 1000
    branch = replace(
        parent,
        run="cooled",
        spec={"cooldown_from": {"run": parent.hash, "tokens": parent.curve[-1].tokens}},
        curve=(parent.curve[-1], CurvePoint(tokens=end, loss=1.0, loss_cooled=1.0)),
    )
    both = of_loss([branch, *annealed], "cooled")
    assert losses(both)[parent.run] == [*losses(of_loss(annealed, "cooled"))[parent.run], (end, 1.0)]
    assert "cooled" not in losses(both)
    assert losses(of_loss([branch, *annealed], "raw")) == losses(annealed)
    alone = of_loss([branch], "cooled")  # without its parent it speaks for itself
    assert losses(alone)["cooled"][-1] == (end, 1.0)


def test_the_command_writes_which_loss_it_was(annealed, tmp_path):
    to_table(annealed).to_csv(tmp_path / "runs.csv", index=False)
    invoke = CliRunner().invoke
    line = [str(tmp_path / "runs.csv"), "--loss", "cooled", "--json"]
    told = invoke(build_app(["fit"]), ["fit", *line, "--draws", "4", "--out", str(tmp_path / "law.json")])
    assert json.loads(told.stdout)["laws"][0]["loss"] == "cooled"
    (law,) = load_laws(tmp_path / "law.json")
    assert law.loss_kind == "cooled"
    save_laws(fit(annealed, draws=4), tmp_path / "raw.json")
    old = (tmp_path / "raw.json").read_text().replace('"loss_kind": "raw",', "")
    (tmp_path / "old.json").write_text(old)
    assert load_laws(tmp_path / "old.json")[0].loss_kind == "raw"
    told = invoke(build_app(["validate"]), ["validate", *line, "--hold-out", "size", "--form", "p2"])
    assert json.loads(told.stdout)["results"][0]["mape"] is not None
