"""Logs that people already have, as run records: `import_log` for one run, `import_manifest` for many.

Each format has a module that turns a file or folder into a `History`, a table with a row per log call. From there one
path applies to all: which rows are of one run (`identity`), which column is the held-out loss (`names`), what a row
counts in tokens (`counts`, `tools`), what a counter that goes back means (`order`), and the unit of the loss (`units`).
"""

from regrow.runs.importers.manifest import import_manifest
from regrow.runs.importers.read import import_log, runs_in
from regrow.runs.importers.registry import FORMATS
from regrow.runs.importers.spec import RESETS, UNITS, ImportSpec

__all__ = ["FORMATS", "RESETS", "UNITS", "ImportSpec", "import_log", "import_manifest", "runs_in"]
