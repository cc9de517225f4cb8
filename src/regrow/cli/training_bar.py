"""What a run prints while it trains: its settings first, then a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

from regrow.cli.options import console, number
from regrow.units import format_count, format_duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichBar

    from regrow.runs import RunRecord
    from regrow.training.callbacks import Progress

#: Seconds between two lines where there is no terminal; a new held-out loss is told at once.
_EVERY = 30.0


class TrainingView(Protocol):
    """What shows a run."""

    def start(self, record: RunRecord) -> None:
        """Called with the run's record before its first step."""

    def show(self, progress: Progress) -> None:
        """Called after every step."""

    def say(self, line: str) -> None:
        """A line of its own."""


def is_main_process() -> bool:
    """Whether this process prints: only one of torchrun's processes does."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def training_view() -> Iterator[TrainingView]:
    """A bar where stderr is a terminal, gone at the end; lines elsewhere, for logs of Slurm and for pipes."""
    if not is_main_process():
        yield _Silent()
    elif sys.stderr.isatty():
        bar = _rich_bar()
        with bar:
            yield TrainingBar(bar)
    else:
        yield TrainingLines()


class _Silent:
    """Shows nothing."""

    def start(self, record: RunRecord) -> None: ...

    def show(self, progress: Progress) -> None: ...

    def say(self, line: str) -> None: ...


class TrainingLines:
    """A line at each new held-out loss and, between them, every `every` seconds of `clock`."""

    def __init__(self, *, every: float = _EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        self.every = every
        self.clock = clock
        self._last = float("-inf")
        self._read: int | None = None

    def start(self, record: RunRecord) -> None:
        for line in settings(record):
            self.say(line)

    def show(self, progress: Progress) -> None:
        new = progress.held_out_tokens != self._read
        if new or self.clock() - self._last >= self.every:
            self._last, self._read = self.clock(), progress.held_out_tokens
            self.say(progress_line(progress))

    def say(self, line: str) -> None:
        typer.echo(line, err=True)


class TrainingBar:
    """The bar, with losses and the way of training above it."""

    def __init__(self, bar: RichBar) -> None:
        self.bar = bar
        self.task = bar.add_task("", total=None, speed="-", state="", how="")

    def start(self, record: RunRecord) -> None:
        for line in settings(record):
            self.say(line)
        self.bar.update(self.task, how=f"{record.details['precision']} on {record.details['device']}")

    def show(self, progress: Progress) -> None:
        self.bar.update(
            self.task,
            completed=progress.tokens,
            total=progress.total,
            speed=number(progress.tokens_per_second, ",.0f"),
            state=_losses(progress),
        )

    def say(self, line: str) -> None:
        self.bar.console.print(line, markup=False, highlight=False)


def _rich_bar() -> RichBar:
    from rich.console import RenderableType
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class TwoLines(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            for task in self.tasks:
                parts = (task.fields["state"], task.fields["how"])
                yield Text(", ".join(part for part in parts if part) or "reading the held-out text")
            yield self.make_tasks_table(self.tasks)

    return TwoLines(
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[speed]} tokens/s"),
        TimeRemainingColumn(),
        console=console(),
        transient=True,
    )


def progress_line(progress: Progress) -> str:
    """How far a run is, in one line."""
    left = progress.seconds_left
    done = f"{progress.tokens:,} of {progress.total:,} tokens ({progress.tokens / progress.total:.0%})"
    parts = [
        f"{done}: {_losses(progress)}",
        f"{number(progress.tokens_per_second, ',.0f')} tokens/s",
    ]
    return ", ".join([*parts, f"about {format_duration(left)} left"] if left else parts)


def _losses(progress: Progress) -> str:
    """Losses and rate; of a held-out loss that was read earlier, the tokens it was read at."""
    at = progress.held_out_tokens
    earlier = "" if at is None or at == progress.tokens else f" (at {format_count(at) if at else 'the start'})"
    held_out = number(progress.held_out, ".4f") + earlier
    return f"loss {number(progress.loss, '.4f')}, held-out {held_out}, rate {number(progress.learning_rate, '.2e')}"


def settings(record: RunRecord) -> list[str]:
    """What a run is made with, in a few lines: what was asked for, and what was chosen for it."""
    from regrow.training.spec import TrainSpec

    spec, found = TrainSpec.from_dict(record.spec["train"]), record.details
    extras = {
        "LoRA of rank {}": spec.lora_rank, "averaged weights {}": spec.average,
        "cool-downs of {:,} tokens": spec.cooldown_tokens, "benchmarks {}": ", ".join(spec.tasks),
    }  # fmt: skip
    lines = [
        f"{record.run}: {found.get('model') or record.spec.get('model')}, {_pruned(record)}",
        f"  {spec.steps * spec.batch_tokens:,} tokens in {spec.steps:,} steps of {spec.batch_tokens:,} (blocks of "
        f"{spec.sequence_length:,}), {record.objective}, seed {spec.seed}",
        f"  learning rate {spec.learning_rate:.3g}, {spec.schedule}, warm-up of {spec.warmup_tokens:,} tokens"
        + "".join(f", {text.format(value)}" for text, value in extras.items() if value),
        f"  {found['precision']} on {found['device']}, {_processes(found)}",
        f"  text: {found['unique_tokens']:,} tokens, {found['epochs']:.3g} passes; held-out text: "
        f"{found['held_out_tokens']:,} tokens, read at {len(spec.milestone_steps)} milestones",
    ]
    if record.curve:
        lines.append(f"  goes on from {record.curve[-1].tokens:,} tokens")
    return lines


def _pruned(record: RunRecord) -> str:
    sizes = f"{format_count(record.params_before)} parameters"
    if record.params_after != record.params_before:
        sizes = f"{record.method} pruned at {record.pruning_rate:.3g}, {sizes} -> {format_count(record.params_after)}"
    return f"{sizes}, loss before pruning {record.loss_before:.4f}"


def _processes(found: Mapping[str, Any]) -> str:
    count = found.get("processes") or 1
    return f"{count} processes" if count > 1 else f"1 process, {found.get('threads')} threads"
