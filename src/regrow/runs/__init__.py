"""The hinge between the wings: run records on disk, and the tables that laws are fitted to."""

from regrow.runs.archive import read_archive, write_archive
from regrow.runs.record import CONTROL, CurvePoint, RunRecord, spec_hash
from regrow.runs.scores import Score
from regrow.runs.store import RunWriter, read_finished, read_run, read_runs
from regrow.runs.table import from_table, to_table

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
