"""The light rooms and the command line's start-up load neither torch nor its company."""

import subprocess
import sys
from pathlib import Path

import pytest

import regrow

HEAVY = ("torch", "lm_eval", "transformers", "accelerate", "datasets", "ray", "tensorboard", "tensorflow", "wandb")
LIGHT = (
    "regrow",
    "regrow.arch",
    "regrow.families",
    "regrow.data",
    "regrow.errors",
    "regrow.laws",
    "regrow.laws.fitting",
    "regrow.laws.validation",
    "regrow.planning",
    "regrow.pruning.card",
    "regrow.pruning.plan",
    "regrow.pruning.scorers",
    "regrow.pruning.spec",
    "regrow.report",
    "regrow.runs",
    "regrow.runs.importers",
    "regrow.scores",
    "regrow.ladder.tasks",
    "regrow.safetensors_header",
    "regrow.study.spec",
    "regrow.training.spec",
    "regrow.cli.main",
)


def loaded_by(code: str) -> set[str]:
    """Names of the heavy modules that a fresh interpreter has loaded after `code`."""
    show = f"import sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_the_light_rooms_load_nothing_heavy():
    assert loaded_by("\n".join(f"import {name}" for name in LIGHT)) == set()


def test_the_probe_can_fail():
    assert "torch" in loaded_by("import torch")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plan", "--help"], ["train", "--help"], ["study", "--help"], ["import", "--help"]]
)
def test_help_loads_nothing_heavy(arguments):
    code = f"import sys\nsys.argv = ['regrow', *{arguments!r}]\nfrom regrow.cli.main import main\n"
    assert loaded_by(code + "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0") == set()


@pytest.mark.parametrize(
    ("log", "loads"),
    [("run-tracked.wandb", set()), ("wandb_history.csv", set()), ("events.out.tfevents.0", {"tensorboard"})],
)
def test_logs_are_read_without_what_wrote_them(log, loads):
    path = Path(__file__).parents[1] / "examples" / "logs" / "formats" / log
    about = "run='r', family='f', method='depth', params_before=2, params_after=1, loss_before=3.9"
    code = f"from regrow import ImportSpec, import_log\nimport_log({str(path)!r}, ImportSpec({about}))"
    assert loaded_by(code) == loads


@pytest.mark.parametrize("command", ["plan", "predict"])
def test_answers_from_a_law_file_start_without_scipy_and_pandas(command):
    code = (
        f"import sys\nsys.argv = ['regrow', {command!r}, 'nowhere.json', '--loss-before', '2', '--rate', '.2',"
        " '--params-before', '8B'" + (", '--tokens', '1B'" if command == "predict" else "") + "]\n"
        "from regrow.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2\n"
        "assert not {'scipy.optimize', 'pandas'} & set(sys.modules)"
    )
    assert loaded_by(code) == set()


def test_every_public_name_is_there():
    for name in regrow.__all__:
        assert getattr(regrow, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        regrow.nothing_like_it  # noqa: B018
