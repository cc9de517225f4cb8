"""A run goes on only with what it was begun with, in one process, from a checkpoint that is whole."""

import shutil

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from regrow.errors import InputError
from regrow.locks import LOCK_FILE, hold
from regrow.runs.store import CURVE_FILE, RUN_FILE, RunWarning
from regrow.training import TrainSpec
from regrow.training.branch import cool_down
from regrow.training.checkpoints import FILES, checkpoints, damage
from regrow.training.post_train import post_train

SPEC = TrainSpec(
    tokens=2560, batch_tokens=512, sequence_length=64, learning_rate=3e-3, held_out_blocks=4, save_every_tokens=512
)


class Gone(BaseException):
    pass


def begin(model, data, out, *, at=1536, **more):
    """A run that dies at so many tokens."""

    def die(progress):
        if progress.tokens == at + 512:
            raise Gone

    with pytest.raises(Gone):
        post_train(str(model), data=str(data), spec=SPEC, out=out, on_progress=die, **more)


@pytest.fixture(scope="module")
def begun(tiny_model, text, tmp_path_factory):
    """A run that died after three of its five steps, with its model and text. Not to be changed."""
    root = tmp_path_factory.mktemp("begun")
    shutil.copytree(tiny_model, root / "model")
    shutil.copy(text, root / "text.parquet")
    begin(root / "model", root / "text.parquet", root / "run")
    return root


@pytest.fixture
def case(begun, tmp_path):
    """`case.resume()` goes on with a copy of the run; `case.files()` is all that lies in it."""

    class Case:
        model, data, out = begun / "model", begun / "text.parquet", tmp_path / "run"

        def resume(self, **more):
            return post_train(str(self.model), data=str(self.data), spec=SPEC, out=self.out, resume=True, **more)

        def files(self):
            found = [p for p in self.out.rglob("*") if p.is_file() and p.name != LOCK_FILE]
            return {p: p.read_bytes() for p in found}

    shutil.copytree(begun / "run", tmp_path / "run")
    return Case()


def losses(run):
    return [(p.tokens, p.loss, p.train_loss) for p in run.curve]


@pytest.fixture(scope="module")
def whole(begun, tmp_path_factory):
    return post_train(
        str(begun / "model"), data=str(begun / "text.parquet"), spec=SPEC, out=tmp_path_factory.mktemp("w") / "run"
    )


