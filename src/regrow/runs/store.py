"""Runs on disk: a folder each, appended to while the run lives.

`run.json` says what was asked and what is known, `curve.jsonl` holds one line per evaluation, `checkpoints/` the
weights, and `DONE` is written last. Appends are flushed to the disk before the run goes on; a line torn by a crash is
dropped and reported, never fatal, and never hides other runs. `regrow.runs.check` proves a folder whole.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regrow.disk import append_line, make_folder, write_json, write_text
from regrow.errors import InputError, RegrowError, RunFailed
from regrow.reading import MALFORMED, check_format, parse_json, read_text, repeated
from regrow.runs.archive import SUFFIX, read_archive
from regrow.runs.record import SCORES_ONLY, CurvePoint, RunRecord, Runs

if TYPE_CHECKING:
    import pandas as pd

#: Of run.json; a file without a number is of the first.
FORMAT = 1
RUN_FILE = "run.json"
CURVE_FILE = "curve.jsonl"
DONE_FILE = "DONE"
#: Beside `runs/`, what a study asks for.
STUDY_FILE = "study.json"
#: What a checkpoint keeps a copy of, and the name of the copy.
COPIES = {RUN_FILE: "regrow_run.json", CURVE_FILE: "regrow_curve.jsonl"}
#: Lies in a folder of runs while they are imported, and says of how many.
IMPORTING_FILE = ".importing"


class RunWarning(UserWarning):
    """Something about a stored run that the reader should know and that does not stop the work."""


class RunWriter:
    """Writes one run folder. Use `open` to start a run or to go on with one that has the same spec."""

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self.folder = folder
        self._record = record

    @classmethod
    def open(cls, folder: Path, record: RunRecord, *, resume: bool = False) -> RunWriter:
        """Start a run folder for `record`; with `resume`, keep the curve of a run of the same spec.

        Raises `InputError` if the folder holds a run of another spec, or (without `resume`) any run.
        """
        make_folder(folder)
        if (folder / RUN_FILE).exists():
            earlier = read_run(folder)
            if earlier.hash != record.hash:
                raise InputError(
                    f"holds a run of another spec ({earlier.hash}, not {record.hash})",
                    where=str(folder),
                    hint="choose another --out",
                )
            if not resume:
                raise InputError("holds a run already", where=str(folder), hint="go on with --resume, or choose --out")
            record = replace(record, curve=earlier.curve)
        writer = cls(folder, record)
        writer._rewrite_curve()
        writer.update(status="running")
        return writer

    @classmethod
    def store(cls, folder: Path, record: RunRecord) -> None:
        """Write a run that is whole already, an imported one, say. One that was cut short is written again.

        Raises `InputError` if the folder holds another run.
        """
        make_folder(folder)
        if holds_other(folder, record):
            raise InputError("holds a run already", where=str(folder), hint="choose another --out")
        writer = cls(folder, record)
        writer._rewrite_curve()
        writer.update()
        writer._mark_done()

    @property
    def record(self) -> RunRecord:
        """The run as written so far."""
        return self._record

    def update(self, **changes: Any) -> None:
        """Change fields of `run.json`, atomically."""
        self._record = replace(self._record, **changes)
        content = {"format": FORMAT, **self._record.to_dict(), "hash": self._record.hash}
        self._guard(lambda: write_json(self.folder / RUN_FILE, content))

    def append(self, point: CurvePoint) -> None:
        """Add one evaluation; it is on the disk when this returns."""
        self._guard(lambda: append_line(self.folder / CURVE_FILE, _line(point)))
        self._record = replace(self._record, curve=(*self._record.curve, point))

    def rewind(self, tokens: int) -> None:
        """Drop evaluations beyond `tokens`: a resumed run goes back to its last whole checkpoint."""
        self._record = replace(self._record, curve=tuple(p for p in self._record.curve if p.tokens <= tokens))
        self._rewrite_curve()

    def finish(self, **changes: Any) -> RunRecord:
        """Mark the run as done; `DONE` is the last thing written."""
        self.update(status="done", **changes)
        self._mark_done()
        return self._record

    def _mark_done(self) -> None:
        self._guard(lambda: write_text(self.folder / DONE_FILE, self._record.hash + "\n"))

    def _rewrite_curve(self) -> None:
        text = "".join(_line(point) for point in self._record.curve)
        self._guard(lambda: write_text(self.folder / CURVE_FILE, text))

    def _guard(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            raise RunFailed(
                f"can't write the run ({error.strerror or error})",
                where=str(self.folder),
                hint="what is on disk is whole: free space or permissions, then run again with --resume",
            ) from error


def _line(point: CurvePoint) -> str:
    return json.dumps(point.to_dict()) + "\n"


def holds_other(folder: Path, record: RunRecord) -> bool:
    """Whether the folder holds a run that is not `record`, as far as the record of it goes."""
    if not (folder / RUN_FILE).exists():
        return False
    try:
        there = read_run(folder)
    except InputError:
        return True
    asked = json.loads(json.dumps(record.to_dict(), default=str))
    return (json.loads(json.dumps(there.to_dict(), default=str)), there.curve) != (asked, record.curve)


def is_done(folder: Path, *, spec_hash: str | None = None) -> bool:
    """Whether the folder holds a finished run (of this spec, if its hash is given)."""
    try:
        marker = (folder / DONE_FILE).read_text().strip()
    except OSError:
        return False
    return spec_hash is None or marker == spec_hash


def read_run(folder: Path) -> RunRecord:
    """Read a run folder, finished or not. A torn last line of the curve is dropped with a `RunWarning`.

    Raises `InputError` if `run.json` is missing or not a run's.
    """
    path = folder / RUN_FILE
    try:
        content = parse_json(read_text(path))
        check_format(content.get("format", FORMAT), FORMAT, where=str(path))
        return RunRecord.from_dict(content, _read_curve(folder))
    except FileNotFoundError:
        raise InputError("no run here", where=str(folder), hint="a run folder holds run.json") from None
    except (OSError, *MALFORMED) as error:
        raise InputError(f"not a run record ({error})", where=str(path), hint=_restoring(folder)) from None


def _restoring(folder: Path) -> str:
    """How a record that is damaged can be had again. Without it the run would begin anew and lose its readings."""
    copies = folder.glob(f"checkpoints/*/{COPIES[RUN_FILE]}")
    last = max(copies, key=lambda path: path.stat().st_mtime_ns, default=None)
    return "restore it from a backup, or choose another --out" if last is None else f"copy {last} over it"


def _read_curve(folder: Path) -> Iterator[CurvePoint]:
    path = folder / CURVE_FILE
    lines = read_text(path).splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            yield CurvePoint(**parse_json(line))
        except (RegrowError, *MALFORMED):
            if number != len(lines):
                raise InputError(
                    f"line {number} is not an evaluation", where=str(path), hint="mend or remove it"
                ) from None
            warnings.warn(f"{path}: a torn last line was dropped", RunWarning, stacklevel=2)


def read_runs(*paths: str | Path | pd.DataFrame, need_loss: bool = True) -> Runs:
    """Read every run of study folders, run folders, archives (`.jsonl`) and tables (CSV, Parquet or a data frame), in a
    stable order.

    A broken run inside a study folder is reported as a `RunWarning` and left out; a path that holds no run at all, or
    two runs with one name, raise `InputError`.

    Args:
        need_loss: whether a run that has benchmark scores and no losses raises `InputError`.
    """
    runs = Runs()
    for path in paths:
        runs += _read_any(path)
    names = [run.run for run in runs]
    twice = repeated(names)
    if twice is not None:
        raise InputError(f"two runs are called {twice!r}", where=_name(paths[-1]), hint="give each run its own name")
    return Runs(with_losses(runs)) if need_loss else runs


def _read_any(source: str | Path | pd.DataFrame) -> list[RunRecord]:
    if not isinstance(source, str | Path):
        from regrow.runs.table import from_table

        return from_table(source)
    path = Path(source)
    return _read_folder(path) if path.is_dir() else _read_file(path)


def _name(source: str | Path | pd.DataFrame) -> str:
    return str(source) if isinstance(source, str | Path) else "table"


def with_losses(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """The runs with their checkpoints that have a loss.

    Raises `InputError` for a run without losses, as those of which benchmark scores alone were published.
    """
    out = []
    for run in runs:
        if not run.has_losses:
            raise InputError("no losses are known", where=f"run {run.run}", hint=SCORES_ONLY)
        every = all(point.loss is not None for point in run.curve)
        out.append(run if every else replace(run, curve=tuple(p for p in run.curve if p.loss is not None)))
    return out


def study_cells(root: Path) -> dict[str, str]:
    """Name -> hash of the cells that a study's own file lists; empty without one."""
    try:
        cells = json.loads((root / STUDY_FILE).read_text())["cells"]
        return {str(cell["name"]): str(cell["hash"]) for cell in cells}
    except (FileNotFoundError, NotADirectoryError):  # a table lists no cells
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"not a study's list of cells ({error})",
            where=str(root / STUDY_FILE),
            hint="run the study again: it is written anew",
        ) from None


