"""Where the ladder's files lie in the installed package, and how they are proved whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from regrow.errors import InputError, nearest

#: Folder of everything the ladder ships: `corpus/`, `tokenizer/` and one folder per model.
ASSETS = Path(__file__).parent / "assets"

#: How the names of all models begin.
_BEGINNING = "tiny"
#: From this similarity on, a name is a wrong spelling of another.
_SPELLING = 0.8


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def find_model(name: str) -> str:
    """The folder of a ladder model by its name; any other name comes back as it is.

    Raises `InputError` for what is no path here and nearly a ladder model's name.
    """
    folder = ASSETS / "models" / name
    # a path is no name, and an absolute one would take the place of the whole
    if Path(name).name != name:
        return name
    if (folder / "config.json").is_file():
        return str(folder)
    if name.startswith(_BEGINNING) and not Path(name).exists():
        meant = nearest(name, model_names(), cutoff=_SPELLING)
        if meant is not None:
            raise InputError(f"unknown ladder model {name!r}", hint=f"did you mean {meant!r}? `regrow ladder list`")
    return name


def model_names() -> list[str]:
    """The names of the ladder's models, in alphabetical order."""
    return sorted(config.parent.name for config in (ASSETS / "models").glob("*/config.json"))


def find_corpus(name: str, split: str) -> str:
    """The file of a split of the ladder's corpus if `name` is `ladder`; any other name comes back as it is."""
    return str(ASSETS / "corpus" / f"{split}.parquet") if name == "ladder" else name


def installed_models() -> list[dict[str, Any]]:
    """What was recorded of each model's training, and whether its weights are still those (`whole`)."""
    models = []
    for record in sorted((ASSETS / "models").glob("*/training.json")):
        content = json.loads(record.read_text())
        del content["log"]
        whole = file_sha256(record.parent / "model.safetensors") == content["weights_sha256"]
        models.append({**content, "whole": whole})
    return sorted(models, key=lambda m: m["params"])
