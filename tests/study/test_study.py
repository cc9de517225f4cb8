"""Studies: every cell once, what is done is left alone, what fails is told and does not stop the others."""

import json
from dataclasses import replace

import pytest

from regrow.errors import InputError
from regrow.locks import LOCK_FILE, hold
from regrow.runs import read_runs
from regrow.study import StudySpec, missing_cells, run_study
from regrow.study.cell_plan import run_folder

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


def test_yaml_reads_numbers_as_people_write_them(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "models: tiny-llama-0.2m\nfamily: f\nmethods: [depth, 2:4]\nrates: 0.25\nrates_by_method: {depth: [0.17]}\n"
        "scorers: {2:4: magnitude}\nbudget: {tokens: 1M}\n"
        "train: {tokens: 100k, batch_tokens: 1k, sequence_length: 250, learning_rate: 6e-4, eval_at: linear:4}\n"
        "train_by_model: {tiny-llama-0.2m: {learning_rate: 1e-3, eval_at: [50k, 100k]}}\n"
    )
    found = StudySpec.from_yaml(path)
    assert found.methods == ("depth", "2:4")
    assert found.scorers == {"2:4": "magnitude"}
    assert (found.train.learning_rate, found.train.eval_at) == (6e-4, (25_000, 50_000, 75_000, 100_000))
    assert {c.train.eval_at for c in found.cells()} == {(50_000, 100_000)}
    assert {c.train.learning_rate for c in found.cells()} == {1e-3}
    assert found.budget.tokens == 1_000_000


def test_several_scorers_and_recipes_make_cells_of_their_own():
    content = {
        "models": ["tiny-llama-0.2m"],
        "family": "f",
        "methods": ["depth", "2:4"],
        "rates": [0.25],
        "scorers": {"2:4": ["wanda", "sparsegpt"]},
        "recipes": {"usual": {}, "fast": {"learning_rate": "6e-4"}},
        "train": {"tokens": "100k", "batch_tokens": "1k", "sequence_length": 250, "learning_rate": "3e-4"},
    }
    cells = StudySpec.from_dict(content).cells()
    found = [(c.method, c.prune.scorer if c.prune else None, c.train.learning_rate) for c in cells]
    pruned = [("none", None), ("depth", "block-influence"), ("2:4", "wanda"), ("2:4", "sparsegpt")]
    assert found == [(*one, rate) for one in pruned for rate in (3e-4, 6e-4)]
    assert len({c.hash for c in cells}) == len({c.train.seed for c in cells}) == 8
    alone = StudySpec.from_dict({**content, "recipes": {}, "scorers": {"2:4": "wanda"}}).cells()
    assert {c.hash for c in alone} < {c.hash for c in cells}


def test_milestones_in_words_are_of_each_models_own_tokens():
    recipe = {"tokens": "100k", "batch_tokens": "1k", "sequence_length": 250, "eval_at": "linear:4"}
    longer = {"tiny-llama-0.6m": {"tokens": "400k"}}
    models = ["tiny-llama-0.2m", "tiny-llama-0.6m"]
    study = {"models": models, "family": "f", "methods": ["depth"], "rates": [0.2]}
    found = StudySpec.from_dict({**study, "train": recipe, "train_by_model": longer})
    ends = {cell.model: cell.train.eval_at for cell in found.cells()}
    assert ends["tiny-llama-0.2m"] == (25_000, 50_000, 75_000, 100_000)
    assert ends["tiny-llama-0.6m"] == (100_000, 200_000, 300_000, 400_000)


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
        ("models: [a]\nfamily: x\ntrain: 10k", "train: '10k' is not a mapping"),
        ("models: [a]\nfamily: x\ntrain: {learning_rate: 1.0e-3}", "train: tokens missing"),
        ("models: [a]\nfamily: x\ntrain: {tokens: 10, learning_rate: fast}", "learning_rate: 'fast' is not a number"),
        ("models: [a]\nfamily: x\ntrain: {tokens: 1.5}", "tokens: 1.5 is not a whole number"),
        ("models: [a]\nfamily: x\ntrain: {tokens: 10, eval_at: [some]}", "eval_at: 'some' is not a positive number"),
        ("models: [a]\nfamily: x\nrates: [low]\ntrain: {tokens: 10}", "rates: 'low' is not a number"),
        ("models: [a]\nfamily: x\nseeds: [0.5]\ntrain: {tokens: 10}", "seeds: 0.5 is not a number"),
        ("models: [a]\nfamily: x\nseeds: [1, 1]\ntrain: {tokens: 10}", "1 is named twice"),
        (
            "models: [a]\nfamily: x\nmethods: [depth+width]\ntrain: {tokens: 10}",
            "no cells of 'depth\\+width'; prune with",
        ),
        ("models: [a]\nfamily: x\nscorers: [wanda]\ntrain: {tokens: 10}", "scorers: .* is not a mapping"),
        ("models: [a]\nfamily: x\nrecipes: {fast: 6e-4}\ntrain: {tokens: 10}", "recipes, fast: '6e-4' is not a"),
        ("models: [a]\nfamily: x\nrecipes: {fast: {rate: 1}}\ntrain: {tokens: 10}", "recipes, fast: unknown key"),
        ("models: [a]\nfamily: x\nobjectives: [distilation]\ntrain: {tokens: 10}", "did you mean 'distillation'"),
        ("models: [a]\nfamily: x\nmethods: []\ncontrols: false\ntrain: {tokens: 10}", "nothing to run"),
        ("models: [a]\nfamily: x\nbudget: {tokns: 1}\ntrain: {tokens: 10}", "budget: unknown key 'tokns'"),
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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": "nowhere.txt"}, "study, data: no such file or folder: nowhere.txt"),
        ({"held_out": "nowhere.txt"}, "study, held_out: no such file or folder: nowhere.txt"),
        ({"models": ("./nowhere",)}, "./nowhere: no such model folder"),
        ({"rates": (0.9,)}, r"model, depth: no shape of this model reaches rate 0.9.*; nearest rates: 0\.\d+"),
        ({"methods": ("width",), "rates": (0.999,)}, "model, width: no shape .* nearest rates"),
        ({"methods": ("5:7",)}, "model, N:M: the input dimension .* does not divide into groups of 7"),
        ({"objectives": ("distillation:Llama-3.1-8B",)}, "the teacher Llama-3.1-8B has 128256 entries, .* has 2048"),
    ],
)
def test_what_cannot_be_run_is_found_before_anything_runs(tiny_model, text, tmp_path, changes, says):
    with pytest.raises(InputError, match=says):
        run_study(small_study(tiny_model, text, **changes), tmp_path)
    assert not (tmp_path / "runs").exists()


def test_a_second_study_in_the_folder_is_refused(tiny_model, text, tmp_path):
    asked = small_study(tiny_model, text)
    with (
        hold(tmp_path / LOCK_FILE, what="", hint=""),
        pytest.raises(InputError, match="another study is running in this folder \\(process"),
    ):
        run_study(asked, tmp_path)
