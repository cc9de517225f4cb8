"""Grids of runs: which cells there are, which are missing, and the engines that run them."""

from regrow.study.budget import StudyBudget
from regrow.study.cells import Cell
from regrow.study.run import StudyResult, missing_cells, run_study
from regrow.study.spec import StudySpec

__all__ = ["Cell", "StudyBudget", "StudyResult", "StudySpec", "missing_cells", "run_study"]
