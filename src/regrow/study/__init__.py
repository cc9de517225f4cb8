"""Grids of runs: which cells there are, which are missing, and the engine that runs them."""

from regrow.study.run import StudyResult, missing_cells, run_study
from regrow.study.spec import Cell, StudySpec

__all__ = ["Cell", "StudyResult", "StudySpec", "missing_cells", "run_study"]
