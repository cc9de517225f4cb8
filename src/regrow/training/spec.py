"""What the user asks of a post-training run. Light: a command line can build and check it without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from regrow.errors import InputError, one_of
from regrow.runs.objective import Objective
from regrow.scores.spec import TasksSpec
from regrow.training.schedules import SCHEDULES, rate_factor
from regrow.units import parse_count, read_fields

PRECISIONS = ("auto", "bf16", "fp32")
ATTENTIONS = ("sdpa", "flash", "eager")
PACKINGS = ("cross", "isolated")


#: Fields that may be written as text: `300k`, `3e-4`.
_COUNTS = (
    "tokens", "batch_tokens", "sequence_length", "warmup_tokens", "save_every_tokens", "decay_tokens", "cooldown_tokens"
)  # fmt: skip
_NUMBERS = (
    "learning_rate",
    "weight_decay",
    "max_grad_norm",
    "distill_temperature",
    "distill_mix",
    "lora_alpha",
    "router_loss",
)


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """A post-training run, whatever the model.

    Attributes:
        tokens: tokens to train on; rounded up to whole batches, and recorded at the exact count reached.
        batch_tokens: tokens in one optimizer step; whole blocks.
        sequence_length: tokens in a block.
        learning_rate: AdamW's rate after warm-up.
        schedule: `constant` (every checkpoint is a fair point), `cosine` to zero over `tokens`, or `wsd`: constant,
            then annealed over the last `decay_tokens`.
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
        router_loss: of a mixture of experts, how many times the router's balancing loss is added (Fedus et al. 2021,
            arXiv 2101.03961, as transformers computes it); 0 leaves it out, as transformers does by default.
        decay_tokens: of `wsd`; None for a fifth of `tokens`.
        cooldown_tokens: length of the branch that anneals a copy of the run and reads `loss_cooled` at a milestone: the
            loss of a run that ends there, its last `cooldown_tokens` annealed. 0 for none.
        cooldown_at: token counts of the milestones that get one; empty for all.
        average: weights that `loss_averaged` is read on: `ema:0.99` (exponential, per step), `last:5` (mean over the
            latest five milestones), None for none.
        lora_rank, lora_alpha: train adapters of this rank on every linear layer of the blocks and merge them at the end
            (Hu et al. 2021, arXiv 2106.09685); 0 trains all parameters. `lora_alpha` None: twice the rank.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more work.
        attention: `sdpa` (PyTorch's, which picks a flash kernel by itself where it can), `flash` or `eager`, which
            Gemma-2 takes in place of `sdpa`.
        compile, liger: `torch.compile`, and Liger's kernels.
        packing: `cross`: attention may reach over a document's end into those before it in the block; `isolated`: it
            stays inside each document, in training and in evaluation.
        tasks: benchmarks of lm-eval whose scores are read as well (`regrow.scores`); none by default.
        tasks_at: token counts at which they are read, beside the start and the end; empty for all of `eval_at`.
        task_limit: ask the first so many questions of each; None for all.
        task_shots: examples before each question; None for the task's own number.
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
    router_loss: float = 0.0
    decay_tokens: int | None = None
    cooldown_tokens: int = 0
    cooldown_at: tuple[int, ...] = ()
    average: str | None = None
    lora_rank: int = 0
    lora_alpha: float | None = None
    gradient_checkpointing: bool = False
    attention: str = "sdpa"
    compile: bool = False
    liger: bool = False
    packing: str = "cross"
    tasks: tuple[str, ...] = ()
    tasks_at: tuple[int, ...] = ()
    task_limit: int | None = None
    task_shots: int | None = None

    def __post_init__(self) -> None:
        self._read_text()
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
                hint="use a divisor",
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"learning rate {self.learning_rate}", where="train spec", hint="give a positive number")
        if not 0 <= self.distill_mix <= 1 or self.distill_temperature <= 0:
            raise InputError("distill_mix lies in [0, 1] and distill_temperature above 0", where="train spec")
        if not (math.isfinite(self.router_loss) and self.router_loss >= 0):
            raise InputError(f"router_loss {self.router_loss}", where="train spec", hint="0.001 is usual, 0 is none")
        if any(t < 0 for t in (*self.eval_at, *self.tasks_at)):
            raise InputError("a negative evaluation point", where="train spec", hint="give token counts")
        if self.warmup_tokens < 0 or (self.save_every_tokens or 0) < 0:
            raise InputError("warmup_tokens and save_every_tokens cannot be negative", where="train spec")
        self._check_options()

    def _read_text(self) -> None:
        """Counts, numbers and milestones that are written as text."""
        read_fields(self, counts=_COUNTS, numbers=_NUMBERS, where="train spec")
        for name in ("eval_at", "tasks_at", "cooldown_at"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, parse_eval_at(getattr(self, name), self.tokens))

    def _check_options(self) -> None:
        one_of(self.attention, ATTENTIONS, what="attention", where="train spec")
        one_of(self.packing, PACKINGS, what="packing", where="train spec")
        if self.packing == "isolated" and self.attention == "flash":
            raise InputError(
                "isolated documents with flash attention",
                where="train spec",
                hint="use sdpa: transformers separates packed documents for flash in batches of one block only",
            )
        if self.decay_tokens is not None and not (self.schedule == "wsd" and 0 < self.decay_tokens <= self.tokens):
            raise InputError(
                f"decay_tokens is {self.decay_tokens}", where="train spec", hint="part of the tokens, with schedule wsd"
            )
        if self.cooldown_tokens < 0 or (self.cooldown_tokens and self.schedule != "constant"):
            raise InputError(
                f"cooldown_tokens is {self.cooldown_tokens} with schedule {self.schedule}",
                where="train spec",
                hint="a cool-down branches off a constant rate",
            )
        if 0 < self.cooldown_tokens <= self.batch_tokens:
            raise InputError("a cool-down of one step cools nothing", where="train spec", hint="give it more tokens")
        if self.cooldown_at and not self.cooldown_tokens:
            raise InputError("cooldown_at without cooldown_tokens", where="train spec", hint="say how long it takes")
        if self.lora_rank < 0 or (self.lora_alpha is not None and not (self.lora_rank and self.lora_alpha > 0)):
            raise InputError("lora_rank and lora_alpha must be positive", where="train spec")
        if self.average is not None:
            parse_average(self.average)
        if self.tasks:
            self.tasks_spec()
        elif self.tasks_at or self.task_limit is not None or self.task_shots is not None:
            raise InputError(
                "tasks_at, task_limit or task_shots without tasks", where="train spec", hint="name the tasks"
            )

    def tasks_spec(self, *folders: Path) -> TasksSpec:
        """What is asked of the benchmarks, with the folders of further task files."""
        return TasksSpec(names=self.tasks, limit=self.task_limit, shots=self.task_shots, folders=folders)

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
        asked = (*(self.eval_at or default_milestones(self.tokens)), *self.tasks_at)
        return tuple(sorted(self._steps_of(asked) | {0, self.steps}))

    @property
    def scored_steps(self) -> frozenset[int]:
        """Milestones at which the benchmarks are asked as well; none without tasks."""
        if not self.tasks:
            return frozenset()
        return frozenset(self._steps_of(self.tasks_at) | {0, self.steps} if self.tasks_at else self.milestone_steps)

    def _steps_of(self, tokens: Iterable[int]) -> set[int]:
        """The optimizer steps that reach these token counts; the last step for counts beyond the end of the run."""
        return {min(self.steps, math.ceil(t / self.batch_tokens)) for t in tokens}

    @property
    def cooldowns(self) -> dict[int, int]:
        """Cool-down branches: the step each leaves the run at, and the milestone step it ends at.

        Milestones nearer to the start than a cool-down is long have none.
        """
        steps = self.cooldown_steps
        at = self._steps_of(self.cooldown_at)
        return {m - steps: m for m in self.milestone_steps if steps and m >= steps and (not at or m in at)}

    @property
    def cooldown_steps(self) -> int:
        """Optimizer steps of a cool-down."""
        return math.ceil(self.cooldown_tokens / self.batch_tokens)

    def cooled_down(self, after: int, tokens: int, *, save_every_tokens: int | None = None) -> TrainSpec:
        """The recipe of this run up to its step `after`, annealed from there over `tokens`: what a `wsd` run does.

        Benchmarks are not asked: the cooled model is scored by `regrow eval --tasks`.

        Args:
            after: optimizer steps; the rate must still be the stable one there.
            tokens: rounded up to whole batches.
            save_every_tokens: None for a tenth of `tokens`.

        Raises `InputError` if the rate decays already at that step, or if `tokens` are a single step.
        """
        steps = math.ceil(tokens / self.batch_tokens)
        if steps < 2:
            raise InputError("a cool-down of one step cools nothing", where="cool-down", hint="give it more tokens")
        cooled = replace(
            self,
            tokens=(after + steps) * self.batch_tokens,
            schedule="wsd",
            decay_tokens=steps * self.batch_tokens,
            eval_at=((after + steps) * self.batch_tokens,),
            cooldown_tokens=0,
            cooldown_at=(),
            tasks=(),
            tasks_at=(),
            task_limit=None,
            task_shots=None,
            save_every_tokens=max(self.batch_tokens, tokens // 10) if save_every_tokens is None else save_every_tokens,
        )
        if any(self.rate_at(step) != cooled.rate_at(step) for step in {0, after // 2, after}):
            raise InputError(
                f"the rate of a {self.schedule} run falls before {after * self.batch_tokens} tokens already",
                where="cool-down",
                hint="branch off a constant rate, or off the part of wsd where it is one",
            )
        return cooled

    def rate_at(self, step: int) -> float:
        """The learning rate of optimizer step `step`, counted from 0."""
        tail = self.decay_tokens if self.decay_tokens is not None else self.tokens / 5
        return self.learning_rate * rate_factor(
            self.schedule,
            step,
            steps=self.steps,
            warm_up_steps=round(self.warmup_tokens / self.batch_tokens),
            decay_steps=math.ceil(tail / self.batch_tokens),
        )

    def objective(self, *, distils: bool) -> Objective:
        """What a run of this recipe minimises, with a teacher or without."""
        if not distils:
            return Objective()
        return Objective.distillation(temperature=self.distill_temperature, mix=self.distill_mix)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON gives it back; `from_dict` reads it.

        Options that came after the first release are left out where they have their default: the hash of this is the
        name of a study's cell, and runs that were made before an option existed keep theirs.
        """
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        defaults = {f.name: list(f.default) if isinstance(f.default, tuple) else f.default for f in fields(self)}
        return {k: v for k, v in plain.items() if k not in _LATER or v != defaults[k]}

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


#: Evaluations that a run may ask for.
_MOST_READINGS = 10_000

#: Fields that `to_dict` leaves out at their default.
_LATER = frozenset(
    {
        "router_loss",
        "decay_tokens",
        "cooldown_tokens",
        "cooldown_at",
        "average",
        "lora_rank",
        "lora_alpha",
        "gradient_checkpointing",
        "attention",
        "compile",
        "liger",
        "packing",
        "tasks",
        "tasks_at",
        "task_limit",
        "task_shots",
    }
)


def parse_average(text: str) -> tuple[str, float]:
    """`ema:0.99` -> `("ema", 0.99)`, `last:5` -> `("last", 5.0)`. Raises `InputError` for anything else."""
    kind, _, value = text.partition(":")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not ((kind == "ema" and 0 < number < 1) or (kind == "last" and number >= 1 and number.is_integer())):
        raise InputError(f"{text!r} is not an average", where="--average", hint="write ema:0.99 or last:5")
    return kind, number


def default_milestones(tokens: int, count: int = 10, *, first: float = 1 / 32) -> tuple[int, ...]:
    """`count` token counts, evenly spaced in their logarithm, from the share `first` of `tokens` to all of them."""
    return tuple(round(tokens * first ** (1 - i / (count - 1))) for i in range(count))


def parse_eval_at(text: str, tokens: int) -> tuple[int, ...]:
    """Milestones from `log:10`, `linear:10`, or a list like `10k,50k,1M`.

    Raises `InputError` for anything else.
    """
    kind, _, count = text.partition(":")
    if kind in ("log", "linear"):
        n = parse_count(count or 10, what="--eval-at")
        if n > _MOST_READINGS:
            raise InputError(f"{n:,} evaluations", where="--eval-at", hint=f"ask for at most {_MOST_READINGS:,}")
        if n < 2:
            raise InputError("fewer than two evaluations", where="--eval-at", hint="write log:10 or linear:10")
        return default_milestones(tokens, n) if kind == "log" else tuple(round(tokens * (i + 1) / n) for i in range(n))
    return tuple(parse_count(part, what="--eval-at") for part in text.split(","))
