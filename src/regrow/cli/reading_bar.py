"""A bar on stderr while held-out text is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from regrow.cli.options import console


@contextmanager
def reading_bar(total: int, what: str = "held-out text") -> Iterator[Callable[[int], None]]:
    """A bar of `total` tokens, gone at the end; call what it gives with the tokens read since the last call."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=console(),
        transient=True,
    ) as bar:
        task = bar.add_task(f"reading {what}", total=total)
        yield lambda tokens: bar.advance(task, tokens)
