"""The ladder's tasks on disk: questions and task files as lm-eval reads them, made when they are first asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from regrow.data.cache import cache_folder
from regrow.disk import write_text
from regrow.errors import InputError
from regrow.ladder.assets import file_sha256, find_corpus
from regrow.ladder.questions import KINDS, QUESTIONS
from regrow.scores.spec import TasksSpec, require_harness

#: All of the ladder's tasks by one name.
ALL = "ladder"
#: Raised whenever the same seed makes other questions.
VERSION = 1


def find_tasks(
    names: tuple[str, ...], *, limit: int | None = None, shots: int | None = None, folder: Path | None = None
) -> TasksSpec:
    """What to ask, with the ladder's task files where one of its tasks is named; see `TasksSpec`.

    Raises `InputError` where lm-eval is missing, and as `TasksSpec` and `task_folder` do.
    """
    require_harness()
    own = task_folder(names)
    folders = tuple(each for each in (own, folder) if each is not None)
    return TasksSpec(names=names, limit=limit, shots=shots, folders=folders)


def task_folder(names: Iterable[str]) -> Path | None:
    """The folder of the ladder's task files if one of `names` is `ladder` or starts with `ladder_`; None if none does.

    Made in the cache where it is not there yet. Raises `InputError` where the cache can't be written.
    """
    if not any(name == ALL or name.startswith(f"{ALL}_") for name in names):
        return None
    text = file_sha256(Path(find_corpus(ALL, "held_out")))
    folder = cache_folder() / "tasks" / f"ladder-{VERSION}-{text[:12]}"
    if not (folder / f"{ALL}.yaml").is_file():
        make_tasks(folder)
    return folder


def make_tasks(folder: Path, *, questions: int = QUESTIONS, seed: int = 0) -> dict[str, Path]:
    """Write the questions of every kind and their task files to `folder`; returns the task files by task.

    `lm_eval --include_path FOLDER --tasks ladder` takes the folder as well. The group's file is written last.

    Raises `InputError` where the folder can't be written, or for more questions than the held-out text gives.
    """
    import pandas as pd

    documents = pd.read_parquet(find_corpus(ALL, "held_out"))["text"].tolist()
    folder = folder.resolve()
    files = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, make in KINDS.items():
            made = make(documents, count=questions, seed=seed)
            rows = "".join(json.dumps(asdict(question)) + "\n" for question in made)
            write_text(folder / f"{name}.jsonl", rows, sync=False)
            files[name] = folder / f"{name}.yaml"
            write_text(files[name], _yaml(_task(name, folder, seed)), sync=False)
        write_text(folder / f"{ALL}.yaml", _yaml({"group": ALL, "task": list(KINDS)}), sync=False)
    except OSError as error:
        raise InputError(
            f"can't write the tasks ({error.strerror or error})",
            where=str(folder),
            hint="choose another folder; $REGROW_CACHE says where the cache lies",
        ) from None
    return files


def _task(name: str, folder: Path, seed: int) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(folder / f"{name}.jsonl")},
            "cache_dir": str(folder / "datasets"),
        },
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": VERSION, "seed": seed},
    }


def _yaml(content: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(content, sort_keys=False))
