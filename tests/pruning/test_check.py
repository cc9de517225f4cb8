"""The checker finds what is there, and a planted violation, on every matrix."""

import json

import pytest
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, make

from regrow.cli import main as cli
from regrow.errors import InputError
from regrow.families import FAMILIES as DESCRIBED
from regrow.families import linear_inputs
from regrow.models import count_nonzero, load_model, save_checkpoint
from regrow.pruning import PruneSpec
from regrow.pruning.check import check_checkpoint
from regrow.pruning.prune import prune

#: The linear layers of a block; every family of `tiny_models` has the same.
LINEARS = tuple(linear_inputs(DESCRIBED["llama"]))


@pytest.fixture
def sparse(tmp_path):
    folder = save_checkpoint(make("qwen2"), None, tmp_path / "model")
    prune(folder, PruneSpec(method="2:4", scorer="magnitude"), calibration=None, out=tmp_path / "sparse")
    return tmp_path / "sparse"


def plant(folder, name, row=0, column=0):
    state = load_file(folder / "model.safetensors")
    state[name][row, column : column + 4] = 1.0
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})


def test_a_pruned_model_holds_its_own_pattern(sparse):
    found = check_checkpoint(sparse)
    assert (found.pattern, found.matrices, found.violations) == ("2:4", 4 * len(LINEARS), {})
    assert found.nonzero == count_nonzero(load_model(sparse))
    assert check_checkpoint(sparse, "3:4").violations == {}
    assert len(check_checkpoint(sparse, "1:4").violations) == 4 * len(LINEARS)


@pytest.mark.parametrize("linear", LINEARS)
def test_a_planted_violation_is_named(sparse, linear):
    name = f"model.layers.2.{linear}.weight"
    plant(sparse, name, row=3, column=8)
    assert check_checkpoint(sparse).violations == {name: 1}


def test_n_is_what_is_kept_not_what_is_zero(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    prune(folder, PruneSpec(method="1:4", scorer="magnitude"), calibration=None, out=tmp_path / "sparse")
    share = check_checkpoint(tmp_path / "sparse", "1:4")
    matrices = 4 * (3 * 32 * 48 + 2 * 32 * 64 + 2 * 32 * 32)
    assert share.params - share.nonzero == matrices * 3 // 4
    assert check_checkpoint(tmp_path / "sparse", "3:4").violations == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_models_break_it_everywhere(family, tmp_path):
    folder = save_checkpoint(make(family), None, tmp_path / "model")
    assert len(check_checkpoint(folder, "2:4").violations) == 4 * len(LINEARS)
    with pytest.raises(InputError, match=r"no regrow_prune\.json"):
        check_checkpoint(folder)
    for pattern in ("half", "2:0", "4:4", "0:4"):
        with pytest.raises(InputError, match=f"'{pattern}' is not an N:M pattern"):
            check_checkpoint(folder, pattern)


def test_a_model_pruned_by_depth_has_no_pattern_of_its_own(tmp_path):
    folder = save_checkpoint(make("llama-tied"), None, tmp_path / "model")
    spec = PruneSpec(method="depth", rate=0.25, scorer="random")
    prune(folder, spec, calibration=None, out=tmp_path / "shallow")
    with pytest.raises(InputError, match=r"pruned by depth, which leaves no N:M pattern.*--loads transformers"):
        check_checkpoint(tmp_path / "shallow")
    assert check_checkpoint(tmp_path / "shallow", "2:4").violations


def test_a_rest_counts_as_a_group(sparse):
    # 56 and 48 inputs do not divide by 5
    found = check_checkpoint(sparse, "4:5")
    assert found.groups > 0


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["regrow", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out = capsys.readouterr()
    return exit_.value.code, out.out, out.err


def test_the_command(sparse, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "check", sparse)
    assert code == 0
    assert "28 of 28 matrices are 2:4 sparse" in out
    plant(sparse, "model.layers.0.mlp.up_proj.weight")
    code, out, _ = run(monkeypatch, capsys, "check", sparse, "--json")
    assert code == 1
    assert json.loads(out)["violations"] == {"model.layers.0.mlp.up_proj.weight": 1}
    code, out, err = run(monkeypatch, capsys, "check", sparse, "--pattern", "4")
    assert code == 2
    assert err.startswith("error: ")
