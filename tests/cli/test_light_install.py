"""Without the extra `train`, a command that needs it says so in one line before it does anything else."""

import subprocess
import sys

import pytest
from tests.cli.conftest import one_line_error

NEEDED = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors")
STUDY = """
family: llama
models: [tiny-llama-0.2m]
methods: [depth]
rates: [0.17]
data: ladder
train: {tokens: 10240}
"""


@pytest.fixture
def light(monkeypatch, tmp_path):
    """An interpreter that finds none of what the extra installs, in an empty folder with a study file."""
    for name in NEEDED:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo",),
        ("study", "study.yaml"),
        ("prune", "tiny-llama-0.2m", "--method", "depth", "--rate", "0.25", "--out", "pruned"),
        ("train", "nowhere", "--data", "nowhere.txt", "--tokens", "10k", "--out", "run"),
        ("eval", "nowhere", "--data", "nowhere.txt"),
        ("cooldown", "nowhere", "--tokens", "1k", "--out", "cooled"),
        ("check", "nowhere"),
        ("ladder", "build", "--out", "ladder"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_that_trains_says_what_to_install(light, regrow, arguments):
    done = regrow(*arguments)
    one_line_error(done, f"regrow {arguments[0]}", "needs torch, transformers", "pip install 'regrow[train]'")
    assert done.err.count("\n") == 1
    assert [path.name for path in light.iterdir()] == ["study.yaml"]


def test_a_study_is_planned_without_an_estimate_of_its_time(light, regrow):
    done = regrow("study", "study.yaml", "--dry-run")
    assert done.code == 0
    assert done.err.startswith("note: torch, transformers, ")
    assert done.err.count("\n") == 1
    assert "2 cells, 2 to run: 20.5k tokens" in done.out
    assert "about" in done.out  # the disk


def test_a_study_file_to_begin_with_is_written_and_can_be_planned(light, regrow):
    done = regrow("study", "new.yaml", "--init")
    assert (done.code, done.err) == (0, "")
    assert done.out == "written to new.yaml; edit it, then: regrow study new.yaml --dry-run\n"
    planned = regrow("study", "new.yaml", "--dry-run", "--json").json
    assert len(planned["cells"]) == 16  # of two models: three rates by depth and by width, 2:4, and a control
    assert planned["warnings"] == []
    one_line_error(regrow("study", "new.yaml", "--init"), "new.yaml: a file is here already")
    one_line_error(regrow("study", "study.yaml/new.yaml", "--init"), "can't be written")


def test_the_outline_of_a_pruned_model_needs_nothing_more():
    """In an interpreter of its own: one that has loaded torch already can't be made to forget it."""
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({NEEDED!r}))\n"
        "sys.argv = ['regrow', 'prune', 'tiny-llama-0.2m', '--method', 'depth', '--rate', '0.25', '--dry-run']\n"
        "from regrow.cli.main import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pruning rate" in done.stdout
    assert "needs" not in done.stderr
