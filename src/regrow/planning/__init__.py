"""From a fitted law to a decision: how many tokens, at what loss, for how much. Needs numpy only."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from regrow.planning.answer import Plan
from regrow.planning.cost import DEFAULT_MFU, GPUS, Gpu, cost_usd, find_gpu, flops_per_token, gpu_hours
from regrow.planning.criteria import Budget, Criterion, Gain, Recovery, Slope, Target, criterion_from
from regrow.planning.plan import plan
from regrow.planning.plan_spec import PlanSpec
from regrow.planning.score_criteria import ScoreGain, ScoreRecovery, ScoreTarget

if TYPE_CHECKING:
    from regrow.planning.design_model import DesignModel
    from regrow.planning.frontier import Candidate, CompareSpec, Comparison, compare
    from regrow.planning.study_design import DesignSpec, StudyDesign
    from regrow.planning.trends import Trend, check_trends
    from regrow.planning.utilisation import measured_mfu

#: What a single plan does not need is imported on first use, so that `regrow plan` starts without it.
_HOME_OF = {
    "Candidate": "frontier",
    "CompareSpec": "frontier",
    "Comparison": "frontier",
    "DesignModel": "study_design",
    "DesignSpec": "study_design",
    "StudyDesign": "study_design",
    "Trend": "trends",
    "check_trends": "trends",
    "compare": "frontier",
    "measured_mfu": "utilisation",
}

__all__ = [
    "DEFAULT_MFU",
    "GPUS",
    "Budget",
    "Candidate",
    "CompareSpec",
    "Comparison",
    "Criterion",
    "DesignModel",
    "DesignSpec",
    "Gain",
    "Gpu",
    "Plan",
    "PlanSpec",
    "Recovery",
    "ScoreGain",
    "ScoreRecovery",
    "ScoreTarget",
    "Slope",
    "StudyDesign",
    "Target",
    "Trend",
    "check_trends",
    "compare",
    "cost_usd",
    "criterion_from",
    "find_gpu",
    "flops_per_token",
    "gpu_hours",
    "measured_mfu",
    "plan",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
