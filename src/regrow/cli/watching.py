"""A study while it runs: a live table of its cells on a terminal, a line per cell elsewhere.

What is shown is read off the study's folder, so it is the same whichever engine and machine runs the cells.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from regrow.cli.options import console, number
from regrow.cli.tables import fit_table
from regrow.study import Cell, StudyResult, StudySpec, run_study
from regrow.study.cell_plan import CellPlan, run_folder
from regrow.study.engine import Engine
from regrow.study.plan import StudyPlan
from regrow.study.progress import CellState, cell_state
from regrow.units import format_count, format_duration, format_si, plural

#: Seconds between two looks at the folder.
_EVERY = 1.0
#: Seconds between two lines about the study where there is no terminal.
_TELL = 60.0
#: Running cells that such a line names.
_NAMED = 4
_ORDER = ("running", "failed", "stopped", "done", "waiting")


def run_watched(
    spec: StudySpec,
    out: Path,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    show_plan: bool = True,
    records: Sequence[str | Path] = (),
) -> StudyResult:
    """Run a study and show how it stands on stderr; its plan first, cells that fail at once."""
    watch = _Watch(out, console(), show_plan)
    try:
        return run_study(
            spec, out, workers=workers, engine=engine, records=records, on_plan=watch.begin, on_cell=watch.ended
        )
    finally:
        watch.stop()


class _Watch:
    def __init__(self, out: Path, shown: Console, show_plan: bool) -> None:
        self.out = out
        self.console = shown
        self.show_plan = show_plan
        self.cells: list[CellPlan] = []
        self.errors: dict[str, str] = {}
        self.count = 0
        self._began = time.time()
        self._work_before = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, plan: StudyPlan) -> None:
        if self.show_plan:
            for line in [*plan_lines(plan), recipe_line(plan)]:
                self.console.print(line, markup=False, soft_wrap=True)
        self.cells = [cell for cell in plan.chosen if cell.state != "recorded"]
        self._began = time.time()
        self._work_before = self._work_done(self._states())
        if plan.to_run:
            draw = self._draw if self.console.is_terminal else self._tell
            self._thread = threading.Thread(target=draw, daemon=True)
            self._thread.start()

    def ended(self, cell: Cell, error: str | None) -> None:
        self.count += 1
        if error is not None:
            self.errors[cell.name] = error
        if not self.console.is_terminal or error is not None:
            state = cell_state(cell, run_folder(cell, self.out))
            outcome, then = f"failed: {error}", ""
            asked = sum(not c.finished for c in self.cells)
            if error is None:
                outcome = f"loss {number(state.loss, '.4f')}, {_speed(state)}"
                left = self._seconds_left(self._states())
                then = f", {format_duration(left)} left" if left and self.count < asked else ""
            self.console.print(f"{self.count}/{asked} {cell.name}: {outcome}{then}", markup=False, soft_wrap=True)

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _draw(self) -> None:
        with Live(console=self.console, transient=True, refresh_per_second=2) as live:
            while True:
                live.update(self._table())
                if self._stop.wait(_EVERY):
                    return

    def _tell(self) -> None:
        while not self._stop.wait(_TELL):
            self.console.print(self._line(), markup=False, soft_wrap=True)

    def _line(self) -> str:
        """How the study stands, in one line."""
        states = self._states()
        running = [state for state in states if state.state == "running" and state.name not in self.errors]
        named = [f"{s.name} {s.tokens / s.total:.0%}, held-out loss {number(s.loss, '.4f')}" for s in running[:_NAMED]]
        more = [f"{len(running) - _NAMED} more"] if len(running) > _NAMED else []
        return "; ".join([self._title(states), *named, *more])

    def _title(self, states: list[CellState]) -> str:
        """Counts of cells, speed and time left."""
        shown = self._shown(states)
        counts = ", ".join(f"{n} {k}" for k in _ORDER if (n := sum(v == k for v in shown.values())))
        speed = sum(s.tokens_per_second or 0.0 for s in states if s.state == "running")
        left = self._seconds_left(states)
        return f"{counts}; {format_count(speed)} tokens/s" + (f", {format_duration(left)} left" if left else "")

    def _shown(self, states: list[CellState]) -> dict[str, str]:
        """The state of each cell by its name."""
        return {s.name: "failed" if s.name in self.errors else s.state for s in states}

    def _states(self) -> list[CellState]:
        return [cell_state(c.cell, run_folder(c.cell, self.out), since=self._began) for c in self.cells]

    def _work_done(self, states: list[CellState]) -> float:
        return sum(c.work * s.tokens / s.total for c, s in zip(self.cells, states, strict=True))

    def _seconds_left(self, states: list[CellState]) -> float | None:
        """Of the study, at the pace since it was started."""
        done = self._work_done(states)
        pace = (done - self._work_before) / max(time.time() - self._began, 1e-9)
        return (sum(c.work for c in self.cells) - done) / pace if pace > 0 else None

    def _table(self) -> Text:
        states = self._states()
        shown, title = self._shown(states), self._title(states)
        room = max(3, self.console.height - 4)
        ordered = sorted(states, key=lambda s: _ORDER.index(shown[s.name]))
        rows = [
            [
                state.name,
                shown[state.name],
                f"{format_count(state.tokens)}/{format_count(state.total)}",
                number(state.loss, ".4f"),
                "-" if state.tokens_per_second is None else format_count(state.tokens_per_second),
                "-" if state.seconds_left is None else format_duration(state.seconds_left),
            ]
            for state in ordered[:room]
        ]
        columns = ["cell", "state", "tokens", "loss", "tokens/s", "left"]
        table = fit_table(columns, rows, self.console.width, spare=["tokens/s", "left"])
        more = [f"and {len(ordered) - room} more"] if len(ordered) > room else []
        return Text("\n".join([title, *table.lines, *more]), no_wrap=True, overflow="ellipsis")


def plan_lines(plan: StudyPlan) -> list[str]:
    """The plan's totals in words."""
    todo = plan.to_run
    flops, seconds = plan.flops_left, plan.seconds_left
    stopped = sum(cell.state == "stopped" for cell in todo)
    recorded = sum(cell.state == "recorded" for cell in plan.cells)
    lines = [
        f"{plural(len(plan.cells), 'cell')}, {len(todo)} to run"
        + (f" ({stopped} go on from where they stopped)" if stopped else "")
        + (f", {recorded} finished in the records given" if recorded else "")
        + f": {format_count(plan.tokens_left)} tokens, "
        + ("FLOPs not known before the models are loaded" if flops is None else format_si(flops, "FLOP"))
    ]
    if todo and seconds is not None:
        many = f"on {plan.workers} worker{'s' if plan.workers != 1 else ''}, " if plan.workers else ""
        lines.append(f"about {format_duration(seconds)} {many}{plan.timing}")
    if plan.disk is not None:
        free = "" if plan.disk_free is None else f", {format_si(plan.disk_free, 'B')} free"
        lines.append(f"about {format_si(plan.disk, 'B')} on disk when all are done{free}")
    if plan.budget:
        lines.append(plan.budget)
    return [*lines, *(f"warning: {warning}" for warning in plan.warnings())]


def recipe_line(plan: StudyPlan) -> str:
    """The recipe that the cells share, in one line."""
    recipes = list(dict.fromkeys(replace(row.cell.train, seed=0) for row in plan.chosen))
    if len(recipes) != 1:
        return f"{len(recipes)} recipes, as the study file has them"
    (spec,) = recipes
    return (
        f"each: {spec.steps * spec.batch_tokens:,} tokens in steps of {spec.batch_tokens:,} (blocks of "
        f"{spec.sequence_length:,}), learning rate {spec.learning_rate:.3g}, {spec.schedule}, warm-up of "
        f"{spec.warmup_tokens:,} tokens, precision {spec.precision}, {len(spec.milestone_steps)} held-out readings"
    )


def _speed(state: CellState) -> str:
    speed = state.tokens_per_second
    return "-" if speed is None else f"{format_count(speed)} tokens/s"
