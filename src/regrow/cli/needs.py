"""What a command needs that the light installation does not bring: said before the command does anything else."""

from __future__ import annotations

from importlib.util import find_spec

from regrow.errors import InputError

#: What the extra `train` installs, by the names that are imported.
_TRAIN = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors")
INSTALL = "pip install 'regrow[train]', or '.[train]' in a clone of the repository"


def missing_for_training() -> list[str]:
    """The libraries of the extra `train` that are not installed here."""
    return [name for name in _TRAIN if find_spec(name) is None]


def need_training(command: str) -> None:
    """Raise `InputError` where `command` can't run because the extra `train` is not installed."""
    missing = missing_for_training()
    if missing:
        raise InputError(f"{command} needs {', '.join(missing)}", hint=f"install with: {INSTALL}")
