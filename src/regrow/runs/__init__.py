"""The hinge between the wings: run records on disk, and the tables that laws are fitted to.

The names are imported on first use: a command that reads no runs starts without what reads them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regrow.runs.archive import read_archive, write_archive
    from regrow.runs.record import CONTROL, CurvePoint, RunRecord, spec_hash
    from regrow.runs.scores import Score
    from regrow.runs.store import RunWriter, read_finished, read_run, read_runs
    from regrow.runs.table import from_table, to_table

_HOMES = {
    "archive": ("read_archive", "write_archive"),
    "record": ("CONTROL", "CurvePoint", "RunRecord", "spec_hash"),
    "scores": ("Score",),
    "store": ("RunWriter", "read_finished", "read_run", "read_runs"),
    "table": ("from_table", "to_table"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CONTROL",
    "CurvePoint",
    "RunRecord",
    "RunWriter",
    "Score",
    "from_table",
    "read_archive",
    "read_finished",
    "read_run",
    "read_runs",
    "spec_hash",
    "to_table",
    "write_archive",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
