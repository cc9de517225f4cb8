"""Depth and width together: every mix meets the target, and the one with the lowest loss is written."""

from __future__ import annotations

import json

import pytest
import torch

from regrow.arch import catalog
from regrow.data import read_blocks
from regrow.errors import InputError
from regrow.evaluation import evaluate
from regrow.footprint import MemoryTarget
from regrow.ladder import find_corpus, find_model
from regrow.models.load import load_model, load_tokenizer
from regrow.pruning.calibration import choose_blocks
from regrow.pruning.held_out import measure_pruned
from regrow.pruning.joint import prune_jointly
from regrow.pruning.joint_spec import JointSpec, mixes_of
from regrow.training.origin import read_origin

MODEL = "tiny-llama-0.2m"
FEW = {"calibration_blocks": 4, "calibration_length": 64}


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Qwen2.5-7B", "SmolLM2-360M"])
def test_every_mix_meets_the_target_and_they_span_both_ends(name):
    before = catalog()[name]
    mixes = mixes_of(before, JointSpec(rate=0.4))
    assert mixes[0].layers == before.layers
    assert mixes[-1].after == before.with_shape(layers=mixes[-1].layers)
    assert len({mix.layers for mix in mixes}) == 5
    for mix in mixes[:-1]:
        assert mix.pruning_rate == pytest.approx(0.4, abs=0.006)
    # whole blocks: at least the rate, and less than a block more
    assert 0.395 <= mixes[-1].pruning_rate < 0.4 + before.block_params / before.params


def test_a_memory_target_and_a_count_are_targets_too():
    before = catalog()["Qwen2.5-7B"]
    memory = MemoryTarget(max_memory="12GB", context="32k", batch=2)
    mixes = mixes_of(before, JointSpec(memory=memory, mixes=4))
    assert len(mixes) == 4
    assert all(memory.footprint(mix.after).total <= 12e9 for mix in mixes)
    counted = mixes_of(before, JointSpec(params=5_000_000_000))
    assert all(mix.after.params <= 5.04e9 for mix in counted)


def test_the_mix_with_the_lowest_loss_is_written_with_its_record(tmp_path):
    from regrow.data import read_blocks

    folder = find_model(MODEL)
    text = read_blocks(find_corpus("ladder", "held_out"), load_tokenizer(folder), sequence_length=64)
    spec = JointSpec(rate=0.3, mixes=3, **FEW)
    done = prune_jointly(folder, spec, calibration=text, out=tmp_path / "out", model_name=MODEL, text_name="ladder")
    assert len(done.mixes) == 3
    assert done.chosen is min(done.mixes, key=lambda mix: mix.loss)
    # the loss by another route: the written model, read whole on the same tokens
    model = load_model(tmp_path / "out", dtype=torch.float32)
    tokens = choose_blocks(text, count=4, length=64, seed=0)
    with torch.no_grad():
        logits = model(input_ids=tokens).logits[:, :-1].flatten(0, 1)
    own = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
    assert float(own) == pytest.approx(done.chosen.loss, abs=1e-3)
    assert model.config.num_hidden_layers == done.chosen.layers
    assert sum(p.numel() for p in model.parameters()) == done.chosen.after.params
    record = json.loads((tmp_path / "out" / "regrow_prune.json").read_text())
    assert [mix["loss"] for mix in record["mixes"]] == [mix.loss for mix in done.mixes]
    origin = read_origin(tmp_path / "out")
    assert origin is not None
    assert origin.model == MODEL
    assert origin.params_before == done.before.params
    assert evaluate(model, text.sample(2, seed=0)).loss > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_mix_of_both_names_both_steps_on_its_card(tmp_path, monkeypatch):
    import regrow.pruning.joint as joint

    middle = joint.mixes_of
    monkeypatch.setattr(joint, "mixes_of", lambda before, spec: middle(before, spec)[1:2])
    spec = JointSpec(rate=0.3, mixes=4, **FEW)
    text = find_corpus("ladder", "held_out")
    done = prune_jointly(find_model(MODEL), spec, calibration=text, out=tmp_path / "out", model_name=MODEL)
    assert [step.method for step in done.steps] == ["depth", "width"]
    record = json.loads((tmp_path / "out" / "regrow_prune.json").read_text())
    assert record["plan"]["method"] == "depth+width"
    assert record["params_after"] == done.chosen.after.params
    assert [step["method"] for step in record["plan"]["steps"]] == ["depth", "width"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "depth-pruning" in card
    assert "width-pruning" in card
    assert "regrow prune tiny-llama-0.2m --method depth+width --rate 0.3 --mixes 4" in card
    assert read_origin(tmp_path / "out").method == "depth+width"
    # what it cost is read by the same call as of any pruned model, and the law has no run of such a mix
    few = read_blocks(text, load_tokenizer(find_model(MODEL)), sequence_length=64).sample(4, seed=0)
    damage = measure_pruned(find_model(MODEL), tmp_path / "out", few)
    assert damage.loss_before == pytest.approx(evaluate(load_model(find_model(MODEL)).float(), few).loss, abs=1e-4)
    assert damage.loss_pruned > damage.loss_before
    assert damage.note == "no run was pruned by depth+width: this is the law over 2:4, depth and width"
    assert "No run was pruned by depth+width" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "no target given"),
        ({"rate": 0.2, "params": 5}, "rate and params given"),
        ({"rate": 1.2}, "pruning rate 1.2"),
        ({"rate": 0.2, "mixes": 1}, "1 mix;"),
    ],
)
def test_what_cannot_be_is_one_line(fields, says):
    with pytest.raises(InputError) as refused:
        JointSpec(**fields)
    assert says in str(refused.value)


