"""What a log does not say of its run: the specification that the command line and Python both build."""

from __future__ import annotations

from dataclasses import dataclass

from regrow.errors import InputError, one_of
from regrow.units import read_fields

#: Units a loss can be logged in, with what each takes to become nats per token.
UNITS = ("nats", "bits", "perplexity", "bits-per-byte")
#: What a step counter that goes back means: the run was resumed there, or another part of it counts from its own start.
RESETS = ("resume", "continue")


@dataclass(frozen=True, kw_only=True)
class ImportSpec:
    """What to make of one run's logs.

    Attributes:
        run, family, method: names; `method` is `none` for an unpruned control.
        params_before, params_after: parameters before and after pruning (N:M: the non-zero ones).
        loss_before: held-out loss of the unpruned model on the same text, nats/token, whatever the log's unit;
            needed but for results of lm-eval alone, which have scores and no losses.
        format: one of `FORMATS`; None: recognised by content.
        unit: unit of the log's loss, one of `UNITS`; None: nats, refused where the log looks otherwise.
        bytes_per_token: of the held-out text, for bits per byte.
        tokens_per_step: tokens in one optimizer step, where the log counts steps only.
        sequence_length: tokens in one sample, where the log counts samples.
        loss_column, tokens_column, step_column: where the log calls them otherwise.
        where: `COLUMN=VALUE` each: which rows of a table are this run's. A column named twice takes both values.
        step_offset: added to the log's step to get the optimizer steps done, 1 where it counts from 0; None: as the
            tool is known to count.
        accumulation_steps: the log's training loss is a sum over so many batches, and is divided by it.
        train_loss: take the training loss; the record says so and a warning is given.
        resets: `resume` (what was logged beyond the point that the counter goes back to is dropped) or `continue`
            (the counts of the next part are added to those of the one before).
        pruning_rate: where it is not 1 - after/before.
        scores_before: the unpruned model's scores: a `results_*.json` of lm-eval, or a folder with it.
        seed, objective, schedule: kept in the record.
    """

    run: str
    family: str
    method: str
    params_before: int
    params_after: int
    loss_before: float | None = None
    format: str | None = None
    unit: str | None = None
    bytes_per_token: float | None = None
    tokens_per_step: int | None = None
    sequence_length: int | None = None
    loss_column: str | None = None
    tokens_column: str | None = None
    step_column: str | None = None
    where: tuple[str, ...] = ()
    step_offset: int | None = None
    accumulation_steps: int | None = None
    train_loss: bool = False
    resets: str = "resume"
    pruning_rate: float | None = None
    scores_before: str | None = None
    seed: int | None = None
    objective: str | None = None
    schedule: str | None = None

    @property
    def known_loss_before(self) -> float:
        """The unpruned model's loss, nats/token. Raises `InputError` without it."""
        if self.loss_before is None:
            raise InputError("--loss-before missing", hint="a log does not say it")
        return self.loss_before

    def __post_init__(self) -> None:
        counts = ("params_before", "params_after", "tokens_per_step", "sequence_length")
        read_fields(self, counts=counts, numbers=("loss_before", "bytes_per_token", "pruning_rate"), where="import")
        if self.unit is not None:
            one_of(self.unit, UNITS, what="unit", where="--unit")
        one_of(self.resets, RESETS, what="meaning of a reset", where="--resets")
        if (self.unit == "bits-per-byte") != (self.bytes_per_token is not None):
            raise InputError(
                "bits per byte become nats per token by the bytes in a token",
                where="--bytes-per-token",
                hint="give both --unit bits-per-byte and --bytes-per-token, e.g. 4.2",
            )
        if self.bytes_per_token is not None and not 0 < self.bytes_per_token < 1000:
            raise InputError(f"{self.bytes_per_token:g} bytes in a token", where="--bytes-per-token")
        if self.train_loss and self.loss_column is not None:
            raise InputError("--train-loss and --loss-column both name the loss", hint="give one of them")
        for condition in self.where:
            if not condition.partition("=")[2].strip():
                raise InputError(f"{condition!r} names no value", where="--where", hint="write COLUMN=VALUE")
        for name in ("tokens_per_step", "sequence_length", "accumulation_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}", hint="give a positive number")
