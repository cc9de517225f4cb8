"""Runs on a tiny real model: exact counts, zeros kept, resume to the bit, bad input refused."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from regrow.data import BlockOrder, read_documents, tokenize
from regrow.errors import InputError, RunFailed
from regrow.evaluation import evaluate
from regrow.models.load import load_model, load_tokenizer
from regrow.models.masks import MaskKeeper, check_pattern
from regrow.pruning.prune import prune
from regrow.pruning.spec import PruneSpec
from regrow.runs import CurvePoint, read_run
from regrow.training import TrainSpec
from regrow.training.callbacks import CurveCallback
from regrow.training.objective import distillation_loss
from regrow.training.post_train import post_train


def spec(**changes) -> TrainSpec:
    values = {
        "tokens": 6_000,
        "batch_tokens": 512,
        "sequence_length": 64,
        "learning_rate": 3e-3,
        "held_out_blocks": 8,
        "eval_at": (1000, 3000),
        "precision": "fp32",
    }
    return TrainSpec(**{**values, **changes})


def losses(run) -> list[tuple[int, float]]:
    return [(p.tokens, p.loss) for p in run.curve]


@pytest.fixture(scope="module")
def control(tiny_model, text, tmp_path_factory):
    """The folder of a plain run of the unpruned model, its record, and what it told on the way."""
    seen, out = [], tmp_path_factory.mktemp("control") / "run"
    return out, post_train(str(tiny_model), data=str(text), spec=spec(), out=out, on_progress=seen.append), seen


def test_a_control_learns_and_its_record_is_whole(control):
    out, run, seen = control
    assert run.is_control
    assert run.params_before == run.params_after
    assert [p.tokens for p in run.curve] == [0, 1024, 3072, 6144]  # whole batches, never fewer tokens than asked
    assert run.curve[0].loss == pytest.approx(run.loss_before, abs=1e-9)
    assert run.curve[-1].loss < run.loss_before - 0.3
    assert run.curve[0].train_loss is None
    assert all(p.train_loss is not None and p.lr == pytest.approx(3e-3) for p in run.curve[1:])
    assert read_run(out) == run
    assert seen[-1].tokens == seen[-1].total == 6144


def test_the_saved_model_has_the_recorded_loss(tiny_model, text, tmp_path):
    run = post_train(str(tiny_model), data=str(text), held_out=str(text), spec=spec(), out=tmp_path / "run")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    blocks = tokenize(read_documents(text), load_tokenizer(tmp_path / "run" / "model"), sequence_length=64)
    assert evaluate(model, blocks.sample(8, seed=0)).loss == pytest.approx(run.curve[-1].loss, abs=1e-6)


def test_a_bf16_checkpoint_comes_back_in_bf16(tiny_model, text, tmp_path):
    folder = tmp_path / "bf16"
    load_model(tiny_model, dtype=torch.bfloat16).save_pretrained(folder)
    load_tokenizer(tiny_model).save_pretrained(folder)
    post_train(str(folder), data=str(text), spec=spec(tokens=600), out=tmp_path / "run")
    trained = load_model(tmp_path / "run" / "model")
    assert trained.dtype == torch.bfloat16
    assert trained.config.use_cache


def test_a_pruned_model_knows_where_it_comes_from(control, tiny_model, text, tmp_path):
    tokens = tokenize(read_documents(text), load_tokenizer(tiny_model), sequence_length=64)
    plan = prune(tiny_model, PruneSpec(method="depth", rate=0.1), calibration=tokens, out=tmp_path / "pruned")
    run = post_train(str(tmp_path / "pruned"), data=str(text), spec=spec(tokens=600), out=tmp_path / "run")
    assert run.method == "depth"
    assert (run.params_before, run.params_after) == (plan.params_before, plan.params_after)
    assert run.pruning_rate == pytest.approx(plan.pruning_rate)
    assert run.loss_before == pytest.approx(control[1].loss_before, abs=1e-9)


def test_zeros_survive_training_and_reload(sparse_model, text, tmp_path):
    before = load_model(sparse_model)
    run = post_train(str(sparse_model), data=str(text), spec=spec(), out=tmp_path / "run")
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    weight, trained = before.model.layers[0].mlp.up_proj.weight, after.model.layers[0].mlp.up_proj.weight
    assert check_pattern(trained, 2, 4)
    assert torch.equal(weight == 0, trained == 0)
    assert not torch.equal(weight, trained)
    assert run.method == "2:4"
    assert run.params_after < run.params_before


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_model, text, tmp_path, monkeypatch, precision):
    asked = spec(precision=precision, warmup_tokens=1024, tokens=3000, eval_at=(1000, 2000))
    whole = post_train(str(tiny_model), data=str(text), spec=asked, out=tmp_path / "whole")

    read = CurveCallback._read_milestone

    def break_off(self, model, *, step, lr):
        if step == 4 and not (tmp_path / "broken").exists():
            (tmp_path / "broken").write_text("")
            raise RuntimeError("the machine went away")
        return read(self, model, step=step, lr=lr)

    monkeypatch.setattr(CurveCallback, "_read_milestone", break_off)
    with pytest.raises(RuntimeError, match="went away"):
        post_train(str(tiny_model), data=str(text), spec=asked, out=tmp_path / "again")
    assert read_run(tmp_path / "again").status == "failed"
    with pytest.raises(InputError, match="holds a run already"):
        post_train(str(tiny_model), data=str(text), spec=asked, out=tmp_path / "again")
    again = post_train(str(tiny_model), data=str(text), spec=asked, out=tmp_path / "again", resume=True)
    assert losses(again) == losses(whole)


def test_a_run_of_another_spec_is_not_resumed(tiny_model, text, tmp_path):
    post_train(str(tiny_model), data=str(text), spec=spec(tokens=600), out=tmp_path / "run")
    with pytest.raises(InputError, match="another spec"):
        post_train(str(tiny_model), data=str(text), spec=spec(tokens=700), out=tmp_path / "run", resume=True)


def test_accumulation_gives_the_same_curve(control, tiny_model, text, tmp_path):
    two = post_train(str(tiny_model), data=str(text), spec=spec(micro_batch_blocks=2), out=tmp_path / "two")
    assert [loss for _, loss in losses(two)] == pytest.approx([loss for _, loss in losses(control[1])], abs=2e-4)


def test_seeds_give_other_orders_and_the_same_seed_the_same_curve(tiny_model, text, tmp_path):
    a, b, c = (
        post_train(str(tiny_model), data=str(text), spec=spec(tokens=1000, seed=s), out=tmp_path / name)
        for s, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert losses(a) == losses(b)
    assert losses(a)[1:] != losses(c)[1:]


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model, text, tmp_path):
    with pytest.raises(
        RunFailed, match=r"is not finite at step \d+ \(\d+ tokens\), in a batch of .*text.parquet:\d+, .*lower --lr"
    ):
        post_train(
            str(tiny_model),
            data=str(text),
            spec=spec(learning_rate=1e30, max_grad_norm=1e30),
            out=tmp_path / "run",
        )
    assert read_run(tmp_path / "run").status == "failed"
    assert read_run(tmp_path / "run").curve[0].tokens == 0


def test_lost_zeros_stop_the_run(sparse_model, text, tmp_path, monkeypatch):
    monkeypatch.setattr(MaskKeeper, "apply", lambda self: None)
    with pytest.raises(RunFailed, match="are not zero at step"):
        post_train(str(sparse_model), data=str(text), spec=spec(), out=tmp_path / "run")


def test_distillation_is_recorded_and_moves_towards_the_teacher(control, tiny_model, text, tmp_path):
    taught = control[0] / "model"
    run = post_train(str(tiny_model), data=str(text), spec=spec(seed=1), out=tmp_path / "run", teacher=str(taught))
    assert run.objective == "distillation:T=1,mix=1"
    tokens = tokenize(read_documents(text), load_tokenizer(tiny_model), sequence_length=64)
    ids = torch.from_numpy(tokens.tokens[:4]).long()
    teacher, before, after = (
        load_model(p, dtype=torch.float32)(input_ids=ids).logits
        for p in (taught, tiny_model, tmp_path / "run" / "model")
    )
    away = distillation_loss(before, teacher, temperature=1.0).item()
    assert distillation_loss(after, teacher, temperature=1.0).item() < 0.2 * away


def test_the_order_is_the_one_the_record_names(tiny_model, text, tmp_path, monkeypatch):
    from regrow.training import trainer

    seen: list[int] = []
    original = trainer.OrderedBlocks.__getitem__
    monkeypatch.setattr(
        trainer.OrderedBlocks, "__getitem__", lambda self, i: (seen.append(self.order[i]), original(self, i))[1]
    )
    run = post_train(str(tiny_model), data=str(text), spec=spec(tokens=2000, seed=5), out=tmp_path / "run")
    blocks = json.loads((tmp_path / "run" / "run.json").read_text())["details"]
    assert run.seed == 5
    order = BlockOrder(blocks=_train_blocks(text, tiny_model), seed=5)
    assert seen[:32] == [order[i] for i in range(32)]
    assert blocks["unique_tokens"] == 2048


def _train_blocks(text, model) -> int:
    from regrow.data import split_documents

    train, _ = split_documents(read_documents(text), held_out_share=0.05)
    return len(tokenize(train, load_tokenizer(model), sequence_length=64))


def test_bad_input_is_refused_in_one_line(tiny_model, text, tmp_path):
    def refuse(says, **changes):
        with pytest.raises(InputError, match=says) as caught:
            post_train(
                **{"model": str(tiny_model), "data": str(text), "spec": spec(), "out": tmp_path / "x", **changes}
            )
        assert "\n" not in str(caught.value)

    refuse("no such", model=str(tmp_path / "nowhere"))
    refuse("no such file", data=str(tmp_path / "nowhere"))
    short = tmp_path / "short.txt"
    short.write_text("too short")
    refuse("less than one block", held_out=str(short))
    (tmp_path / "file").write_text("")
    refuse("can't write here", out=tmp_path / "file" / "run")
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    config = json.loads((other / "config.json").read_text())
    wide = AutoModelForCausalLM.from_config(type(load_model(tiny_model).config)(**{**config, "vocab_size": 2100}))
    wide.save_pretrained(other)
    refuse("the teacher has 2100 entries", teacher=str(other))
    speaker = tmp_path / "speaker"
    shutil.copytree(tiny_model, speaker)
    content = json.loads((speaker / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[300:302]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (speaker / "tokenizer.json").write_text(json.dumps(content))
    refuse("the teacher's tokenizer has another vocabulary", teacher=str(speaker))
    small = tmp_path / "small"
    shutil.copytree(tiny_model, small)
    narrow = AutoModelForCausalLM.from_config(type(load_model(tiny_model).config)(**{**config, "vocab_size": 500}))
    narrow.save_pretrained(small)
    refuse("outside the model's 500 entries.*tokenizer does not match", model=str(small))
    (other / "regrow_prune.json").write_text("{}")
    refuse("not what `regrow prune` writes", model=str(other))


def test_an_original_that_is_gone_is_asked_for(tiny_model, text, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(tiny_model, moved)
    prune(moved, PruneSpec(method="2:4", scorer="magnitude"), calibration=None, out=tmp_path / "pruned")
    shutil.rmtree(moved)
    with pytest.raises(InputError, match="--original"):
        post_train(str(tmp_path / "pruned"), data=str(text), spec=spec(), out=tmp_path / "run")
    run = post_train(
        str(tmp_path / "pruned"), data=str(text), spec=spec(tokens=600), out=tmp_path / "run", loss_before=7.5
    )
    assert run.loss_before == 7.5
    assert run.curve == tuple(sorted(run.curve, key=lambda p: p.tokens))
    assert isinstance(run.curve[0], CurvePoint)


def test_a_model_pruned_elsewhere_has_the_size_of_its_original(tiny_model, text, tmp_path):
    pruned = tmp_path / "pruned"
    plan = prune(tiny_model, PruneSpec(method="depth", rate=0.1, scorer="random"), calibration=None, out=pruned)
    (pruned / "regrow_prune.json").unlink()
    ask = {"data": str(text), "spec": spec(tokens=600), "original": str(tiny_model)}
    for loss in (None, 7.5):  # known or not, the loss before pruning says nothing of the size
        run = post_train(str(pruned), out=tmp_path / f"run-{loss}", loss_before=loss, **ask)
        assert run.method == "other"
        assert (run.params_before, run.params_after) == (plan.params_before, plan.params_after)