def test_a_text_that_changed_is_refused_before_anything_is_written(case, begun, monkeypatch):
    kept = case.data.read_bytes()
    before = case.files()
    rows = pd.read_parquet(case.data)["text"].tolist()
    rows[len(rows) // 2] = rows[len(rows) // 2][::-1]
    try:
        pd.DataFrame({"text": rows}).to_parquet(case.data)
        with pytest.raises(InputError, match=r"the (training|held-out) text has changed since the run was begun"):
            case.resume()
    finally:
        case.data.write_bytes(kept)
    assert case.files() == before


def test_a_model_that_changed_is_refused_before_anything_is_written(case, begun):
    weights = case.model / "model.safetensors"
    kept, before = weights.read_bytes(), case.files()
    tensors = load_file(weights)
    name = next(iter(tensors))
    try:
        save_file({**tensors, name: tensors[name] + 1e-3}, weights, metadata={"format": "pt"})
        with pytest.raises(InputError, match="the model has changed since the run was begun"):
            case.resume()
    finally:
        weights.write_bytes(kept)
    assert case.files() == before


def test_another_loss_before_is_refused(case):
    with pytest.raises(InputError, match=r"the unpruned model's loss is 9\.0000, the run was begun with"):
        case.resume(loss_before=9.0)


def test_a_finished_run_of_another_text_is_not_taken_for_this_one(case, whole):
    assert losses(case.resume()) == losses(whole)
    kept = case.data.read_bytes()
    try:
        pd.DataFrame({"text": [f"another text, number {i}" for i in range(2000)]}).to_parquet(case.data)
        with pytest.raises(InputError, match="has changed"):
            case.resume()
    finally:
        case.data.write_bytes(kept)


def test_a_run_goes_on_where_its_inputs_lie_elsewhere(case, whole, tmp_path):
    """The record holds names; where they lie is another machine's business."""
    places = {"m": str(case.model), "d": str(case.data)}
    begin("m", "d", tmp_path / "named", find=lambda name, kind: places[name])
    moved = {
        "m": str(shutil.copytree(case.model, tmp_path / "m2")),
        "d": str(shutil.copy(case.data, tmp_path / "d2.parquet")),
    }
    run = post_train("m", data="d", spec=SPEC, out=tmp_path / "named", resume=True, find=lambda name, kind: moved[name])
    assert losses(run) == losses(whole)
    assert (run.spec["model"], run.spec["data"]) == ("m", "d")


def test_two_processes_do_not_write_one_run(case, begun):
    before = case.files()
    with hold(case.out / LOCK_FILE, what="held", hint="wait"):
        with pytest.raises(InputError, match="another process is writing this run"):
            case.resume()
        with pytest.raises(InputError, match="another process is writing this run"):
            cool_down(begun / "run", tokens=1024, out=case.out, resume=True)
    assert case.files() == before


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "model.safetensors", "regrow.pt", "trainer_state.json"]
)
@pytest.mark.parametrize("how", ["missing", "empty", "flipped"])
def test_a_damaged_checkpoint_is_seen(case, name, how):
    last = checkpoints(case.out / "checkpoints")[-1]
    assert damage(last) is None
    file = last / name
    if how == "missing":
        file.unlink()
    elif how == "empty":
        file.write_bytes(b"")
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert name in damage(last)


def test_the_whole_checkpoint_before_is_taken_and_the_result_is_the_same(case, whole):
    one, two = checkpoints(case.out / "checkpoints")
    (two / "optimizer.pt").write_bytes(b"")
    with pytest.warns(RunWarning, match=rf"damaged: {two.name} \(optimizer.pt holds 0 of .*goes on from {one.name}"):
        run = case.resume()
    assert losses(run) == losses(whole)


def test_no_whole_checkpoint_is_said_and_nothing_written(case):
    for checkpoint in checkpoints(case.out / "checkpoints"):
        (checkpoint / "scheduler.pt").unlink()
    before = case.files()
    with pytest.raises(InputError, match=r"no checkpoint is whole: .*scheduler\.pt is missing"):
        case.resume()
    assert case.files() == before


def test_a_checkpoint_without_a_list_is_used_if_nothing_is_missing(case, whole):
    for checkpoint in checkpoints(case.out / "checkpoints"):
        (checkpoint / FILES).unlink()
    last = checkpoints(case.out / "checkpoints")[-1]
    assert damage(last) is None
    (last / "optimizer.pt").unlink()
    assert damage(last) == "optimizer.pt is missing"


def test_a_missing_curve_is_restored(case, whole):
    (case.out / CURVE_FILE).unlink()
    with pytest.warns(RunWarning, match="curve.jsonl was missing and is restored from checkpoint-3"):
        run = case.resume()
    assert losses(run) == losses(whole)


def test_a_damaged_record_names_its_copy(case, whole):
    (case.out / RUN_FILE).write_text("{")
    with pytest.raises(InputError, match=r"copy .*checkpoint-3.regrow_run.json over it"):
        case.resume()
    shutil.copy(case.out / "checkpoints" / "checkpoint-3" / "regrow_run.json", case.out / RUN_FILE)
    assert losses(case.resume()) == losses(whole)


def test_a_folder_that_nothing_was_written_to_is_not_left(tiny_model, tmp_path):
    with pytest.raises(InputError):
        post_train(str(tiny_model), data=str(tmp_path / "none.txt"), spec=SPEC, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
