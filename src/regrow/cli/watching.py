"""A study with its progress bar: what is done is read off the curves on disk."""

from __future__ import annotations

import threading
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from regrow.cli.options import console
from regrow.study import Cell, StudyResult, StudySpec, run_study
from regrow.study.run import tokens_done


def run_watched(spec: StudySpec, out: Path, *, workers: int | None = None) -> StudyResult:
    """Run a study with a progress bar of cells and tokens on stderr; cells that fail are told at once."""
    cells = spec.cells()
    total = sum(cell.train.steps * cell.train.batch_tokens for cell in cells)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(),
        transient=True,
    ) as bar:
        before = tokens_done(spec, out)
        task = bar.add_task(f"0/{len(cells)} runs, tokens", total=total, completed=before, speed="")
        ended = 0
        stop = threading.Event()

        def poll() -> None:
            while not stop.wait(2.0):
                now = tokens_done(spec, out)
                elapsed = bar.tasks[task].elapsed or 0.0
                speed = f"{(now - before) / elapsed:,.0f} tokens/s" if elapsed > 5 and now > before else ""
                bar.update(task, completed=now, speed=speed)

        def on_cell(cell: Cell, error: str | None) -> None:
            nonlocal ended
            ended += 1
            bar.update(task, description=f"{ended}/{len(cells)} runs, tokens")
            if error is not None:
                bar.console.print(f"failed: {cell.name}: {error}", markup=False)

        watcher = threading.Thread(target=poll, daemon=True)
        watcher.start()
        try:
            return run_study(spec, out, workers=workers, on_cell=on_cell)
        finally:
            stop.set()
            watcher.join()
