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
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, Literal, Self

from regrow.errors import InputError, printable
from regrow.html_table import html_table
from regrow.runs.scores import Score, plain_scores, read_scores
from regrow.runs.stages import Stage, plain_stages, read_stages
from regrow.units import format_count, plural

#: The method of an unpruned control: trained on the same tokens, so that the baseline's own drift is known.
CONTROL = "none"


#: No language model's loss in nats per token is near this; a perplexity easily is.
LARGEST_LOSS = 50.0
#: Characters of the longest name, and the most parameters and tokens that a record may speak of.
_LONGEST_NAME, _MOST = 1000, 1e18

#: what to do with runs of which scores were read, and no losses
SCORES_ONLY = "the run has benchmark scores only: `regrow fit --score NAME` fits those"

Status = Literal["running", "done", "failed", "imported"]


def spec_hash(spec: Mapping[str, Any]) -> str:
    """Identity of what was asked: SHA-256 (16 hex digits) of the spec as canonical JSON."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_name(name: object, *, what: str, where: str | None = None) -> str:
    """`name` if it is a text without control characters, else `InputError`."""
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or printable(name) != name:
        raise InputError(f"the {what} is {str(name)[:60]!r}", where=where, hint="give a name of printable characters")
    return name


def check_folder_name(name: str, *, what: str = "run", where: str | None = None) -> str:
    """`name` if a folder can be called so, else `InputError`: a name is no path, and hides nothing."""
    check_name(name, what=what, where=where)
    if name.startswith(".") or any(mark in name for mark in "/\n\r\t") or "\\" in name or len(name.encode()) > 200:
        raise InputError(
            f"the {what} {name[:60]!r} can't be the name of a folder",
            where=where,
            hint="leave out slashes, and a full stop at the beginning",
        )
    return name


def check_number(value: object, *, what: str, where: str, missing: bool = False) -> None:
    """Raise `InputError` unless `value` is a number (not a truth value), or None where it may be `missing`."""
    # NaN and infinity may stand: they are what a run that went wrong has read
    if (value is None and missing) or isinstance(value, float):
        return
    if isinstance(value, Real) and not isinstance(value, bool) and abs(value) <= _MOST:  # type: ignore[operator]
        return
    raise InputError(f"{what} is {str(value)[:40]!r}", where=where, hint="give a number")


def _needed(loss: float | None, where: str) -> float:
    """A loss that is known, else `InputError`."""
    if loss is None:
        raise InputError("no loss", where=where, hint=SCORES_ONLY)
    return loss


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One evaluation. `tokens` may be 0: the loss right after pruning. What is not known is None, never 0.

    Attributes:
        tokens: trained on.
        loss: held-out, nats/token, of the weights as they are; None where only scores were read.
        train_loss: mean over the batches since the point before.
        lr: learning rate of the next step.
        seconds: spent training, evaluations left out.
        loss_averaged: held-out loss of averaged weights, where the run keeps them.
        loss_cooled: held-out loss of a run of so many tokens that ends annealed, where a branch measured it.
        scores: benchmark scores by name, of the weights as they are; plain data is taken as well.
    """

    tokens: int
    loss: float | None = None
    train_loss: float | None = None
    lr: float | None = None
    seconds: float | None = None
    loss_averaged: float | None = None
    loss_cooled: float | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.tokens, bool) or not isinstance(self.tokens, Integral) or int(self.tokens) > _MOST:
            raise InputError(f"tokens are {str(self.tokens)[:40]}", where="curve", hint="give a whole number")
        object.__setattr__(self, "scores", read_scores(self.scores))
        for name in ("loss", "train_loss", "lr", "seconds", "loss_averaged", "loss_cooled"):
            check_number(getattr(self, name), what=name, where="curve", missing=name != "loss" or bool(self.scores))
        if self.tokens < 0:
            raise InputError(f"{self.tokens} tokens", where="curve", hint="tokens trained on cannot be negative")

    @property
    def known_loss(self) -> float:
        """The held-out loss, nats/token. Raises `InputError` where only scores were read."""
        return _needed(self.loss, f"the reading at {self.tokens} tokens")

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
        loss_before: held-out loss of the unpruned model, nats/token (L0); None for a run that has scores only.
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
        stages: of a run that prunes and trains in turns, each turn; plain data is taken as well. The curve then has the
            reading before the next pruning at the tokens where it was done.
    """

    run: str
    family: str
    method: str
    params_before: int
    params_after: int
    pruning_rate: float
    loss_before: float | None = None
    loss_pruned: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    status: Status = "done"
    seed: int | None = None
    objective: str | None = None
    schedule: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    scores_before: Mapping[str, Score] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores_before", read_scores(self.scores_before))
        object.__setattr__(self, "stages", read_stages(self.stages))
        for name in ("run", "family", "method"):
            check_name(getattr(self, name), what=name)
        for name in ("params_before", "params_after"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not abs(value) <= _MOST:  # type: ignore[operator]
                raise InputError(f"{name} is {str(value)[:40]}", where=f"run {self.run}", hint="give a whole number")
        for name in ("pruning_rate", "loss_before", "loss_pruned"):
            missing = name == "loss_pruned" or (name == "loss_before" and self.has_scores)
            check_number(getattr(self, name), what=name, where=f"run {self.run}", missing=missing)
        if not 0 < self.params_after <= self.params_before:
            raise InputError(
                f"{self.params_after} parameters after pruning and {self.params_before} before",
                where=f"run {self.run}",
                hint="after must be positive and not above before",
            )
        if not 0 <= self.pruning_rate < 1:
            raise InputError(f"pruning rate {self.pruning_rate}", where=f"run {self.run}", hint="it lies in [0, 1)")
        if self.loss_before is not None and not (math.isfinite(self.loss_before) and self.loss_before > 0):
            raise InputError(f"loss_before is {self.loss_before}", where=f"run {self.run}", hint="give nats/token")
        if self.loss_pruned is not None and not (math.isfinite(self.loss_pruned) and self.loss_pruned > 0):
            raise InputError(f"loss_pruned is {self.loss_pruned}", where=f"run {self.run}", hint="give nats/token")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], curve: Iterable[CurvePoint]) -> Self:
        """A record from plain data as it was stored; what a newer version has added is left out.

        Raises `TypeError` if something needed is missing, `InputError` for values that no run has.
        """
        known = {f.name for f in fields(cls)} - {"curve"}
        values: dict[str, Any] = {name: value for name, value in content.items() if name in known}
        for name in ("spec", "details", "scores_before"):
            if not isinstance(values.get(name, {}), Mapping):
                raise TypeError(f"{name} is not an object")
        record = cls(**values, curve=tuple(curve))
        record.check_losses()
        return record

    def check_losses(self) -> None:
        """Raise `InputError` for a loss that can't be nats/token, or checkpoints that are not in order."""
        named = [("loss_before", self.loss_before), ("loss_pruned", self.loss_pruned)]
        named += [(f"the loss at {p.tokens} tokens", p.loss) for p in self.curve]
        for what, loss in named:
            if loss is not None and not 0 < loss <= LARGEST_LOSS:
                raise InputError(
                    f"{what} is {loss:g}",
                    where=f"run {self.run}",
                    hint="losses are in nats per token: take the logarithm of a perplexity, multiply bits by 0.6931",
                )
        twice = next((two.tokens for one, two in pairwise(self.curve) if two.tokens <= one.tokens), None)
        if twice is not None:
            raise InputError(
                f"the checkpoints are not in the order of their tokens (at {twice})", where=f"run {self.run}"
            )

    def to_dict(self) -> dict[str, Any]:
        """All but the curve, as plain data that `from_dict` reads."""
        own = ("curve", "scores_before", "stages")
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        plain |= {"scores_before": plain_scores(self.scores_before)} if self.scores_before else {}
        return plain | ({"stages": plain_stages(self.stages)} if self.stages else {})

    def _repr_html_(self) -> str:
        """For a notebook: the curve, with what the run is above it."""
        gaps = [None if p.loss is None or self.loss_before is None else p.loss - self.loss_before for p in self.curve]
        rows = [
            (f"{p.tokens:,}", "-" if p.loss is None else f"{p.loss:.4f}", "-" if gap is None else f"{gap:+.4f}")
            for p, gap in zip(self.curve, gaps, strict=True)
        ]
        return html_table(("tokens", "loss", "gap"), rows, title=str(self))

    def __str__(self) -> str:
        """One line: what it is, how far it came, where it stands."""
        pruned = "unpruned" if self.is_control else f"{self.method} at {self.pruning_rate:.3g}"
        if self.stages:
            pruned = f"{self.method} at {', then '.join(f'{stage.pruning_rate:.3g}' for stage in self.stages)}"
        ends = "no evaluation yet"
        if self.curve:
            first, last = self.curve[0], self.curve[-1]
            ends = f"{_shown(first)} at {first.tokens:,}, {_shown(last)} at {last.tokens:,} tokens"
        sizes = f"{format_count(self.params_before)} -> {format_count(self.params_after)}"
        before = "" if self.loss_before is None else f" ({self.loss_before:.3f} before)"
        return f"{self.run}: {pruned}, {sizes}; {ends}{before}; {self.status}"

    @property
    def known_loss_before(self) -> float:
        """The loss of the unpruned model, nats/token. Raises `InputError` for a run that has scores only."""
        return _needed(self.loss_before, f"run {self.run}")

    @property
    def has_scores(self) -> bool:
        """Whether a benchmark was read of it."""
        return any(point.scores for point in self.curve)

    @property
    def has_losses(self) -> bool:
        """Whether it has losses: that of the unpruned model, and at some checkpoint if it has any."""
        read = not self.curve or any(point.loss is not None for point in self.curve)
        return self.loss_before is not None and read

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


class Runs(list[RunRecord]):
    """Run records: a list that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        def loss(value: float | None) -> str:
            return "-" if value is None else f"{value:.3f}"

        rows = [
            (run.run, run.method, format_count(run.params_before), format_count(run.params_after),
             f"{run.pruning_rate:.3f}", format_count(run.curve[-1].tokens) if run.curve else "-", loss(run.loss_before),
             loss(run.curve[-1].loss if run.curve else None), run.status)
            for run in self
        ]  # fmt: skip
        columns = ("run", "method", "before", "after", "rate", "tokens", "L0", "loss", "status")
        return html_table(columns, rows, title=plural(len(self), "run"))


def _shown(point: CurvePoint) -> str:
    """A reading in a few words."""
    return f"loss {point.loss:.3f}" if point.loss is not None else f"{len(point.scores)} scores"
