"""`results_*.json` of lm-evaluation-harness: scores of a checkpoint, one file for each.

Which checkpoint a file is of stands in the model's path, as `lm_eval --model_args pretrained=out/checkpoint-500` was
given it, or in the folder that the file lies in: `checkpoint-500`, `step_500`, `iter_0000500`, `global_step500`. A file
of the pruned model before any training lies in a folder with the number 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.reading import MALFORMED, parse_json, read_text
from regrow.runs.harness_results import TaskResult, read_results
from regrow.runs.importers.history import History

FORMAT = "lm-eval"
_NAME = "results*.json"
#: what stands beside the results in the files of every release
_TELLING = (b'"versions"', b'"n-shot"', b'"config')
_STEP = re.compile(r"(?:^|[/_.\-\s])(?:checkpoint|global[_-]?step|steps?|iter(?:ation)?)[-_]?0*(\d+)(?![\d.])", re.I)


@dataclass(frozen=True, kw_only=True)
class Results:
    """The scores in one file, and the step of the checkpoint; None where nothing tells it."""

    path: Path
    step: int | None
    tasks: dict[str, TaskResult]


def recognise(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return bool(_files(path))
    start = head.lstrip()[:1]
    return (
        start == b"{" and b'"results"' in head and any(key in head for key in (b'"versions"', b'"n-shot"', b'"config'))
    )


def read_files(path: Path) -> list[Results]:
    """Every results file of a path, a file or a folder. Raises `InputError` for one that lm-eval did not write."""
    files = _files(path) if path.is_dir() else [path]
    if not files:
        raise InputError(f"no {_NAME} here", where=str(path), hint="`lm_eval --output_path` writes them")
    return [_read(file) for file in files]


def read(path: Path) -> History:
    """The scores as a log: a row for each file."""
    rows: list[dict[str, Any]] = []
    for results in read_files(path):
        row: dict[str, Any] = {"step": results.step}
        for name, result in results.tasks.items():
            row[f"eval/{name}/{result.metric}"] = result.score.value
        rows.append(row)
    return History.from_rows(rows, where=str(path))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob(_NAME) if file.is_file())


def _read(file: Path) -> Results:
    try:
        content = parse_json(read_text(file))
    except (OSError, *MALFORMED):
        raise InputError("not results of lm-eval", where=str(file), hint="give a results_*.json") from None
    if not isinstance(content, dict):
        raise InputError("not results of lm-eval", where=str(file), hint="give a results_*.json")
    return Results(path=file, step=_step(content, file), tasks=read_results(content, where=str(file)))


def _step(content: dict[str, Any], file: Path) -> int | None:
    """The step in the model's path, else in the names of the folders that the file lies in, the nearest first."""
    config = content.get("config")
    arguments = config.get("model_args") if isinstance(config, dict) else None
    given = arguments.get("pretrained") if isinstance(arguments, dict) else arguments
    named = [str(text) for text in (content.get("model_name"), given) if isinstance(text, str)]
    for text in (*named, *(folder.name for folder in file.parents)):
        found = _STEP.findall(text)
        if found:
            return int(found[-1])
    return None
