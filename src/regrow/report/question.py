"""What a report is asked: the question of a plan, of which the runs answer what is left open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.footprint import MemoryTarget
from regrow.planning.cost import DEFAULT_MFU
from regrow.planning.criteria import Budget, Criterion, Gain
from regrow.planning.plan_spec import PlanSpec
from regrow.planning.stages import check_rising
from regrow.units import check_rate

if TYPE_CHECKING:
    from regrow.planning.scratch import ScratchCurve

#: Fields of a `PlanSpec` that a question passes on as they are.
_OF_PLAN = (
    *("model", "sizes", "memory", "active_params", "loss_pruned", "criterion", "gpu", "mfu", "mfu_how", "teacher"),
    *("price_usd_per_hour", "context", "level", "others"),
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a report is asked. A field that is None is taken from the runs.

    Attributes:
        params_before, architecture: the model, by its parameters or its shape; else a size among the family's runs.
        pruning_rates: rates to plan for; else a rate of that size's runs, or the middle of the law's.
        loss_before: held-out loss of the unpruned model, nats/token; else that of the runs of this size.
        family, method, scores: plan with the laws of these only; `scores` are benchmarks.
        score_before, score_pruned: of a law of scores, the scores of the parent and right after pruning, fractions;
            without both, those of the runs of this size.
        model, sizes, memory, active_params, loss_pruned, criterion, gpu, mfu, mfu_how, teacher, price_usd_per_hour,
            context, level, others: as in `PlanSpec`.
        compare: whether to compare methods and rates; None where there are two candidates or more.
        compared: what else to compare by, as fields of `CompareSpec`: `rates`, `params_after`, `served_tokens`,
            `sparse_speedup`, `serving_mfu`.
        stages: instead of rates to plan for, rates that rise: one step to the last is compared with pruning and
            training in turns.
        stage_tokens: of all turns together; else those of each plan.
        scratch: the loss of training from scratch that each plan is compared with.
    """

    params_before: float | None = None
    architecture: Architecture | None = None
    pruning_rates: tuple[float, ...] = ()
    loss_before: float | None = None
    family: str | None = None
    method: str | None = None
    scores: tuple[str, ...] = ()
    score_before: float | None = None
    score_pruned: float | None = None
    model: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    memory: MemoryTarget | None = None
    active_params: float | None = None
    loss_pruned: float | None = None
    criterion: Criterion | Budget = field(default_factory=Gain)
    gpu: str = "h100"
    mfu: float = DEFAULT_MFU
    mfu_how: str | None = None
    teacher: Architecture | float | None = None
    price_usd_per_hour: float | None = None
    context: int = 4096
    level: float = 0.9
    others: Mapping[str, float] = field(default_factory=dict)
    compare: bool | None = None
    compared: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[float, ...] = ()
    stage_tokens: float | None = None
    scratch: ScratchCurve | None = None

    def __post_init__(self) -> None:
        if self.params_before is not None and self.architecture is not None:
            raise InputError("a model by name and by size", where="report", hint="give one of them")
        for rate in self.pruning_rates:
            check_rate(rate, where="report")
        targets = bool(self.sizes) or self.memory is not None or self.active_params is not None
        if self.pruning_rates and targets:
            what = "a rate beside a shape, a memory target or parameters of a token"
            raise InputError(what, where="report", hint="give one of them")
        if self.stages:
            check_rising(self.stages)
            if self.pruning_rates or targets:
                hint = "the stages make the rate: give one of them"
                raise InputError("stages beside a rate or another target", where="report", hint=hint)
        elif self.stage_tokens is not None:
            raise InputError("tokens of stages without stages", where="report", hint="give the rates of the stages")
        if self.compare is False and self.compared:
            named = ", ".join(self.compared)
            raise InputError(f"{named} without a comparison", where="report", hint="leave it out, or compare")
        # refuse at once what no runs can make right
        self.base(size=self.params_before or 1e9, loss_before=self.loss_before or 1.0)

    @property
    def rates(self) -> tuple[float, ...]:
        """The rates to plan for: those given, or the last of the stages."""
        return self.stages[-1:] or self.pruning_rates

    @property
    def scored(self) -> bool:
        """Whether scores are given, or benchmarks are named."""
        return bool(self.scores) or self.score_before is not None or self.score_pruned is not None

    @property
    def asked(self) -> bool:
        """Whether the user named the model, a rate or a score. Then a missing answer is an error; otherwise it is a
        note."""
        return bool(self.params_before or self.architecture or self.rates or self.scored)

    @property
    def compares(self) -> bool:
        """Whether the user asked for a comparison. Then it is an error if there is nothing to compare."""
        return bool(self.compare or self.compared)

    def base(self, *, size: float, loss_before: float | None) -> PlanSpec:
        """The plan to make, without a rate; `size` counts where no shape is known."""
        return PlanSpec(
            params_before=None if self.architecture is not None else size,
            architecture=self.architecture,
            loss_before=loss_before,
            **{name: getattr(self, name) for name in _OF_PLAN},
        )
