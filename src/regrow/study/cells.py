"""One cell of a study, and its identity: the hash of everything that affects the result. Light."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regrow.pruning.spec import PruneSpec
from regrow.runs import CONTROL, spec_hash
from regrow.runs.objective import Objective
from regrow.training.spec import TrainSpec


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study: a model, pruned one way or not at all, post-trained once.

    Attributes:
        model: a ladder name, a checkpoint folder, or a name on the Hub.
        family: runs of one family, and so of one objective, are fitted together.
        prune: how the model is pruned; None for the control.
        train: the recipe, with the run's own seed.
        data, held_out: text, as `regrow train` takes it.
        teacher: the model to distil from; None for cross-entropy.
        stages: rates at which the model is pruned and trained before it is pruned to the rate of `prune`, rising; the
            tokens are shared out equally. Empty: it is pruned once.
        fingerprints: of the contents of local files, by their role (`model`, `data`, ...). A changed file is another
            cell.
    """

    model: str
    family: str
    prune: PruneSpec | None
    train: TrainSpec
    data: str
    held_out: str
    teacher: str | None = None
    stages: tuple[float, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> dict[str, Any]:
        """Everything that affects the result, as plain data. Unused settings are left out, so that a new
        setting does not change the hash of older cells."""
        spec: dict[str, Any] = {
            "model": self.model,
            "family": self.family,
            "prune": self.prune.to_dict() if self.prune else None,
            "train": self.train.to_dict(),
            "data": self.data,
            "held_out": self.held_out,
        }
        if self.teacher is not None:
            spec["teacher"] = self.teacher
        if self.stages:
            spec["stages"] = list(self.stages)
        if self.fingerprints:
            spec["fingerprints"] = dict(self.fingerprints)
        return spec

    @property
    def hash(self) -> str:
        """Identity of the cell: a changed spec is another cell."""
        return spec_hash(self.spec)

    @property
    def method(self) -> str:
        return self.prune.method if self.prune else CONTROL

    @property
    def rates(self) -> tuple[float, ...]:
        """The rates asked for, one after the other; empty for a control and for N:M."""
        last = None if self.prune is None else self.prune.rate
        return () if last is None else (*self.stages, last)

    @property
    def objective(self) -> Objective:
        """What the run minimises."""
        return self.train.objective(distils=self.teacher is not None)

    @property
    def name(self) -> str:
        """A readable, unique name: model, method, rate, and the start of the hash."""
        rate = "".join(f"-{rate:g}" for rate in self.rates)
        method = "control" if self.prune is None else self.method.replace(":", "of")
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(self.model).name)
        taught = "" if self.teacher is None else "-distilled"
        return f"{base}-{method}{rate}{taught}-{self.hash[:6]}"
