"""The formats that can be imported: each has a name, a test on content and a reader, in a module of its own.

A file with a structure is recognised by its first bytes, a console log by the first line that only one tool prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regrow.errors import InputError, one_of, reason_of
from regrow.runs.importers import (
    automodel,
    clearml,
    comet,
    composer,
    litgpt,
    llama_factory,
    llmc,
    lm_eval,
    megatron,
    mlflow,
    nanogpt,
    nanotron,
    nemo,
    olmo_core,
    swanlab,
    tables,
    tensorboard,
    torchtitan,
    trackio,
    trainer_state,
    wandb_history,
    wandb_run,
)
from regrow.runs.importers.history import History
from regrow.runs.importers.text import first_telling

#: How much of a file is looked at to recognise it.
_HEAD = 65536


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Attributes:
        name: as `--as` takes it.
        what: for messages, `a trainer_state.json`.
        recognise: whether a path (file or folder) with these first bytes (b"" for a folder) is of it; or, for a console
            log, the pattern of a line that tells the tool.
        read: the history in it; raises `InputError` if it is not of the format.
    """

    name: str
    what: str
    recognise: Callable[[Path, bytes], bool] | re.Pattern[str]
    read: Callable[[Path], History]


#: In the order in which they are tried: the particular before the general.
_ALL = tuple(
    Format(name=name, what=what, recognise=recognise, read=read)
    for name, what, recognise, read in (
        (
            "trainer-state",
            "trainer_state.json of transformers, TRL, axolotl",
            trainer_state.recognise,
            trainer_state.read,
        ),
        (lm_eval.FORMAT, "results_*.json of lm-evaluation-harness", lm_eval.recognise, lm_eval.read),
        ("llama-factory", "LLaMA-Factory's trainer_log.jsonl", llama_factory.recognise, llama_factory.read),
        ("automodel", "training.jsonl and validation.jsonl of NeMo AutoModel", automodel.recognise, automodel.read),
        ("tensorboard", "TensorBoard event files", tensorboard.recognise, tensorboard.read),
        ("wandb-run", "a W&B run file", wandb_run.recognise, wandb_run.read),
        ("mlflow", "an MLflow database, or folders of runs", mlflow.recognise, mlflow.read),
        ("trackio", "a trackio database, or its metrics in Parquet or CSV", trackio.recognise, trackio.read),
        ("swanlab", "a SwanLab run file", swanlab.recognise, swanlab.read),
        ("clearml", "an offline session of ClearML, or its scalars as JSON", clearml.recognise, clearml.read),
        ("comet", "an offline experiment of Comet, or its metrics as JSON", comet.recognise, comet.read),
        ("wandb-csv", "a W&B history in CSV", wandb_history.recognise_csv, wandb_history.read_csv),
        ("wandb-parquet", "a W&B history in Parquet", wandb_history.recognise_parquet, wandb_history.read_parquet),
        ("torchtitan", "a console log of torchtitan", torchtitan.TELLING, torchtitan.read),
        ("megatron", "a console log of Megatron-LM, Megatron-Bridge, GPT-NeoX", megatron.TELLING, megatron.read),
        ("nemo", "a console log of NeMo 2", nemo.TELLING, nemo.read),
        ("litgpt", "a console log of litgpt", litgpt.TELLING, litgpt.read),
        ("olmo-core", "a console log of OLMo-core", olmo_core.TELLING, olmo_core.read),
        ("composer", "a log of Composer or llm-foundry", composer.TELLING, composer.read),
        ("nanotron", "a console log of nanotron", nanotron.TELLING, nanotron.read),
        ("llm.c", "a log of llm.c", llmc.TELLING, llmc.read),
        ("nanogpt", "a console log of nanoGPT or modded-nanogpt", nanogpt.TELLING, nanogpt.read),
        ("parquet", "a Parquet table", tables.recognise_parquet, tables.read_parquet),
        ("jsonl", "a table in JSON lines", tables.recognise_jsonl, tables.read_jsonl),
        ("csv", "a CSV table", tables.recognise_csv, tables.read_csv),
    )
)
_BY_NAME = {format.name: format for format in _ALL}
FORMATS = tuple(_BY_NAME)
#: Tools that write one of the formats.
_ALIASES = {
    **dict.fromkeys(("axolotl", "trainer", "trl"), "trainer-state"),
    **dict.fromkeys(("megatron-bridge", "megatron-deepspeed", "gpt-neox", "megatron-lm"), "megatron"),
    "llm-foundry": "composer",
    "modded-nanogpt": "nanogpt",
    "nemo-automodel": "automodel",
    "llama-factory-v1": "llama-factory",
}


def describe() -> list[dict[str, str]]:
    """The name of each format and what it is."""
    return [{"format": format.name, "what": format.what} for format in _ALL]


def find_format(path: Path, name: str | None) -> Format:
    """The format called `name`, or that of the content.

    Raises `InputError` for an unknown name (with the nearest one), a path that is not there, an empty file, or content
    that is of no format.
    """
    if name is not None:
        name = _ALIASES.get(name, name)
        one_of(name, FORMATS, what="log format", where="--as")
    try:
        head = b"" if path.is_dir() else _head(path)
    except FileNotFoundError:
        raise InputError("no such file or folder", where=str(path), hint="give a log") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise InputError(f"can't be read ({reason_of(error)})", where=str(path)) from None
    if path.is_file() and not head.strip():
        raise InputError("the file is empty", where=str(path), hint="give a log with held-out losses")
    if name is not None:
        return _BY_NAME[name]
    found = _recognised(path, head)
    if found is None:
        below = _folders_with_logs(path) if path.is_dir() else []
        if below:
            listed = ", ".join(below[:4]) + (", ..." if len(below) > 4 else "")
            raise InputError(
                f"no log in this folder, but in {len(below)} below: {listed}",
                where=str(path),
                hint="name each as a LOG; --merge joins those that are parts of one run",
            )
        kind = "no log in this folder" if path.is_dir() else "not a log of a known format"
        raise InputError(kind, where=str(path), hint=f"give a file, or say which it is: --as {', '.join(FORMATS)}")
    return found


def _folders_with_logs(folder: Path) -> list[str]:
    """The folders directly below that hold a log of a known format."""
    return [child.name for child in sorted(folder.iterdir()) if child.is_dir() and _recognised(child, b"") is not None]


def _recognised(path: Path, head: bytes) -> Format | None:
    """The first format that knows the content. Console logs are asked where the first of them stands, all at once."""
    console = {format.name: format.recognise for format in _ALL if isinstance(format.recognise, re.Pattern)}
    asked = False
    for format in _ALL:
        if not isinstance(format.recognise, re.Pattern):
            if format.recognise(path, head):
                return format
        elif not asked and path.is_file():
            asked = True
            name = first_telling(path, console)
            if name is not None:
                return _BY_NAME[name]
    return None


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD)
