"""How the planned run differs from the runs of a law: its learning rate, its batch, and how it is pruned.

A law of the form `regrowth` counts tokens as its runs spent them. What is not given is as most of them had it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import InputError
from regrow.laws.files import REFERENCE_NAME
from regrow.laws.setting import BATCH_TOKENS, LEARNING_RATE, REFITTED, REFITTING
from regrow.units import format_count

if TYPE_CHECKING:
    from regrow.laws.law import Law

#: columns of a recipe: the option that gives each, what is usual, and the power by which the tokens go with it
_RECIPE = {
    "learning_rate": ("--lr", "usual_rate", "pace_rate"),
    "batch_tokens": ("--batch-tokens", "usual_batch", "pace_batch"),
}
#: the largest factor between recipes that was tried (studies/recipe-llama)
TRIED = 8.0


def recipe_columns(
    *, learning_rate: float | None = None, batch_tokens: float | None = None, scorer: str | None = None
) -> dict[str, float]:
    """The columns of a setting that say how the planned run is pruned and trained, as far as they are given.

    Args:
        learning_rate: the peak of its schedule.
        batch_tokens: tokens of one optimizer step.
        scorer: a name of `regrow.pruning.scorers`, or another tool's: then it solves no weights again.

    Raises `InputError` for a learning rate or a batch that no run has.
    """
    given = {LEARNING_RATE: learning_rate, BATCH_TOKENS: batch_tokens}
    for column, value in given.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise InputError(f"a {column.spoken} of {value:g}", hint=column.hint)
    found = {column.name: float(value) for column, value in given.items() if value is not None}
    return found if scorer is None else {**found, REFITTED.name: float(scorer in REFITTING)}


def comparable(law: Law, columns: Mapping[str, float]) -> dict[str, float]:
    """The columns of a recipe that the law can compare with that of its runs."""
    return {name: value for name, value in columns.items() if law.params.get(_RECIPE[name][1], 0.0) > 0}


def in_recipe(law: Law, columns: Mapping[str, float]) -> Law:
    """The law with its tokens counted as the planned recipe spends them: as if its runs had been trained with it.

    Raises `InputError` for a recipe that the law can't compare with that of its runs.
    """
    asked = {name: columns[name] for name in _RECIPE if name in columns}
    for name in asked:
        option, usual, _ = _RECIPE[name]
        if usual not in law.params:
            raise InputError(f"{option} with a law of the form {law.form}", hint="only regrowth reads it: leave it out")
        if not law.params[usual] > 0:
            hint = f"leave {option} out, or give the runs a column {name} and fit again"
            raise InputError(f"the law's runs do not say their {name.replace('_', ' ')}", hint=hint)
    if not asked:
        return law

    def moved(rows: np.ndarray) -> np.ndarray:
        rows, times = rows.copy(), _times(law, asked, rows)
        for name in ("pace", "drift_tokens"):
            rows[:, names.index(name)] *= times
        for name, value in asked.items():
            rows[:, names.index(_RECIPE[name][1])] = value
        return rows

    names = list(law.params)
    times = float(_times(law, asked, law.theta[None, :])[0])
    low, high = law.ranges["tokens"]
    first = float(law.diagnostics.get("first_reading") or low)
    return replace(
        law,
        params=dict(zip(names, moved(law.theta[None, :])[0].tolist(), strict=True)),
        draws=moved(law.draws),
        sizes={size: moved(rows) for size, rows in law.sizes.items()},
        ranges={**law.ranges, "tokens": (low * times, high * times)},
        diagnostics={**law.diagnostics, "first_reading": first * times, "recipe_times": times},
    )


def _times(law: Law, asked: Mapping[str, float], rows: np.ndarray) -> np.ndarray:
    """How many times the tokens of the law's runs the recipe takes, by each row of parameters [B]."""
    names = list(law.params)
    logs = np.zeros(len(rows))
    for name, value in asked.items():
        _, usual, power = _RECIPE[name]
        logs += rows[:, names.index(power)] * np.log(value / law.params[usual])
    return np.exp(logs)


def about_recipe(law: Law, columns: Mapping[str, float], level: float) -> list[str]:
    """What is to be said of the planned run's recipe beside that of the runs of this law, as it was fitted."""
    if "usual_rate" not in law.params:
        return []
    usual = {name: law.params[parameter] for name, (_, parameter, _) in _RECIPE.items()}
    theirs = _named(usual)
    asked = {name: columns[name] for name in _RECIPE if name in columns and usual[name] > 0}
    if not asked:
        wanted = law.family == REFERENCE_NAME and theirs
        return [f"the recipe counts: tokens are as of {theirs}; give --lr and --batch-tokens"] if wanted else []
    far = max(max(value / usual[name], usual[name] / value) for name, value in asked.items())
    if far == 1:
        return []
    low, high = np.quantile(_times(law, asked, law.draws), [(1 - level) / 2, (1 + level) / 2])
    times = float(_times(law, asked, law.theta[None, :])[0])
    least, most = format_count(float(low)), format_count(float(high))
    note = f"the recipe takes {format_count(times)} times ({least} to {most}) the tokens of the runs' ({theirs})"
    return [note + (f"; none more than {TRIED:g} times apart was tried" if far > TRIED else "")]


def _named(recipe: Mapping[str, float]) -> str:
    """A learning rate and a batch in words, as far as they are known."""
    rate, batch = (recipe[name] for name in _RECIPE)
    parts = [f"a learning rate of {rate:.2g}"] if rate > 0 else []
    return " and ".join([*parts, *([f"{format_count(batch)} tokens a batch"] if batch > 0 else [])])