def read_finished(*paths: str | Path, need_loss: bool = True) -> Runs:
    """Read runs as `read_runs` does, less what a law should not be fitted to: runs that are still going, and runs of a
    study's folder that the study asked for once and no longer does.

    A `RunWarning` says how many are left out. Raises `InputError` if no run has finished yet. `need_loss` is
    that of `read_runs`.
    """
    runs = read_runs(*paths, need_loss=need_loss)
    going = {run.run for run in runs if run.status == "running"}
    if len(going) == len(runs):
        what = "the one run has not finished" if len(runs) == 1 else f"none of the {len(runs)} runs has finished"
        raise InputError(what, where=str(paths[0]), hint="`regrow runs list` shows it")
    if going:
        warnings.warn(f"left out, not finished: {len(going)} of {len(runs)} runs", RunWarning, stacklevel=2)
    for path in map(Path, paths):
        cells = study_cells(path)
        old = {found.parent.name for found in path.rglob(RUN_FILE)} - cells.keys() if cells else set()
        if old:
            text = f"left out, no cells of the study as it is now: {len(old)} of {len(runs)} runs in {path}"
            warnings.warn(text, RunWarning, stacklevel=2)
        going |= old
    return Runs(run for run in runs if run.run not in going)


def _read_folder(folder: Path) -> list[RunRecord]:
    if (folder / RUN_FILE).exists():
        return [read_run(folder)]
    runs = []
    for found in sorted(folder.rglob(RUN_FILE)):
        try:
            runs.append(read_run(found.parent))
        except InputError as error:
            _left_out(error)
    if (folder / IMPORTING_FILE).exists():
        text = f"{folder}: an import was cut short, so runs may be missing; the same `regrow import` goes on with it"
        warnings.warn(text, RunWarning, stacklevel=3)
    if not runs:
        raise InputError("no runs in this folder", where=str(folder), hint="give a study folder, a run or a table")
    return runs


def _left_out(error: InputError) -> None:
    warnings.warn(f"left out: {error}", RunWarning, stacklevel=3)


def _read_file(path: Path) -> list[RunRecord]:
    from regrow.runs.table import from_table, read_table

    if not path.exists():
        raise InputError("no such file or folder", where=str(path), hint="give a study folder, a run or a table")
    if path.suffix == SUFFIX:
        return read_archive(path, on_broken=_left_out)
    return from_table(read_table(path), where=str(path))