def test_the_command_lists_and_writes(tmp_path, monkeypatch, capsys):
    from regrow.cli.main import main

    def run(*words):
        return run_on(MODEL, *words)

    def run_on(model, *words):
        monkeypatch.setattr("sys.argv", ["regrow", "prune", model, *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    ask = ("--method", "depth+width", "--rate", "0.3", "--mixes", "3")
    code, out, _ = run(*ask, "--dry-run")
    assert code == 0
    assert "calibration loss" in out
    assert "depth+width, 32 blocks before" in run_on("Llama-3.1-8B", *ask, "--dry-run")[1]
    assert "text will choose among these mixes" in run_on("Llama-3.1-8B", *ask, "--dry-run")[1]
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{n} lines of text, {n * n} words in them, and no more." for n in range(200)))
    few = ("--calibration-blocks", 2, "--calibration-length", 64, "--calibration", text)
    code, out, _ = run(*ask, *few, "--held-out", text, "--out", tmp_path / "m", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["loss_pruned"] > answer["loss_before"]
    record = json.loads((tmp_path / "m" / "regrow_prune.json").read_text())
    assert record["held_out"]["loss_pruned"] == answer["loss_pruned"]
    assert "## What pruning cost" in (tmp_path / "m" / "README.md").read_text()
    assert answer["chosen"]["loss"] == min(mix["loss"] for mix in answer["mixes"])
    assert (tmp_path / "m" / "model.safetensors").is_file()
    for more, says in (
        (("--search", 4, *ask), "--search with depth+width"),
        ((*ask, "--held-out", text, "--dry-run"), "a model that is not written has no loss"),
        ((*ask, "--law", "reference", "--out", tmp_path / "n"), "given without --held-out"),
        (ask, "no output folder given"),
        (("--method", "width", "--rate", "0.2", "--mixes", 3), "--mixes without --method depth+width"),
    ):
        code, _, err = run(*more)
        assert code == 2
        assert says in err


def test_a_number_of_mixes_that_is_none_is_refused():
    with pytest.raises(InputError, match="'few' is not a"):
        JointSpec(rate=0.2, mixes="few")
    with pytest.raises(InputError, match="1 mix"):
        JointSpec(rate=0.2, mixes=1)
