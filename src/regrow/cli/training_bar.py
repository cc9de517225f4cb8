"""A bar on stderr for a run that trains."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regrow.cli.options import console, number

if TYPE_CHECKING:
    from rich.progress import Progress as RichBar
    from rich.progress import TaskID

    from regrow.training.callbacks import Progress


def is_main_process() -> bool:
    """Whether this process prints: only one of torchrun's processes does."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class TrainingBar:
    """What a run prints while it trains."""

    bar: RichBar
    task: TaskID

    def show(self, progress: Progress) -> None:
        """Move the bar."""
        self.bar.update(
            self.task,
            completed=progress.tokens,
            total=progress.total,
            speed=number(progress.tokens_per_second, ",.0f"),
            description=f"loss {number(progress.loss)}",
        )

    def say(self, line: str) -> None:
        """A line above the bar."""
        self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def training_bar(total: int | None = None) -> Iterator[TrainingBar]:
    """A bar of `total` tokens, gone at the end."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[speed]} tokens/s"),
        TimeRemainingColumn(),
        console=console(),
        transient=True,
        disable=not is_main_process(),
    ) as bar:
        yield TrainingBar(bar, bar.add_task("training", total=total, speed="-"))
