"""What a plan is asked: the model, how it is pruned, when to stop, and what an hour of a GPU costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from regrow.errors import InputError
from regrow.laws.setting import Setting
from regrow.planning.cost import DEFAULT_MFU, check_mfu, cost_usd, find_gpu, teacher_size
from regrow.planning.criteria import Budget, Criterion, Gain, Recovery
from regrow.runs.record import LARGEST_LOSS
from regrow.units import check_context, check_level, check_rate, parse_count, read_fields

if TYPE_CHECKING:
    from regrow.arch import Architecture
    from regrow.footprint import MemoryTarget


@dataclass(frozen=True, kw_only=True)
class PlanSpec:
    """What to plan for.

    Attributes:
        params_before: parameters before pruning, a number or text such as "8B"; or give `architecture`, whose exact
            FLOPs are then used.
        architecture: the shape of the model before pruning, or its name ("Llama-3.1-8B") or folder. Depth, width and
            N:M pruning are then planned as a study does them: at the rate that whole blocks, or channels in the rule's
            proportions, reach.
        model: what the model is called; the architecture's name where it was given as one.
        pruning_rate: fraction of the parameters removed; may be None for N:M sparsity.
        sizes: instead of a rate, the sizes to leave of `architecture`: `layers` for depth, any of `hidden`,
            `intermediate` and `kv_heads` for width.
        memory: instead of a rate, what the pruned model may take where it is served; needs `architecture`.
        active_params: instead of a rate, of a mixture of experts, the parameters to leave that a token is computed
            with, a number or text such as "2B"; needs `architecture`.
        loss_before: held-out loss of the unpruned model, nats/token, on the evaluation data of the law's runs.
        loss_pruned: held-out loss right after pruning, nats/token; for laws that read it.
        score_before, score_pruned: in the place of the two losses, for a law of scores: the parent's score and that of
            the pruned model before any training, fractions.
        others: values of other columns that the law's form reads, by name.
        criterion: when to stop.
        gpu: name in the GPU table.
        mfu: share of the GPU's peak that training reaches.
        mfu_how: where that share comes from, in words; None for the default or a user's own figure.
        teacher: a model to distil from, by its shape, its name or its parameters; its forward pass is counted.
        price_usd_per_hour: price of a GPU-hour; without it there is no cost.
        context: tokens per training sequence, for the FLOPs of attention.
        level: coverage of the intervals.
    """

    loss_before: float | None = None
    params_before: float | str | None = None
    architecture: Architecture | str | None = None
    model: str | None = None
    pruning_rate: float | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    memory: MemoryTarget | None = None
    active_params: float | str | None = None
    loss_pruned: float | None = None
    score_before: float | None = None
    score_pruned: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    criterion: Criterion | Budget = field(default_factory=Gain)
    gpu: str = "h100"
    mfu: float = DEFAULT_MFU
    mfu_how: str | None = None
    teacher: Architecture | float | str | None = None
    price_usd_per_hour: float | None = None
    context: int = 4096
    level: float = 0.9

    def __post_init__(self) -> None:
        self._read_names()
        numbers = ("pruning_rate", "loss_before", "loss_pruned", "mfu", "price_usd_per_hour", "level")
        read_fields(self, counts=("params_before", "active_params", "context"), numbers=numbers, where="plan")
        if (self.params_before is None) == (self.architecture is None):
            raise InputError("a plan needs one model", hint="give either its parameters or its architecture")
        if not (np.isfinite(self.size) and self.size >= 1):
            raise InputError(f"{self.size:g} parameters before pruning", hint="give a positive count, e.g. 8B")
        if self.sizes and self.pruning_rate is not None:
            raise InputError("a rate and a shape", where="plan", hint="the shape makes the rate: give one of them")
        if self.sizes and self.architecture is None:
            raise InputError("a shape without a model", where="plan", hint="name the model, or give a rate instead")
        if self.memory is not None:
            self._check_only_target("a memory target")
        if self.active_params is not None:
            self._check_only_target("parameters of a token")
        if self.pruning_rate is not None:
            check_rate(self.pruning_rate)
        for value, what in ((self.loss_before, "before pruning"), (self.loss_pruned, "right after pruning")):
            if value is not None and not 0 < value <= LARGEST_LOSS:
                hint = "give nats per token: take the logarithm of a perplexity"
                raise InputError(f"a loss {what} of {value:g}", hint=hint)
        check_level(self.level, where="plan")
        check_context(self.context, where="plan")
        if self.teacher is not None:
            teacher_size(self.taught_by)  # type: ignore[arg-type]
        check_mfu(self.mfu)
        find_gpu(self.gpu)
        cost_usd(None, price_usd_per_hour=self.price_usd_per_hour)
        if isinstance(self.criterion, Budget) and self.criterion.usd is not None and not self.price_usd_per_hour:
            raise InputError("a budget in USD needs the price of a GPU-hour", hint="give a price above 0")

    def _check_only_target(self, what: str) -> None:
        """Raise `InputError` for a target that makes the rate beside another one, or without a shape to measure."""
        others = {"a shape": self.sizes, "a rate": self.pruning_rate, "a memory target": self.memory}
        other = next((name for name, value in others.items() if value and name != what), None)
        if other is not None:
            raise InputError(f"{other} and {what}", where="plan", hint="each makes the rate: give one of them")
        if self.architecture is None:
            raise InputError(f"{what} without a model", where="plan", hint="name the model: its shape is needed")

    @property
    def sets_rate(self) -> bool:
        """Whether a target other than a rate makes the rate: sizes, memory, or the parameters of a token."""
        return bool(self.sizes) or self.memory is not None or self.active_params is not None

    def _read_names(self) -> None:
        """Text in the place of a count or a shape becomes one. Raises `InputError` for what is neither."""
        read: dict[str, object] = {}
        if isinstance(self.params_before, str):
            read["params_before"] = float(parse_count(self.params_before, what="params_before"))
        if isinstance(self.architecture, str):
            from regrow.arch import find_architecture  # a size alone starts without the catalogue

            read["architecture"] = find_architecture(self.architecture)
            read["model"] = self.model or self.architecture
            if self.memory is not None:
                read["memory"] = self.memory.for_model(self.architecture)
        if isinstance(self.teacher, str):
            read["teacher"] = model_or_params(self.teacher)
        for name, value in read.items():
            object.__setattr__(self, name, value)

    @property
    def known_loss_before(self) -> float:
        """The loss of the unpruned model, nats/token. Raises `InputError` without it."""
        if self.loss_before is None:
            raise InputError("no loss before pruning", where="plan", hint="give --loss-before, nats/token")
        return self.loss_before

    @property
    def shape(self) -> Architecture | None:
        """The shape before pruning, where it is known."""
        return cast("Architecture | None", self.architecture)

    @property
    def taught_by(self) -> Architecture | float | None:
        """The teacher's shape or parameters."""
        return cast("Architecture | float | None", self.teacher)

    @property
    def least_active(self) -> float | None:
        """`active_params` as a number."""
        return cast("float | None", self.active_params)

    @property
    def size(self) -> float:
        """Parameters before pruning."""
        return float(self.shape.params if self.shape is not None else self.params_before or 0.0)

    def setting(self, pruning_rate: float) -> Setting:
        """Where a law is read, at the rate that pruning reaches; without tokens."""
        pruned = self.loss_pruned
        if pruned is None and isinstance(self.criterion, Recovery):
            pruned = self.criterion.loss_pruned
        return Setting(
            params_before=self.size,
            pruning_rate=pruning_rate,
            loss_before=self.loss_before,
            loss_pruned=pruned,
            **self.others,
        )


def model_or_params(text: str) -> Architecture | float:
    """A count such as 8B, or the architecture of a model's name or folder. Raises `InputError` for neither."""
    from regrow.arch import find_architecture

    try:
        return float(parse_count(text))
    except InputError:
        return find_architecture(text)
