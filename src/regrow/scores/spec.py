"""Which benchmarks to ask, and how. Light: a command line checks it without torch and lm-eval."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from regrow.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TasksSpec:
    """Benchmarks and how they are asked.

    Attributes:
        names: tasks or groups of lm-eval, each once; `hellaswag:acc` names the metric that is the score.
        limit: ask the first so many questions of each task; None for all.
        shots: examples shown before each question; None for the task's own number. A task that fixes its number at 0
            keeps it.
        folders: further task files, as lm-eval's `--include_path` takes them; a later one wins.
    """

    names: tuple[str, ...]
    limit: int | None = None
    shots: int | None = None
    folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("no task is named", where="tasks", hint="write them like arc_easy,hellaswag")
        twice = next((name for name in self.names if self.names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{twice!r} is named twice", where="tasks", hint="name each task once")
        if self.limit is not None and self.limit < 2:
            raise InputError(f"a limit of {self.limit}", where="tasks", hint="ask at least 2 questions")
        if self.shots is not None and self.shots < 0:
            raise InputError(f"{self.shots} shots", where="tasks", hint="0 shows no examples")
        for folder in self.folders:
            if not folder.is_dir():
                raise InputError(
                    "no such folder of task files", where=str(folder), hint="it holds lm-eval's YAML files"
                )


def parse_tasks(text: str) -> tuple[str, ...]:
    """`arc_easy, hellaswag:acc` as names. Raises `InputError` for none, or an empty one."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise InputError(f"{text!r} names no task", where="--tasks", hint="write them like arc_easy,hellaswag")
    return names


def require_harness() -> None:
    """Raise `InputError` that says how to install lm-eval where it is missing."""
    if find_spec("lm_eval") is None:
        raise InputError(
            "scores need lm-eval, which is not installed",
            where="--tasks",
            hint="pip install 'regrow[eval]', or '.[eval]' in a clone of the repository",
        )
