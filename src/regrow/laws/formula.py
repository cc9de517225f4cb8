"""What a form is: a formula for the loss with its parameters, their bounds, and its derivatives.

Formulas are evaluated on *scaled* inputs (divided by a reference size, tokens and rate), so that 1e9 parameters and
1e12 tokens stay well conditioned; `to_natural` turns the coefficients into natural units (parameters, tokens, nats).
A formula at reference 1 takes natural coefficients, so one function serves the fit and the prediction.

Shapes: `B` candidate parameter vectors, `p` parameters, `n` observations. numpy only, so that it imports fast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the inputs are divided by; 1 for a formula in natural units."""

    params: float = 1.0
    tokens: float = 1.0
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Observed inputs, each of shape [n]: parameters before pruning, rate, tokens, loss before pruning (nats)."""

    params_before: np.ndarray
    rate: np.ndarray
    tokens: np.ndarray
    loss_before: np.ndarray
    ref: Reference = Reference()

    @property
    def log_size(self) -> np.ndarray:
        return np.log(self.params_before / self.ref.params)

    @property
    def log_size_after(self) -> np.ndarray:
        return np.log(self.params_before * (1 - self.rate) / self.ref.params)

    @property
    def log_rate(self) -> np.ndarray:
        return np.log(self.rate / self.ref.rate)

    @property
    def log_tokens(self) -> np.ndarray:
        return np.log(self.tokens / self.ref.tokens)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One fitted number: bounds in scaled units, the range its starts are drawn from, whether the loss is linear
    in it, and what it means."""

    name: str
    meaning: str
    lower: float = 0.0
    upper: float = np.inf
    start: tuple[float, float] = (0.0, 0.0)
    linear: bool = False


class Form(ABC):
    """A formula for the loss after pruning and post-training, with its derivatives."""

    name: str
    formula: str
    citation: str
    parameters: tuple[Parameter, ...]
    #: which inputs the formula reads
    uses: tuple[str, ...] = ("params_before", "pruning_rate", "tokens", "loss_before")
    #: whether the loss right after pruning (zero tokens) is outside the formula
    diverges_at_zero: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    def index(self, name: str) -> int:
        return self.names.index(name)

    @abstractmethod
    def value_and_jacobian(
        self, theta: np.ndarray, x: Inputs, *, jacobian: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Loss [B, n] in nats and, if asked for, its derivatives [B, p, n] for parameters `theta` [B, p]."""

    @abstractmethod
    def slope(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        """dL/d ln D, [B, n], in nats per e-fold of tokens (negative where training helps)."""

    @abstractmethod
    def scales(self, theta: np.ndarray, ref: Reference) -> dict[str, np.ndarray]:
        """Factors [B] that turn scaled coefficients into natural ones; what is absent is dimensionless."""

    def baseline(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
        """The loss [B, n] above which pruning leaves its gap; 0 for a form that models the whole loss."""
        return np.zeros((len(theta), len(x.tokens)))

    def value(self, theta: np.ndarray, x: Inputs) -> np.ndarray:
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
