"""A cool-down branched off a run on disk is the end of the annealed run that it stands for, to the bit."""

import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from regrow.cli.main import build_app
from regrow.errors import InputError
from regrow.models.load import load_model
from regrow.models.masks import violations, zero_masks
from regrow.runs import read_run
from regrow.runs.check import check_runs
from regrow.training import TrainSpec
from regrow.training.branch import cool_down
from regrow.training.post_train import post_train

BASE = {
    "tokens": 3072,
    "batch_tokens": 512,
    "sequence_length": 64,
    "learning_rate": 3e-3,
    "warmup_tokens": 512,
    "held_out_blocks": 8,
    "average": "ema:0.6",
    "save_every_tokens": 1024,
}


def losses(run):
    return [(p.tokens, p.loss, p.loss_averaged, p.loss_cooled) for p in run.curve]


@pytest.fixture(scope="module")
def parent(sparse_model, text, tmp_path_factory):
    """A finished run at a constant rate, 2:4, all of its checkpoints kept."""
    out = tmp_path_factory.mktemp("parent") / "run"
    spec = TrainSpec(**BASE, eval_at=(2048,))
    return out, post_train(str(sparse_model), data=str(text), spec=spec, out=out, keep=None)


@pytest.mark.parametrize("at", [None, 2048])
def test_it_ends_where_the_annealed_run_from_the_start_ends(parent, sparse_model, text, tmp_path, at):
    folder, before = parent
    cooled = cool_down(folder, tokens=1500, at=at, out=tmp_path / "cooled")
    left, end = at or 3072, (at or 3072) + 1536  # whole batches
    spec = TrainSpec(**{**BASE, "tokens": end}, schedule="wsd", decay_tokens=1536, eval_at=(left,))
    whole = post_train(str(sparse_model), data=str(text), spec=spec, out=tmp_path / "whole")
    assert losses(cooled) == losses(whole)[1:]
    assert cooled.curve[0].loss == next(p.loss for p in before.curve if p.tokens == left)
    assert cooled.curve[-1].loss_cooled == cooled.curve[-1].loss
    ours, theirs = (load_model(tmp_path / name / "model") for name in ("cooled", "whole"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert not violations(ours, zero_masks(load_model(sparse_model)))
    # the record says which run it leaves, where, and what the whole amounts to
    assert cooled.spec["cooldown_from"] == {"run": before.hash, "tokens": left}
    assert (cooled.spec["train"]["tokens"], cooled.spec["train"]["decay_tokens"]) == (end, 1536)
    assert (cooled.schedule, cooled.method, cooled.loss_before) == ("wsd", "2:4", before.loss_before)
    for name in ("unique_tokens", "flops", "train_fingerprint"):
        assert cooled.details[name] == whole.details[name]
    assert [one.problems for one in check_runs(tmp_path)] == [(), ()]
    assert read_run(folder) == before


def test_it_resumes_to_the_bit_whatever_the_run_has_done_since(parent, tmp_path, dying):
    folder = tmp_path / "parent"
    shutil.copytree(parent[0], folder)
    ask = {"tokens": 2048, "save_every_tokens": 512, "resume": True}
    whole = cool_down(folder, out=tmp_path / "whole", **ask)

    def go_on(on_progress):
        if (tmp_path / "again" / "checkpoints" / "checkpoint-7").exists():  # it has one of its own to go on from
            (folder / "checkpoints" / "checkpoint-6").rename(folder / "checkpoints" / "checkpoint-9")
        return cool_down(folder, out=tmp_path / "again", on_progress=on_progress, **ask)

    again = dying(go_on, 4096)
    assert losses(again) == losses(whole)
    assert cool_down(folder, out=tmp_path / "again", at=3072, **ask) == again


def test_the_command_asks_for_the_same(parent, tmp_path):
    folder, _ = parent
    line = ["cooldown", str(folder), "--tokens", "1k", "--at", "2048", "--resume", "--json", "--out"]
    told = CliRunner().invoke(build_app(["cooldown"]), [*line, str(tmp_path / "a")], catch_exceptions=False)
    run = cool_down(folder, tokens=1000, at=2048, out=tmp_path / "b")
    assert read_run(tmp_path / "a").hash == run.hash
    answer = json.loads(told.stdout)
    assert answer["loss_cooled"] == run.curve[-1].loss
    assert answer["cooldown_from"] == {"run": parent[1].hash, "tokens": 2048}


def test_what_cannot_be_cooled_down_is_one_line(parent, text, tmp_path):
    folder, _ = parent

    def refuse(says, run=folder, **changes):
        with pytest.raises(InputError, match=says) as caught:
            cool_down(run, **{"tokens": 1024, "out": tmp_path / "x", **changes})
        assert "\n" not in str(caught.value)

    refuse("no run here", run=tmp_path / "nowhere")
    refuse(r"no checkpoint at 1536 tokens; there: 1024, 2048, 3072", at=1536)
    refuse("a cool-down of one step cools nothing", tokens=512)
    refuse("the training text is not what the run saw", find=lambda name, kind: _shortened(name, kind, tmp_path))
    refuse("cool it down without --shard", shard=True)
    cooled = tmp_path / "cooled"
    cool_down(folder, tokens=1024, out=cooled)
    refuse("the rate of a wsd run falls before 4096 tokens already", run=cooled)
    refuse("holds a run already", out=cooled)
    refuse("holds a run of another spec", out=cooled, tokens=1536, resume=True)
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("checkpoint-*"))
    refuse("the run has no checkpoint left.*--schedule wsd", run=bare)
    record = json.loads((bare / "run.json").read_text())
    (bare / "run.json").write_text(json.dumps({**record, "spec": {}}))
    refuse("not a run that regrow trained", run=bare)


def _shortened(name, kind, folder):
    import pandas as pd

    if kind != "data":
        return name
    pd.read_parquet(name).iloc[5:].to_parquet(folder / "less.parquet")
    return str(folder / "less.parquet")
