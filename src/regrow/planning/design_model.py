"""A model that the design of a study may prune, or that it is asked about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regrow.arch import Architecture, find_architecture
from regrow.errors import InputError
from regrow.units import format_count, parse_count, read_fields


@dataclass(frozen=True, kw_only=True)
class DesignModel:
    """A model to prune: its size or its architecture; its name and its losses (nats/token) where known.

    `loss_pruned` is the loss right after pruning at the rate asked about: only the target has one.
    """

    params_before: float | None = None
    architecture: Architecture | None = None
    loss_before: float | None = None
    loss_pruned: float | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.architecture, str):
            object.__setattr__(self, "name", self.name or self.architecture)
            object.__setattr__(self, "architecture", find_architecture(self.architecture))
        read_fields(self, counts=("params_before",), numbers=("loss_before", "loss_pruned"), where="design model")
        if (self.params_before is None) == (self.architecture is None):
            raise InputError("a candidate needs one size", hint="give either its parameters or its architecture")
        if not (np.isfinite(self.size) and self.size >= 1):
            raise InputError(f"a candidate of {self.size:g} parameters", hint="give a positive count, e.g. 1B")
        for loss in (self.loss_before, self.loss_pruned):
            if loss is not None and not (np.isfinite(loss) and loss > 0):
                raise InputError(f"a candidate's loss of {loss:g}", hint="give nats per token")

    @classmethod
    def of(cls, model: DesignModel | str | float) -> DesignModel:
        """A model by its name (`Llama-3.2-1B`) or its parameters (`1B`). Raises `InputError` for what is neither."""
        if isinstance(model, DesignModel):
            return model
        if not isinstance(model, str):
            return cls(params_before=model)
        try:
            return cls(params_before=parse_count(model))
        except InputError:
            return cls(architecture=model)  # type: ignore[arg-type]

    @property
    def size(self) -> float:
        """Parameters before pruning."""
        return float(self.architecture.params if self.architecture is not None else self.params_before or 0.0)

    @property
    def label(self) -> str:
        return self.name or format_count(self.size)
