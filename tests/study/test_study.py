"""Studies: every cell once, what is done is left alone, what fails is told and does not stop the others."""

import json
from dataclasses import replace

import pytest

from regrow.errors import InputError
from regrow.runs import read_runs
from regrow.study import StudySpec, missing_cells, run_study
from regrow.study.plan import run_folder

from .conftest import small_study


def test_cells_are_the_grid_with_a_control_and_an_order_each(tiny_model, text):
    cells = small_study(tiny_model, text, rates=(0.1, 0.2), seeds=(0, 1)).cells()
    assert [c.method for c in cells] == ["none"] * 2 + ["depth"] * 4 + ["2:4"] * 2
    assert len({c.hash for c in cells}) == len({c.name for c in cells}) == 8
    assert len({c.train.seed for c in cells}) == 8


def test_a_changed_spec_is_another_cell(tiny_model, text):
    one = small_study(tiny_model, text)
    other = replace(one, train=replace(one.train, learning_rate=2e-3))
    assert not {c.hash for c in one.cells()} & {c.hash for c in other.cells()}
    assert [c.hash for c in one.cells()] == [c.hash for c in small_study(tiny_model, text).cells()]


def test_a_study_runs_once_and_resumes(local_engine, tiny_model, text, tmp_path):
    asked = small_study(tiny_model, text)
    ended = []
    first = run_study(
        asked, tmp_path, engine=local_engine, on_cell=lambda cell, error: ended.append((cell.name, error))
    )
    names = {c.name for c in asked.cells()}
    assert set(first.ran) == names == {name for name, error in ended if error is None}
    assert not first.failed
    runs = read_runs(tmp_path)
    assert {r.run for r in runs} == names
    assert [p.tokens for p in runs[0].curve] == [0, 1024, 2048]
    control = next(r for r in runs if r.is_control)
    assert all(r.loss_before == control.loss_before for r in runs)
    assert json.loads((tmp_path / "study.json").read_text())["cells"][0]["name"] in names

    # again: nothing to do; with one marker gone: that run, to the same curve
    assert run_study(asked, tmp_path, engine=local_engine).skipped == tuple(c.name for c in asked.cells())
    broken = asked.cells()[1]
    before = (run_folder(broken, tmp_path) / "curve.jsonl").read_text()
    (run_folder(broken, tmp_path) / "DONE").unlink()
    assert [cell.name for cell in missing_cells(asked, tmp_path)] == [broken.name]
    second = run_study(asked, tmp_path, engine=local_engine)
    assert second.ran == (broken.name,)
    after = (run_folder(broken, tmp_path) / "curve.jsonl").read_text()
    drop = lambda text: [{k: v for k, v in json.loads(x).items() if k != "seconds"} for x in text.splitlines()]  # noqa: E731
    assert drop(after) == drop(before)


def test_a_study_file_is_read_and_checked(tiny_model, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        f"models: [{tiny_model}]\nfamily: tiny\nrates: [0.2]\ntrain: {{tokens: 10k, learning_rate: 1.0e-3}}\n"
        f"train_by_model: {{{tiny_model}: {{learning_rate: 2.0e-3}}}}\n"
    )
    found = StudySpec.from_yaml(path)
    assert found.train.tokens == 10_000
    assert {c.train.learning_rate for c in found.cells()} == {2e-3}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("models: [a]\nfamily: x\ntrain: {tokens: 10}\nrate: [0.1]", "did you mean 'rates'"),
        ("models: [a]\nfamily: x\ntrain: {tokns: 10}", "did you mean 'tokens'"),
        ("models: [a]\nfamily: x", "train missing"),
        ("models: []\nfamily: x\ntrain: {tokens: 10}", "models is empty"),
        ("models: [a]\nfamily: x\ntrain: {tokens: 10}\ntrain_by_model: {b: {}}", "unknown model 'b'"),
        ("models: [a]\nfamily: x\ntrain: {tokens: ten}", "not a positive number"),
        ("just text", "not a mapping"),
        ("models: [a", "not a YAML file"),
    ],
)
def test_study_files_that_cannot_be(tmp_path, content, says):
    (tmp_path / "study.yaml").write_text(content)
    with pytest.raises(InputError, match=says):
        StudySpec.from_yaml(tmp_path / "study.yaml")


@pytest.mark.parametrize("changes", [{"rates": (1.0,)}, {"rates": (-0.1,)}, {"methods": ("dept",)}])
def test_cells_that_cannot_be(tiny_model, text, changes):
    with pytest.raises(InputError):
        small_study(tiny_model, text, **changes).cells()
