"""A law at one setting, as curves of loss against tokens: the point estimate and every bootstrap draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.setting import Setting


class Curves:
    """Losses of a law at one setting, whose tokens are not read.

    Row 0 is the fitted law; the rows after it are its draws (if `draws`).
    """

    def __init__(self, law: Law, setting: Setting, *, draws: bool = True) -> None:
        self.law = law
        self.setting = setting
        self._draws = draws and len(law.draws) > 0

    def point(self) -> Curves:
        """The fitted law alone."""
        return Curves(self.law, self.setting, draws=False)

    def loss(self, tokens: np.ndarray) -> np.ndarray:
        """Losses [1 + draws, n] in nats/token at tokens [n]. A draw that cannot be evaluated is NaN there."""
        at = self.setting.at(np.atleast_1d(np.asarray(tokens, dtype=float)))
        with np.errstate(all="ignore"):
            point = self.law.loss(at)[None, :]
            if not self._draws:
                return point
            return np.vstack([point, self.law.loss_draws(at)])

    def floor(self) -> np.ndarray:
        """Losses [1 + draws, 1] that the curves approach as tokens grow without bound."""
        return self.loss(np.array([np.inf]))
