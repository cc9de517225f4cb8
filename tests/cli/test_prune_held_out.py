"""`regrow prune --held-out`: two evaluations, and what a law makes of them, in the summary, the record and the card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import regrow as api
from regrow.ladder import find_model

from .conftest import one_line_error

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def held_out(tmp_path):
    path = tmp_path / "held-out.jsonl"
    lines = [
        f"The river number {i} runs past the mill and on to the sea, and {i * 37} boats go with it." for i in range(60)
    ]
    path.write_text("\n".join(json.dumps({"text": line}) for line in lines))
    return path


def test_losses_stand_in_the_summary_the_record_and_the_card(regrow, tmp_path, held_out):
    out = tmp_path / "pruned"
    ask = ("tiny-llama-0.2m", "--method", "2:4", "--scorer", "magnitude", "--out", out)
    done = regrow("prune", *ask, "--held-out", held_out, "--json")
    found = done.json["held_out"]
    for model, name in (("tiny-llama-0.2m", "loss_before"), (out, "loss_pruned")):
        asked = regrow("eval", model, "--data", held_out, "--json").json
        assert found[name] == pytest.approx(asked["loss"], abs=1e-6)
    assert found["loss_pruned"] > found["loss_before"]
    record = json.loads((out / "regrow_prune.json").read_text())["held_out"]
    assert record["sentence"] == found["sentence"]
    assert record["law"] == "reference"
    assert (done.json["loss_before"], done.json["loss_pruned"]) == (found["loss_before"], found["loss_pruned"])
    card = (out / "README.md").read_text()
    assert found["sentence"] in card
    assert "not measured" not in card
    assert "nats lost at once; " in found["sentence"]


def test_what_cannot_be_measured_is_one_line(regrow, tmp_path, held_out):
    ask = ("prune", "tiny-llama-0.2m", "--method", "2:4", "--scorer", "magnitude")
    for more, says in (
        (("--dry-run", "--held-out", held_out), "a model that is not written has no loss"),
        (("--out", tmp_path / "c", "--law", "reference"), "--law: given without --held-out"),
        (("--out", tmp_path / "a", "--held-out", tmp_path / "none.jsonl"), "no such file"),
        (("--out", tmp_path / "b", "--held-out", held_out, "--law", tmp_path / "none.json"), "none.json"),
    ):
        done = regrow(*ask, *more)
        assert done.code == 2
        assert done.err.strip().splitlines()[-1].startswith("error: ")
        assert says in done.err
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "c").exists()


def test_python_says_the_same_by_a_law_of_ones_own(regrow, tmp_path, held_out):
    """The law of a file, of the method at hand; asked through the command and through `regrow.measure_pruned`."""
    law, out = tmp_path / "law.json", tmp_path / "pruned"
    assert regrow("fit", EXAMPLES / "six_runs.csv", "--form", "regrowth", "--draws", "50", "--out", law).code == 0
    text = ("--calibration", held_out, "--calibration-blocks", "2")
    ask = ("tiny-llama-0.2m", "--method", "depth", "--rate", "0.25", *text, "--out", out)
    done = regrow("prune", *ask, "--held-out", held_out, "--law", law, "--json")
    assert done.code == 0, done.err
    found = done.json["held_out"]
    read = []
    damage = api.measure_pruned(find_model("tiny-llama-0.2m"), out, str(held_out), law=law, progress=read.append)
    assert damage.sentence() == found["sentence"]
    assert (damage.loss_before, damage.loss_pruned) == pytest.approx((found["loss_before"], found["loss_pruned"]))
    blocks = json.loads((out / "regrow_prune.json").read_text())["held_out"]
    assert sum(read) == 2 * blocks["blocks"] * blocks["sequence_length"]
    assert blocks["law"] == "tiny-llama"
    reference = api.measure_pruned(find_model("tiny-llama-0.2m"), out, str(held_out))
    assert reference.loss_pruned == pytest.approx(damage.loss_pruned, rel=1e-9)
    assert reference.sentence() != damage.sentence()
    # the law has no run of 2:4: one over the methods that it has answers, a form that knows each method alone does not
    zeros = ("prune", *ask[:1], "--method", "2:4", "--scorer", "magnitude", "--held-out", held_out)
    served = regrow(*zeros, "--out", tmp_path / "a", "--law", law, "--json").json
    assert served["held_out"]["note"] == "no run was pruned by 2:4: this is the law over depth alone"
    alone = tmp_path / "p2.json"
    assert regrow("fit", EXAMPLES / "six_runs.csv", "--form", "p2", "--draws", "5", "--out", alone).code == 0
    one_line_error(regrow(*zeros, "--out", tmp_path / "b", "--law", alone), "no run was pruned by 2:4")
    assert not (tmp_path / "b").exists()


def test_an_evaluation_that_fails_leaves_the_pruned_model_and_says_so(regrow, tmp_path, held_out, monkeypatch):
    out = tmp_path / "pruned"

    def fail(*args, **kwargs):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore lines")

    monkeypatch.setattr("regrow.pruning.held_out.evaluate", fail)
    ask = ("tiny-llama-0.2m", "--method", "2:4", "--scorer", "magnitude", "--out", out)
    done = regrow("prune", *ask, "--held-out", held_out)
    assert done.code == 1
    line = next(line for line in done.err.splitlines() if line.startswith("error: "))
    assert "the model is pruned and written" in line
    assert "CUDA out of memory" in line
    assert f"`regrow eval {out} --data {held_out}`" in line
    assert "more lines" not in done.err
    assert regrow("check", out, "--json").code == 0
    assert "held_out" not in json.loads((out / "regrow_prune.json").read_text())


def test_a_model_of_the_ladder_is_recorded_by_its_name_and_found_again_by_it(regrow, tmp_path, held_out):
    pruned, run = tmp_path / "pruned", tmp_path / "run"
    regrow("prune", "tiny-llama-0.2m", "--method", "2:4", "--scorer", "magnitude", "--out", pruned)
    record = (pruned / "regrow_prune.json").read_text()
    assert json.loads(record)["model"] == "tiny-llama-0.2m"
    assert str(find_model("tiny-llama-0.2m")) not in record + (pruned / "README.md").read_text()
    length = ("--sequence-length", "64", "--batch-tokens", "64")
    done = regrow("train", pruned, "--data", held_out, "--tokens", "128", *length, "--out", run, "--json")
    assert done.code == 0, done.err
    record = json.loads((run / "run.json").read_text())
    assert record["params_before"] > record["params_after"]
    assert record["loss_before"] < json.loads((run / "curve.jsonl").read_text().splitlines()[0])["loss"]
