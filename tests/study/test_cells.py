"""A cell's identity is everything that affects its result, and nothing else."""

import os
import shutil
from dataclasses import replace

import pytest

from regrow.demo import demo_study
from regrow.errors import InputError
from regrow.runs import spec_hash
from regrow.study import StudySpec
from regrow.study.cells import Cell
from regrow.study.inputs import fingerprint_data, fingerprint_model, shape_of
from regrow.training.spec import TrainSpec

from .conftest import small_study


def test_what_is_not_used_is_not_in_the_hash():
    # as cells were hashed before there were teachers and fingerprints
    cell = demo_study().cells()[1]
    assert set(cell.spec) == {"model", "family", "prune", "train", "data", "held_out"}
    assert cell.hash == spec_hash(cell.spec)
    assert replace(cell, teacher="x").hash != cell.hash


def test_objectives_are_families_of_their_own_with_their_controls():
    study = StudySpec(
        models=("tiny-llama-0.2m",),
        family="f",
        methods=("2:4",),
        objectives=("cross-entropy", "distillation", "distillation:tiny-llama-3m"),
        train=TrainSpec(tokens=1000),
    )
    found = [(c.method, c.teacher, c.family) for c in study.cells()]
    assert found == [
        ("none", None, "f"),
        # a model has nothing to learn from itself, so there is no such control
        ("none", "tiny-llama-3m", "f-distilled-from-tiny-llama-3m"),
        ("2:4", None, "f"),
        ("2:4", "tiny-llama-0.2m", "f-distilled"),
        ("2:4", "tiny-llama-3m", "f-distilled-from-tiny-llama-3m"),
    ]
    assert str(study.cells()[3].objective) == "distillation:T=1,mix=1"
    mixed = replace(study, train=replace(study.train, distill_mix=0.5))
    assert len(mixed.cells()) == 6  # half of what it learns is the text


@pytest.fixture
def own_model(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "own")


def test_changed_weights_are_another_cell_and_a_copy_is_not(own_model, tiny_model, tmp_path):
    before = fingerprint_model(str(own_model))
    assert before == fingerprint_model(str(tiny_model))
    os.utime(own_model / "model.safetensors")
    assert fingerprint_model(str(own_model)) == before
    weights = bytearray((own_model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (own_model / "model.safetensors").write_bytes(weights)
    assert fingerprint_model(str(own_model)) != before


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_changed_config_or_tokenizer_is_another_cell(own_model, file):
    before = fingerprint_model(str(own_model))
    (own_model / file).write_text((own_model / file).read_text() + "\n")
    assert fingerprint_model(str(own_model)) != before


def test_what_regrow_notes_beside_a_checkpoint_is_not_what_it_is(own_model):
    before = fingerprint_model(str(own_model))
    (own_model / "regrow_prune.json").write_text("{}")
    assert fingerprint_model(str(own_model)) == before


def test_changed_text_is_another_cell(own_model, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.txt").write_text("one")
    first = small_study(own_model, text).cells()
    assert {"model", "data", "held_out"} == set(first[0].fingerprints)
    assert [c.hash for c in small_study(own_model, text).cells()] == [c.hash for c in first]
    (text / "a.txt").write_text("two")
    second = small_study(own_model, text).cells()
    assert not {c.name for c in first} & {c.name for c in second}
    assert fingerprint_data("ladder", "held_out") != fingerprint_data("ladder", "post_train")
    assert fingerprint_data("hub:some/data,tokens=1k", "") is None


def test_names_of_the_ladder_stand_for_themselves():
    cell = demo_study().cells()[0]
    assert isinstance(cell, Cell)
    assert cell.fingerprints == {}


def test_shapes_are_known_before_a_model_is_loaded(tiny_model, tmp_path):
    assert shape_of(str(tiny_model)).layers == 3
    assert shape_of("meta-llama/Llama-3.1-8B").layers == 32
    assert shape_of("nobody/knows") is None
    with pytest.raises(InputError, match="no such model folder"):
        shape_of(str(tmp_path / "nowhere"))
