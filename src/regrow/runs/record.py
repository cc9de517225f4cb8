"""A run: one model, pruned one way, post-trained once, and the held-out losses read on the way.

The record is what the heavy wing writes and the light wing reads. Losses are in nats per token, tokens are
post-training tokens trained on, times are seconds.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from regrow.errors import InputError
from regrow.runs.scores import Score, plain_scores, read_scores
from regrow.units import format_count

#: The method of an unpruned control: trained on the same tokens, so that the baseline's own drift is known.
CONTROL = "none"


Status = Literal["running", "done", "failed", "imported"]


def spec_hash(spec: Mapping[str, Any]) -> str:
    """Identity of what was asked: SHA-256 (16 hex digits) of the spec as canonical JSON."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One evaluation. `tokens` may be 0: the loss right after pruning. What is not known is None, never 0.

    Attributes:
        tokens: trained on.
        loss: held-out, nats/token, of the weights as they are.
        train_loss: mean over the batches since the point before.
        lr: learning rate of the next step.
        seconds: spent training, evaluations left out.
        loss_averaged: held-out loss of averaged weights, where the run keeps them.
        loss_cooled: held-out loss of a run of so many tokens that ends annealed, where a branch measured it.
        scores: benchmark scores by name, of the weights as they are; plain data is taken as well.
    """

    tokens: int
    loss: float
    train_loss: float | None = None
    lr: float | None = None
    seconds: float | None = None
    loss_averaged: float | None = None
    loss_cooled: float | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise InputError(f"{self.tokens} tokens", where="curve", hint="tokens trained on cannot be negative")
        object.__setattr__(self, "scores", read_scores(self.scores))

    def to_dict(self) -> dict[str, Any]:
        """What is known of it, as plain data."""
        known = {name: value for name, value in vars(self).items() if value is not None and name != "scores"}
        return known | ({"scores": plain_scores(self.scores)} if self.scores else {})


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything the laws need of a run, and what it takes to trust and repeat it.

    Attributes:
        run: name, unique within a study.
        family: model family; laws are fitted per family and method.
        method: `depth`, `width`, `2:4`, ..., or `none` for an unpruned control.
        params_before: parameters before pruning (N0).
        params_after: parameters after pruning (N1; non-zero ones for N:M sparsity).
        pruning_rate: rho, a fraction; 1 - N1/N0.
        loss_before: held-out loss of the unpruned model, nats/token (L0).
        loss_pruned: held-out loss right after pruning, nats/token, where it is known but no evaluation at 0 tokens.
        curve: evaluations in the order of their tokens.
        spec: what was asked, as plain data; `hash` identifies it.
        status: `running`, `done`, `failed` or `imported`.
        seed: the run's own data seed.
        objective: `cross-entropy`, or what a distillation used.
        schedule: learning-rate schedule, e.g. `constant`.
        details: data and tokenizer fingerprints, versions, hardware, throughput; kept, not used by laws. `tasks` says
            how the scores of each benchmark were measured.
        scores_before: benchmark scores of the unpruned model, by name; plain data is taken as well.
    """

    run: str
    family: str
    method: str
    params_before: int
    params_after: int
    pruning_rate: float
    loss_before: float
    loss_pruned: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    status: Status = "done"
    seed: int | None = None
    objective: str | None = None
    schedule: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    scores_before: Mapping[str, Score] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores_before", read_scores(self.scores_before))
        if not 0 < self.params_after <= self.params_before:
            raise InputError(
                f"{self.params_after} parameters after pruning and {self.params_before} before",
                where=f"run {self.run}",
                hint="after must be positive and not above before",
            )
        if not 0 <= self.pruning_rate < 1:
            raise InputError(f"pruning rate {self.pruning_rate}", where=f"run {self.run}", hint="it lies in [0, 1)")
        if not (math.isfinite(self.loss_before) and self.loss_before > 0):
            raise InputError(f"loss_before is {self.loss_before}", where=f"run {self.run}", hint="give nats/token")
        if self.loss_pruned is not None and not (math.isfinite(self.loss_pruned) and self.loss_pruned > 0):
            raise InputError(f"loss_pruned is {self.loss_pruned}", where=f"run {self.run}", hint="give nats/token")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], curve: Iterable[CurvePoint]) -> Self:
        """A record from plain data as it was stored; what a newer version has added is left out.

        Raises `TypeError` if something needed is missing, `InputError` for values that no run has.
        """
        known = {f.name for f in fields(cls)} - {"curve"}
        return cls(**{name: value for name, value in content.items() if name in known}, curve=tuple(curve))

    def to_dict(self) -> dict[str, Any]:
        """All but the curve, as plain data that `from_dict` reads."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("curve", "scores_before")}
        return plain | ({"scores_before": plain_scores(self.scores_before)} if self.scores_before else {})

    def __str__(self) -> str:
        """One line: what it is, how far it came, where it stands."""
        pruned = "unpruned" if self.is_control else f"{self.method} at {self.pruning_rate:.3g}"
        ends = "no evaluation yet"
        if self.curve:
            first, last = self.curve[0], self.curve[-1]
            ends = f"loss {first.loss:.3f} at {first.tokens:,}, {last.loss:.3f} at {last.tokens:,} tokens"
        sizes = f"{format_count(self.params_before)} -> {format_count(self.params_after)}"
        return f"{self.run}: {pruned}, {sizes}; {ends} ({self.loss_before:.3f} before); {self.status}"

    @property
    def is_control(self) -> bool:
        """Whether this is an unpruned model trained on the same tokens."""
        return self.method == CONTROL

    @property
    def start_loss(self) -> float | None:
        """The held-out loss right after pruning, nats/token: the evaluation at 0 tokens, or `loss_pruned`."""
        first = next((point.loss for point in self.curve if point.tokens == 0), None)
        return self.loss_pruned if first is None else first

    @property
    def hash(self) -> str:
        return spec_hash(self.spec)
