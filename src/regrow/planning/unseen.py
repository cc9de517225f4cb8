"""What has to be said, and known, of a method that none of the law's runs was pruned by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import InputError
from regrow.laws.pooled.unseen import METHODS, without_spread
from regrow.methods import ANY

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.laws.setting import Setting

#: A share by which the interval gets wider that shows above the noise of the draws.
_LEAST_SHOWN = 0.02


def check_start(law: Law, setting: Setting) -> None:
    """Raise `InputError` for a method without runs whose loss right after pruning is not given.

    That loss carries most of what a method does; without runs nothing else tells it.
    """
    if METHODS in law.diagnostics and "loss_pruned" not in setting:
        option, what = ("--loss-pruned", "loss") if law.benchmark is None else ("--score-pruned", "score")
        raise InputError(
            f"{no_runs(law)}, and the {what} right after pruning is not given",
            where=f"{law.family}, {law.method}",
            hint=f"measure it: prune the model, read its {what} with `regrow eval`, and give it as {option}",
        )


def about_method(
    law: Law, setting: Setting | None = None, tokens: float | None = None, level: float = 0.9
) -> list[str]:
    """What to say of a method without runs, and how much its spread widens the interval of the loss at `tokens`.

    Empty for a method that has runs.
    """
    if METHODS not in law.diagnostics:
        return []
    *others, last = law.diagnostics[METHODS]
    over = f"{', '.join(others)} and {last}" if others else f"{last} alone"
    note = f"{no_runs(law)}: this is the law over {over}"
    if setting is None or tokens is None or not len(law.draws):
        return [note]
    x = setting.at(tokens)
    wide, narrow = (float(np.subtract(*one.interval(x, level=level)[::-1])) for one in (law, without_spread(law)))
    more = wide / narrow - 1
    by = f"by {more:.0%}" if more >= _LEAST_SHOWN else f"by less than {_LEAST_SHOWN:.0%}"
    return [f"{note}; how methods differ widens the interval of the {'score' if law.benchmark else 'loss'} {by}"]


def no_runs(law: Law) -> str:
    """That a law's method has no runs, in a few words."""
    return "the method is not named" if law.method == ANY else f"no run was pruned by {law.method}"
