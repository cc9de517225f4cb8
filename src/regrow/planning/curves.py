"""A law at one setting, as curves of loss against tokens: the point estimate and every bootstrap draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from regrow.laws.law import Law


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a law is read: parameters before pruning, pruning rate, loss of the unpruned model (nats/token)."""

    params_before: float
    pruning_rate: float
    loss_before: float


class Curves:
    """Losses of a law at one setting. Row 0 is the fitted law; the rows after it are its draws (if `draws`)."""

    def __init__(self, law: Law, setting: Setting, *, draws: bool = True) -> None:
        self.law = law
        self.setting = setting
        self._draws = draws and len(law.draws) > 0

    def point(self) -> Curves:
        """The fitted law alone."""
        return Curves(self.law, self.setting, draws=False)

    def loss(self, tokens: np.ndarray) -> np.ndarray:
        """Losses [1 + draws, n] in nats/token at tokens [n]. A draw that cannot be evaluated is NaN there."""
        inputs = {
            "params_before": self.setting.params_before,
            "pruning_rate": self.setting.pruning_rate,
            "tokens": np.asarray(tokens, dtype=float),
            "loss_before": self.setting.loss_before,
        }
        with np.errstate(all="ignore"):
            point = np.atleast_1d(np.asarray(self.law.loss(**inputs), dtype=float))[None, :]
            if not self._draws:
                return point
            drawn = np.asarray(self.law.loss_draws(**inputs), dtype=float)
            return np.vstack([point, drawn.reshape(len(drawn), -1)])

    def floor(self) -> np.ndarray:
        """Losses [1 + draws, 1] that the curves approach as tokens grow without bound."""
        return self.loss(np.array([np.inf]))
