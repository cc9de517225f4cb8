"""regrow: prune a language model, regrow it, and know how many tokens it will take before you pay for them.

The public names are imported on first use, so that `import regrow` is light and only what needs torch loads it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regrow.arch import Architecture, find_architecture
    from regrow.errors import InputError, RegrowError, RunFailed
    from regrow.footprint import MemoryTarget
    from regrow.laws import Law, Prediction, fit, load_laws, save_laws, select_law, validate
    from regrow.planning import CompareSpec, Comparison, Plan, PlanSpec, compare, plan
    from regrow.planning.design import DesignModel, DesignSpec, StudyDesign, design
    from regrow.pruning.held_out import measure_pruned
    from regrow.pruning.joint import prune_jointly
    from regrow.pruning.joint_spec import JointSpec
    from regrow.pruning.prune import prune
    from regrow.pruning.spec import PruneSpec
    from regrow.report import (
        show_collapse,
        show_comparison,
        show_controls,
        show_curves,
        show_residuals,
        write_report,
    )
    from regrow.runs import RunRecord, from_table, read_runs, to_table
    from regrow.runs.importers import ImportSpec, import_log, import_manifest
    from regrow.study import StudySpec, run_study
    from regrow.training.branch import cool_down
    from regrow.training.forecast import RecoveryForecast
    from regrow.training.post_train import post_train
    from regrow.training.spec import TrainSpec

__version__ = "0.1.0"

_HOMES = {
    "regrow.arch": ("Architecture", "find_architecture"),
    "regrow.errors": ("InputError", "RegrowError", "RunFailed"),
    "regrow.footprint": ("MemoryTarget",),
    "regrow.laws": ("Law", "Prediction", "fit", "load_laws", "save_laws", "select_law", "validate"),
    "regrow.planning.design": ("DesignModel", "DesignSpec", "StudyDesign", "design"),
    "regrow.planning": ("CompareSpec", "Comparison", "Plan", "PlanSpec", "compare", "plan"),
    "regrow.pruning.held_out": ("measure_pruned",),
    "regrow.pruning.joint": ("prune_jointly",),
    "regrow.pruning.joint_spec": ("JointSpec",),
    "regrow.pruning.prune": ("prune",),
    "regrow.pruning.spec": ("PruneSpec",),
    "regrow.report": (
        "show_collapse",
        "show_comparison",
        "show_controls",
        "show_curves",
        "show_residuals",
        "write_report",
    ),
    "regrow.runs": ("RunRecord", "from_table", "read_runs", "to_table"),
    "regrow.runs.importers": ("ImportSpec", "import_log", "import_manifest"),
    "regrow.study": ("StudySpec", "run_study"),
    "regrow.training.branch": ("cool_down",),
    "regrow.training.forecast": ("RecoveryForecast",),
    "regrow.training.post_train": ("post_train",),
    "regrow.training.spec": ("TrainSpec",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Architecture",
    "CompareSpec",
    "Comparison",
    "DesignModel",
    "DesignSpec",
    "ImportSpec",
    "InputError",
    "JointSpec",
    "Law",
    "MemoryTarget",
    "Plan",
    "PlanSpec",
    "Prediction",
    "PruneSpec",
    "RecoveryForecast",
    "RegrowError",
    "RunFailed",
    "RunRecord",
    "StudyDesign",
    "StudySpec",
    "TrainSpec",
    "compare",
    "cool_down",
    "design",
    "find_architecture",
    "fit",
    "from_table",
    "import_log",
    "import_manifest",
    "load_laws",
    "measure_pruned",
    "plan",
    "post_train",
    "prune",
    "prune_jointly",
    "read_runs",
    "run_study",
    "save_laws",
    "select_law",
    "show_collapse",
    "show_comparison",
    "show_controls",
    "show_curves",
    "show_residuals",
    "to_table",
    "validate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'regrow' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
