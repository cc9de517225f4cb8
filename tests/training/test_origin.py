"""What a checkpoint of another tool is: read from its weights, said by the user, never guessed."""

import json
import shutil

import pytest
import torch

from regrow.errors import InputError
from regrow.models import CheckpointWarning, count_nonzero, count_params, load_model
from regrow.models.beside import beside
from regrow.models.layout import block_weights
from regrow.models.masks import check_pattern
from regrow.models.save import save_checkpoint
from regrow.pruning.prune import prune
from regrow.pruning.spec import PruneSpec
from regrow.training import TrainSpec
from regrow.training.branch import cool_down
from regrow.training.post_train import post_train

SPEC = TrainSpec(
    tokens=1_000, batch_tokens=512, sequence_length=64, learning_rate=3e-3, held_out_blocks=4, eval_at=(500,)
)


@pytest.fixture(scope="module")
def foreign(tiny_model, tmp_path_factory):
    """A 2:4 checkpoint as other tools write it: exact zeros, and no record."""
    folder = tmp_path_factory.mktemp("foreign") / "model"
    prune(tiny_model, PruneSpec(method="2:4", scorer="magnitude"), calibration=None, out=folder)
    (folder / "regrow_prune.json").unlink()
    return folder


@pytest.fixture(scope="module")
def scattered(tiny_model, tmp_path_factory):
    """A checkpoint with half of its block weights zero, in no pattern."""
    model = load_model(tiny_model)
    with torch.no_grad():
        for weight in block_weights(model).values():
            weight[weight.abs() < weight.abs().median()] = 0
    return save_checkpoint(model, None, tmp_path_factory.mktemp("scattered") / "m", beside=beside(tiny_model))


def train(folder, text, out, **options):
    return post_train(str(folder), data=str(text), spec=SPEC, out=out, **options)


@pytest.mark.parametrize("lora", [0, 4])
def test_zeros_of_another_tool_are_recognised_kept_and_recorded(foreign, tiny_model, text, tmp_path, lora):
    spec = TrainSpec(**{**SPEC.to_dict(), "lora_rank": lora})
    with pytest.warns(CheckpointWarning, match="are 2:4 sparse and no record says so"):
        run = post_train(str(foreign), data=str(text), spec=spec, out=tmp_path / "run", original=str(tiny_model))
    start, original = load_model(foreign), load_model(tiny_model)
    assert (run.method, run.params_before) == ("2:4", count_params(original))
    assert run.params_after == count_nonzero(start) < run.params_before
    assert run.pruning_rate == pytest.approx(1 - count_nonzero(start) / count_params(original))
    trained = block_weights(load_model(tmp_path / "run" / "model"))
    assert all(check_pattern(weight, 2, 4) for weight in trained.values())
    zeros = {name: weight == 0 for name, weight in block_weights(start).items()}
    assert all(torch.equal(trained[name] == 0, where) for name, where in zeros.items())
    if not lora:
        assert any(not torch.equal(trained[name], weight) for name, weight in block_weights(start).items())


def test_without_the_original_zeros_are_not_trained_away_in_silence(foreign, text, tmp_path):
    with pytest.raises(InputError, match=r"2:4 sparse, and the loss of the unpruned one is not known.*--original"):
        train(foreign, text, tmp_path / "run")
    run = train(foreign, text, tmp_path / "known", loss_before=3.0)
    assert (run.method, run.loss_before) == ("2:4", 3.0)
    dense = train(foreign, text, tmp_path / "dense", method="none")
    assert (dense.method, dense.pruning_rate) == ("none", 0)
    assert not check_pattern(next(iter(block_weights(load_model(tmp_path / "dense" / "model")).values())), 2, 4)


def test_zeros_in_no_pattern_need_a_word(scattered, tiny_model, text, tmp_path):
    with pytest.raises(InputError, match=r"\d\d\.\d% of the blocks' weights are exactly zero.*--method sparse"):
        train(scattered, text, tmp_path / "run", original=str(tiny_model))
    run = train(scattered, text, tmp_path / "run", original=str(tiny_model), method="sparse")
    nonzero = count_nonzero(load_model(scattered))
    assert (run.method, run.params_after) == ("sparse", nonzero)
    assert count_nonzero(load_model(tmp_path / "run" / "model")) == nonzero
    cooled = cool_down(tmp_path / "run", tokens=1024, out=tmp_path / "cooled")
    assert cooled.params_after == count_nonzero(load_model(tmp_path / "cooled" / "model")) == nonzero


def test_depth_by_another_tool_is_said(tiny_model, text, tmp_path):
    prune(
        tiny_model,
        PruneSpec(method="depth", scorer="random", shape={"layers": 2}),
        calibration=None,
        out=tmp_path / "pruned",
    )
    (tmp_path / "pruned" / "regrow_prune.json").unlink()
    run = train(tmp_path / "pruned", text, tmp_path / "run", original=str(tiny_model), method="depth")
    before, after = count_params(load_model(tiny_model)), count_params(load_model(tmp_path / "pruned"))
    assert (run.method, run.params_before, run.params_after) == ("depth", before, after)
    assert run.details["method_from"] == "asked"
    for options, says in (
        ({"method": "depth"}, "give its folder with --original"),
        ({"method": "dept"}, "did you mean 'depth'"),
        ({"method": "2:4"}, "are not 2:4 sparse"),
        ({"method": "sparse"}, "no weight of the blocks is exactly zero"),
    ):
        with pytest.raises(InputError, match=says):
            train(tmp_path / "pruned", text, tmp_path / "other", **options)


def test_a_record_is_not_contradicted_and_travels_on(tiny_model, text, tmp_path):
    spec = PruneSpec(method="depth", scorer="random", shape={"layers": 2})
    prune(tiny_model, spec, calibration=None, out=tmp_path / "pruned")
    with pytest.raises(InputError, match=r"regrow_prune\.json says depth, not width"):
        train(tmp_path / "pruned", text, tmp_path / "run", method="width")
    first = train(tmp_path / "pruned", text, tmp_path / "run")
    again = train(tmp_path / "run" / "model", text, tmp_path / "again")
    # a pruned model that was trained is no control, and its curve does not begin at the pruning
    assert (again.method, again.pruning_rate) == (first.method, first.pruning_rate)
    assert "trained_before" not in first.details
    assert again.details["trained_before"] == 1024
    record = json.loads((tmp_path / "again" / "model" / "regrow_prune.json").read_text())
    assert record["trained_tokens"] == 2048


def test_training_takes_the_files_over_as_they_are(tiny_model, text, tmp_path):
    source = shutil.copytree(tiny_model, tmp_path / "source")
    content = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(content | {"ours": 1, "rope_theta": 10000.0}, indent=7))
    (source / "chat_template.jinja").write_text("{{ x }}\r\n")
    (source / "generation_config.json").write_text('{"do_sample":false,"temperature":0.6}')
    train(source, text, tmp_path / "run")
    cool_down(tmp_path / "run", tokens=1024, out=tmp_path / "cooled")
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            for run in ("run", "cooled"):
                assert (tmp_path / run / "model" / file.name).read_bytes() == file.read_bytes(), file.name
