"""What a law is asked about: columns by name, such as parameters before pruning, pruning rate and tokens.

A `Column` says what one input is: its name, how sentences call it, which values are possible, and where a run record
has it. A `Setting` holds the values of some columns. Run records become settings (`regrow.laws.observations`), forms
are evaluated on them (`regrow.laws.forms`), and plans and reports ask laws with them. A form lists the columns that it
reads; nothing else has to list them. numpy only, so that it imports fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regrow.errors import InputError
from regrow.laws.controls import recipe_of
from regrow.runs.record import LARGEST_LOSS
from regrow.units import format_count, parse_count

if TYPE_CHECKING:
    from regrow.runs.record import RunRecord

#: values closer than this ratio count as one: embeddings shift a nominal rate a little between sizes
_SAME = 1.02


@dataclass(frozen=True, kw_only=True)
class Column:
    """One input of a law.

    Attributes:
        name: of the column in tables, of the keyword in Python.
        spoken: how sentences call it.
        designed: whether the design of a study sets it, as it sets sizes and rates, and the answer is read at one value
            of it. Predictions are less certain outside the fitted values of such a column, and a law fitted at one
            value of it supports no other.
        is_count: written as 3.1M, not as 3.1e+06.
        below: values are below this; infinity itself is allowed only if `endless`.
        hint: what to do about a value that is not possible.
        of: reads it from a run record: one number, or one per checkpoint. None for the field of that name, or the
            value of that name in the record's details, where tables keep columns of their own.
    """

    name: str
    spoken: str
    designed: bool = False
    is_count: bool = False
    below: float = np.inf
    endless: bool = False
    hint: str = "give a positive number"
    of: Callable[[RunRecord], Any] | None = None

    def say(self, value: float) -> str:
        """A value in words."""
        return format_count(value) if self.is_count else f"{value:.3g}"

    def read(self, record: RunRecord) -> np.ndarray:
        """The values at the checkpoints of a run, [n]; NaN where they are not known.

        Raises `InputError` for a value that is not a number.
        """
        if self.of is not None:
            value = self.of(record)
        else:
            value = getattr(record, self.name, None)
            value = record.details.get(self.name) if value is None else value
        try:
            numbers = np.asarray(np.nan if value is None else value, dtype=float)
        except (TypeError, ValueError):
            raise InputError(
                f"{self.name} is {value!r}", where=f"run {record.run}", hint="give a number, or leave it empty"
            ) from None
        return np.broadcast_to(numbers, len(record.curve))

    def is_possible(self, values: np.ndarray, *, zero: bool) -> bool:
        """Whether all these values are possible; `zero` says whether 0 is."""
        fine = (values >= 0) if zero else (values > 0)
        fine &= (values < self.below) | (np.isposinf(values) & self.endless)
        return bool(np.all(fine))


def _warmup(record: RunRecord) -> Any:
    recipe = record.spec.get("train")
    known = recipe.get("warmup_tokens") if isinstance(recipe, Mapping) else None
    return record.details.get("warmup_tokens") if known is None else known


#: scorers that solve the weights that stay again, so that part of the damage is mended before any training
REFITTING = ("sparsegpt", "least-squares")


def _refitted(record: RunRecord) -> Any:
    known = record.details.get("refitted")
    if known is not None:
        return known
    recipe = record.spec.get("prune")
    scorer = recipe.get("scorer") if isinstance(recipe, Mapping) else record.details.get("scorer")
    return None if scorer is None else float(scorer in REFITTING)


PARAMS_BEFORE = Column(
    name="params_before",
    spoken="model size",
    designed=True,
    is_count=True,
    hint="give the parameters before pruning",
)
PRUNING_RATE = Column(
    name="pruning_rate", spoken="pruning rate", designed=True, below=1.0, hint="it lies between 0 and 1"
)
TOKENS = Column(
    name="tokens",
    spoken="number of tokens",
    is_count=True,
    endless=True,
    hint="give the tokens trained on",
    of=lambda record: [float(point.tokens) for point in record.curve],
)
LOSS_BEFORE = Column(
    name="loss_before",
    spoken="loss before pruning",
    below=LARGEST_LOSS,
    hint="give nats/token: take the logarithm of a perplexity",
)
LOSS_PRUNED = Column(
    name="loss_pruned", spoken="loss right after pruning", hint="give nats/token", of=lambda record: record.start_loss
)
WARMUP_TOKENS = Column(
    name="warmup_tokens", spoken="number of tokens of the warm-up", is_count=True, hint="give tokens, or 0", of=_warmup
)
REFITTED = Column(
    name="refitted",
    spoken="refitting of weights",
    hint="give 1 where the weights were solved again, or 0",
    of=_refitted,
)
LEARNING_RATE = Column(
    name="learning_rate",
    spoken="learning rate",
    hint="give the peak of the schedule, e.g. 1e-4",
    of=lambda record: recipe_of(record).learning_rate,
)
BATCH_TOKENS = Column(
    name="batch_tokens",
    spoken="number of tokens of a batch",
    is_count=True,
    hint="give the tokens of one optimizer step, e.g. 1M",
    of=lambda record: recipe_of(record).batch_tokens,
)

#: what every run record has
BASIC = (PARAMS_BEFORE, PRUNING_RATE, TOKENS, LOSS_BEFORE)
#: counts that may be written as text
_WRITTEN = (PARAMS_BEFORE.name, TOKENS.name, WARMUP_TOKENS.name)
BASIC_NAMES = tuple(column.name for column in BASIC)


class Reference(dict[str, float]):
    """What a form divides each column by, so that 1e9 parameters and 1e12 tokens stay well conditioned.

    A column without an entry is divided by 1: it is in natural units.
    """

    def __missing__(self, name: str) -> float:
        return 1.0


def _read(name: str, value: Any) -> Any:
    """A count that is written as text (`8B`) as a number; anything else as it is."""
    return parse_count(value, what=name) if isinstance(value, str) and name in _WRITTEN else value


class Setting:
    """Values of columns, by name, broadcast against each other.

    `x.tokens` and `x["tokens"]` are arrays of the shape of the setting. Values are in natural units; `x.log("tokens")`
    is relative to `ref`. A value of None is left out, as if it were not given.

    Args:
        ref: what logarithms are relative to.
        columns: numbers or arrays by name.

    Raises `InputError` for values that are not numbers, or shapes that do not fit each other.
    """

    def __init__(self, ref: Mapping[str, float] | None = None, /, **columns: Any) -> None:
        given = {name: _read(name, value) for name, value in columns.items() if value is not None}
        try:
            arrays = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in given.values()))
        except (TypeError, ValueError) as wrong:
            raise InputError(f"{', '.join(given)}: {wrong}", where="setting", hint="give numbers or arrays") from None
        self._columns = dict(zip(given, arrays, strict=True))
        self._logs: dict[str, np.ndarray] = {}
        self.ref = Reference(ref or {})

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._columns[name]
        except KeyError:
            raise InputError(f"no {name}", where="setting", hint=f"give it beside {', '.join(self) or name}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """The length of the first axis; 1 for a single point."""
        return self.shape[0] if self.shape else 1

    def __repr__(self) -> str:
        return f"Setting({', '.join(f'{name}={values.tolist()}' for name, values in self.items())})"

    @property
    def shape(self) -> tuple[int, ...]:
        return next(iter(self._columns.values())).shape if self._columns else ()

    @property
    def params_before(self) -> np.ndarray:
        return self["params_before"]

    @property
    def pruning_rate(self) -> np.ndarray:
        return self["pruning_rate"]

    @property
    def tokens(self) -> np.ndarray:
        return self["tokens"]

    @property
    def loss_before(self) -> np.ndarray:
        return self["loss_before"]

    @property
    def loss_pruned(self) -> np.ndarray:
        return self["loss_pruned"]

    def items(self) -> Iterable[tuple[str, np.ndarray]]:
        """Names and arrays."""
        return self._columns.items()

    def relative(self, name: str) -> np.ndarray:
        """A column over its reference."""
        return self[name] / self.ref[name]

    def log(self, name: str) -> np.ndarray:
        """The natural logarithm of a column over its reference; computed once."""
        if name not in self._logs:
            self._logs[name] = np.log(self.relative(name))
        return self._logs[name]

    def replace(self, **columns: Any) -> Setting:
        """The same setting with these columns new or changed; None takes one out."""
        return Setting(self.ref, **{**self._columns, **columns})

    def at(self, tokens: Any) -> Setting:
        """The same setting at these tokens."""
        return self.replace(tokens=tokens)

    def relative_to(self, ref: Mapping[str, float]) -> Setting:
        """The same setting with another reference."""
        return Setting(ref, **self._columns)

    def keep(self, mask: np.ndarray | slice) -> Setting:
        """Only the rows [n] in `mask`, or those of these indices."""
        return Setting(self.ref, **{name: values[mask] for name, values in self.items()})

    def only(self, names: Iterable[str]) -> Setting:
        """These columns, as far as they are there."""
        return Setting(self.ref, **{name: self[name] for name in names if name in self})

    def ravel(self) -> Setting:
        """All points in one row, [n]."""
        return Setting(self.ref, **{name: values.ravel() for name, values in self.items()})

    def point(self) -> dict[str, float]:
        """A single point as plain numbers. Raises `InputError` for a setting of several."""
        if any(values.size != 1 for values in self._columns.values()):
            raise InputError(f"{self.shape} values where one setting is needed", where="setting")
        return {name: float(values.flat[0]) for name, values in self.items()}

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest known value of every column; columns without one are left out."""
        known = {name: values[~np.isnan(values)] for name, values in self.items()}
        return {name: (float(values.min()), float(values.max())) for name, values in known.items() if values.size}

    def reference(self) -> Reference:
        """Geometric mean of the positive values of each column: the scale at which coefficients are of the size of the
        gap."""
        positive = {name: values[values > 0] for name, values in self.items()}
        return Reference({name: float(np.exp(np.log(v).mean())) for name, v in positive.items() if v.size})


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, each taking with it those up to 2% above it."""
    out: list[float] = []
    for value in np.unique(values):
        if not out or value > out[-1] * _SAME:
            out.append(float(value))
    return np.array(out)
