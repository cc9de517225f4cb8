"""From a fitted law to a decision: how many tokens, at what loss, for how much. Needs numpy only."""

from regrow.planning.cost import DEFAULT_MFU, GPUS, Gpu, cost_usd, find_gpu, flops_per_token, gpu_hours
from regrow.planning.criteria import Budget, Criterion, Gain, Recovery, Slope, Target, criterion_from
from regrow.planning.plan import Plan, PlanSpec, plan

__all__ = [
    "DEFAULT_MFU",
    "GPUS",
    "Budget",
    "Criterion",
    "Gain",
    "Gpu",
    "Plan",
    "PlanSpec",
    "Recovery",
    "Slope",
    "Target",
    "cost_usd",
    "criterion_from",
    "find_gpu",
    "flops_per_token",
    "gpu_hours",
    "plan",
]
