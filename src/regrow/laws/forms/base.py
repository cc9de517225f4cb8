"""What a form is: a formula for the loss with its parameters and derivatives, and everything that is known of it.

Formulas are evaluated on *scaled* inputs (divided by a reference size, tokens and rate), so that 1e9 parameters and
1e12 tokens stay well conditioned; `to_natural` turns the coefficients into natural units (parameters, tokens, nats).
A formula at reference 1 takes natural coefficients, so one function serves the fit and the prediction.

Shapes: `B` candidate parameter vectors, `p` parameters, `n` observations. numpy only, so that it imports fast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from regrow.laws.setting import BASIC, Column, Reference, Setting, distinct


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One fitted number.

    Attributes:
        lower, upper: bounds in scaled units.
        start: the range that its starting values are drawn from.
        linear: whether the loss is linear in it.
        effect_of: name of the column whose effect on the loss it says; empty if of none in particular.
        at_lower: what it means where it ends on its lower bound, in words; empty if nothing in particular.
        not_held: why a user can't hold it at a value, in words; empty if they can.
        unwritten: its value in law files from before the form had it; None where every file has it.
        shown: whether tables show it; what is the same for every law, or what one is counted from, is not.
    """

    name: str
    meaning: str
    lower: float = 0.0
    upper: float = np.inf
    start: tuple[float, float] = (0.0, 0.0)
    linear: bool = False
    effect_of: str = ""
    at_lower: str = ""
    not_held: str = ""
    unwritten: float | None = None
    shown: bool = True


@dataclass(frozen=True, kw_only=True)
class Simpler:
    """A simpler law that a form contains: these parameters are zero. `note` is what to say where it is used."""

    zero: tuple[str, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class Identified:
    """What runs of a design can't tell of a form.

    Attributes:
        held: values of the parameters that can't be fitted, by name, in scaled units.
        notes: what was held and why, in plain words.
        simpler: laws that the form contains, simplest first; a simpler one is preferred unless the data refute it.
    """

    held: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    simpler: tuple[Simpler, ...] = ()


class Form(ABC):
    """A formula for the loss after pruning and post-training, with its derivatives and what is known of it.

    To add a form, write a subclass and pass it to `regrow.laws.forms.add_form`. It is then fitted, validated, planned
    with and reported; nothing else has to know it.
    """

    name: str
    formula: str
    citation: str
    parameters: tuple[Parameter, ...]
    #: what the formula reads
    columns: tuple[Column, ...] = BASIC
    #: what it also reads, where it is known; a setting may lack these columns, or have NaN in them
    optional: tuple[Column, ...] = ()
    #: names of the columns that may be 0; of the others the formula covers values above 0 only
    covers_zero: tuple[str, ...] = ()
    #: parameters that `fit_beforehand` sets and the fit then holds
    beforehand: tuple[str, ...] = ()
    #: the formula for the report's page: a JavaScript function of the parameters `p` and the setting `s`, both objects
    #: by name, that returns `{base, loss}`: what `baseline` is here, and the loss as a function of the tokens. The page
    #: has `falling` to help (`report/templates/planner.js`). Empty: the page's planner leaves the form out.
    javascript: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the parameters that tables show."""
        return tuple(p.name for p in self.parameters if p.shown)

    @property
    def uses(self) -> tuple[str, ...]:
        """Names of the columns that the formula reads."""
        return tuple(column.name for column in self.columns)

    @property
    def diverges_at_zero(self) -> bool:
        """Whether the loss right after pruning (zero tokens) is outside the formula."""
        return "tokens" not in self.covers_zero

    def index(self, name: str) -> int:
        return self.names.index(name)

    @abstractmethod
    def value_and_jacobian(
        self, theta: np.ndarray, x: Setting, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Loss [B, n] in nats and, if asked for, its derivatives [B, p, n] for parameters `theta` [B, p]."""

    @abstractmethod
    def slope(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        """dL/d ln D, [B, n], in nats per e-fold of tokens (negative where training helps)."""

    @abstractmethod
    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        """Factors [B] that turn scaled coefficients into natural ones; what is absent is dimensionless."""

    def baseline(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        """The loss [B, n] above which pruning leaves its gap; 0 for a form that models the whole loss."""
        return np.zeros((len(theta), len(x.tokens)))

    def value(self, theta: np.ndarray, x: Setting) -> np.ndarray:
        """Loss [B, n] in nats for parameters `theta` [B, p]."""
        return self.value_and_jacobian(theta, x, jacobian=False)[0]

    def to_natural(self, theta: np.ndarray, ref: Reference) -> np.ndarray:
        """Scaled parameters [B, p] in natural units (parameters, tokens, nats)."""
        out = np.array(theta, dtype=float)
        for name, factor in self.scales(theta, ref).items():
            out[:, self.index(name)] *= factor
        return out

    def from_natural(self, theta: np.ndarray, ref: Reference) -> np.ndarray:
        """The inverse of `to_natural`; the factors depend on exponents only, which both share."""
        out = np.array(theta, dtype=float)
        for name, factor in self.scales(theta, ref).items():
            out[:, self.index(name)] /= factor
        return out

    def identify(self, x: Setting, *, where: str) -> Identified:
        """What runs with these settings can't tell, read from the design alone and never from the losses.

        Raises `InputError` for a design that can't carry the form at all.
        """
        return Identified()

    def fit_beforehand(self, x: Setting, ref: Reference) -> tuple[np.ndarray, tuple[str, ...]]:
        """Values of the parameters in `beforehand`, in scaled units, and what to say of them."""
        return np.zeros(0), ()

    def unsupported(self, x: Setting, *, ignore: tuple[str, ...] = ()) -> dict[str, str]:
        """Columns of which runs with these settings show one value, by name, and why the law supports no other.

        Args:
            ignore: columns that are not asked about.
        """
        out = {}
        for column in self.columns:
            if column.designed and column.name not in ignore:
                values = distinct(x[column.name])
                if values.size == 1:
                    out[column.name] = f"the runs have one {column.spoken}, {column.say(values[0])}"
        return out


def coefficient(name: str, meaning: str, *, at_lower: str = "") -> Parameter:
    """A parameter that the loss is linear in; not negative."""
    return Parameter(name=name, meaning=meaning, linear=True, at_lower=at_lower)


#: bounds that several forms share; gamma may take either sign (negative: more pruning, more loss)
ALPHA = Parameter(
    name="alpha",
    meaning="how fast the size term falls with the parameters",
    lower=0.01,
    upper=3,
    start=(0.05, 1.5),
    effect_of="params_before",
)
BETA = Parameter(name="beta", meaning="how fast the gap closes with tokens", lower=0.01, upper=4, start=(0.1, 1.5))
GAMMA = Parameter(
    name="gamma",
    meaning="rate exponent; negative: more pruning, more loss",
    lower=-8,
    upper=4,
    start=(-3, 0.5),
    effect_of="pruning_rate",
)
DELTA = Parameter(
    name="delta",
    meaning="how fast the whole gap shrinks with the parameters",
    lower=-2,
    upper=3,
    start=(-0.3, 0.8),
    effect_of="params_before",
)
