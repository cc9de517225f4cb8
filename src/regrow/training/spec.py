"""What the user asks of a post-training run. Light: a command line can build and check it without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from regrow.errors import InputError, one_of

SCHEDULES = ("constant", "cosine")
PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """A post-training run, whatever the model.

    Attributes:
        tokens: tokens to train on; rounded up to whole batches, and recorded at the exact count reached.
        batch_tokens: tokens in one optimizer step; whole blocks.
        sequence_length: tokens in a block.
        learning_rate: AdamW's rate after warm-up.
        schedule: `constant` (every checkpoint is a fair point) or `cosine` to zero over `tokens`.
        warmup_tokens: linear warm-up.
        eval_at: token counts at which the held-out loss is read; empty for `default_milestones`.
        held_out_blocks: blocks of held-out text in every evaluation.
        seed: of the run's own data order.
        precision: `bf16` (autocast over fp32 weights), `fp32`, or `auto`: bf16 where the hardware multiplies in it
            natively, else fp32; the run's record says which.
        micro_batch_blocks: blocks in one forward pass; the rest of a batch is accumulated. None: a whole batch.
        save_every_tokens: how often a checkpoint is written; 0 for the end only, None for every milestone.
        distill_temperature, distill_mix: used with a teacher: loss = mix * T^2 * KL(teacher || student at T) +
            (1 - mix) * cross-entropy (Hinton et al. 2015, arXiv 1503.02531).
    """

    tokens: int
    batch_tokens: int = 2048
    sequence_length: int = 256
    learning_rate: float = 3e-4
    schedule: str = "constant"
    warmup_tokens: int = 0
    eval_at: tuple[int, ...] = ()
    held_out_blocks: int = 64
    seed: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    precision: str = "auto"
    micro_batch_blocks: int | None = None
    save_every_tokens: int | None = None
    distill_temperature: float = 1.0
    distill_mix: float = 1.0

    def __post_init__(self) -> None:
        one_of(self.schedule, SCHEDULES, what="schedule", where="train spec")
        one_of(self.precision, PRECISIONS, what="precision", where="train spec")
        for name in ("tokens", "batch_tokens", "sequence_length", "held_out_blocks"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}", where="train spec", hint="it must be at least 1")
        if self.batch_tokens % self.sequence_length:
            raise InputError(
                f"a batch of {self.batch_tokens} tokens is not whole blocks of {self.sequence_length}",
                where="train spec",
                hint=f"use a multiple of {self.sequence_length}",
            )
        if self.micro_batch_blocks is not None and (
            self.micro_batch_blocks < 1 or self.batch_blocks % self.micro_batch_blocks
        ):
            raise InputError(
                f"{self.batch_blocks} blocks a batch do not divide into micro-batches of {self.micro_batch_blocks}",
                where="train spec",
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"learning rate {self.learning_rate}", where="train spec", hint="give a positive number")
        if not 0 <= self.distill_mix <= 1 or self.distill_temperature <= 0:
            raise InputError("distill_mix lies in [0, 1] and distill_temperature above 0", where="train spec")
        if any(t < 0 for t in self.eval_at):
            raise InputError("a negative evaluation point", where="train spec", hint="give token counts")
        if self.warmup_tokens < 0 or (self.save_every_tokens or 0) < 0:
            raise InputError("warmup_tokens and save_every_tokens cannot be negative", where="train spec")

    @property
    def batch_blocks(self) -> int:
        """Blocks in one optimizer step."""
        return self.batch_tokens // self.sequence_length

    @property
    def steps(self) -> int:
        """Optimizer steps: `tokens`, rounded up to whole batches."""
        return math.ceil(self.tokens / self.batch_tokens)

    @property
    def milestone_steps(self) -> tuple[int, ...]:
        """Optimizer steps after which the held-out loss is read; always 0 (right after pruning) and the last."""
        asked = self.eval_at or default_milestones(self.tokens)
        steps = {min(self.steps, math.ceil(t / self.batch_tokens)) for t in asked}
        return tuple(sorted(steps | {0, self.steps}))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON gives it back; `from_dict` reads it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], *, where: str = "train spec") -> TrainSpec:
        """Read plain data. Raises `InputError` for an unknown key, with the nearest known one."""
        known = [f.name for f in fields(cls)]
        for key in content:
            one_of(key, known, what="key", where=where)
        listed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        try:
            return cls(**listed)
        except TypeError as error:
            raise InputError(str(error).replace("TrainSpec.__init__() ", ""), where=where) from None


def default_milestones(tokens: int, count: int = 10, *, first: float = 1 / 32) -> tuple[int, ...]:
    """`count` token counts, evenly spaced in their logarithm, from the share `first` of `tokens` to all of them."""
    return tuple(round(tokens * first ** (1 - i / (count - 1))) for i in range(count))


def parse_eval_at(text: str, tokens: int) -> tuple[int, ...]:
    """Milestones from `log:10`, `linear:10`, or a list like `10k,50k,1M`.

    Raises `InputError` for anything else.
    """
    from regrow.units import parse_count

    kind, _, count = text.partition(":")
    if kind in ("log", "linear"):
        n = parse_count(count or 10, what="--eval-at")
        if n < 2:
            raise InputError("fewer than two evaluations", where="--eval-at", hint="write log:10 or linear:10")
        return default_milestones(tokens, n) if kind == "log" else tuple(round(tokens * (i + 1) / n) for i in range(n))
    return tuple(parse_count(part, what="--eval-at") for part in text.split(","))
